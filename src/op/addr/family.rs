//! Families of addresses: which name descriptors of the process, or may.
//!
//! ```text
//!   AF_XDP     │ 44 │ .. │ fd │         the socket whose memory this one shares, by bind
//!   AF_PPPOX   │ any │ 1 │ pid │ fd │ .. the socket of an L2TP tunnel, by connect
//! ```
//!
//! The kernel takes such a number for a descriptor of this process, and uses that file. Safe code
//! makes no descriptor of a number: so it makes addresses of those families only of which we know
//! that they are names, and numbers of other kinds; and is told no others. `AF_PPPOX` does not look
//! at the family (up to Linux 7.3), but at the protocol behind it and at the length; so what it
//! would take is none of any family.
//!
//! Keeps OP3: nobody but its owner uses a descriptor. Leaves to others: everything else in an
//! address (`addr`).
#![allow(unsafe_code, reason = "its tests make addresses of any bytes")]

/// Whether the kernel takes no number in `sockaddr` for a descriptor, whatever the socket is.
pub(super) fn names_no_descriptor(sockaddr: &[u8]) -> bool {
    let family = sockaddr.split_first_chunk().map(|(family, _)| u16::from_ne_bytes(*family));
    family.is_some_and(|family| KNOWN.contains(&family)) && !is_of_a_tunnel(sockaddr)
}

/// The families of Linux 7.3 whose addresses are names, and numbers that are no descriptors:
/// `AF_UNSPEC`, `UNIX`, `INET`, `AX25`, `APPLETALK`, `NETROM`, `X25`, `INET6`, `ROSE`, `NETLINK`,
/// `PACKET`, `RDS`, `LLC`, `CAN`, `TIPC`, `BLUETOOTH`, `IUCV`, `RXRPC`, `PHONET`, `IEEE802154`,
/// `CAIF`, `ALG`, `NFC`, `VSOCK`, `QIPCRTR`, `MCTP`.
const KNOWN: [u16; 26] = [
    0, 1, 2, 3, 5, 6, 9, 10, 11, 16, 17, 21, 26, 29, 30, 31, 32, 33, 35, 36, 37, 38, 39, 40, 42, 45,
];

/// Whether `AF_PPPOX` takes it for one that names the socket of an L2TP tunnel: it has the length
/// of one of the four, and the protocol `PX_PROTO_OL2TP` behind the family, whatever that is.
fn is_of_a_tunnel(sockaddr: &[u8]) -> bool {
    let protocol = sockaddr.get(2..6) == Some(&1_u32.to_ne_bytes()[..]);
    matches!(sockaddr.len(), 38 | 46 | 50 | 58) && protocol
}

#[cfg(test)]
mod tests {
    use super::super::{Address, MOST, Storage};
    use super::*;

    const UNIX: u16 = 1;
    const INET: u16 = 2;
    const INET6: u16 = 10;

    /// The bytes that a socket address of `family` and `len` bytes has, all ones behind it.
    fn of_family(family: u16, len: usize) -> Vec<u8> {
        let ones = vec![1; len - 2];
        [family.to_ne_bytes().as_slice(), &ones].concat()
    }

    #[test]
    fn op3_a_family_whose_addresses_name_descriptors_takes_more_than_bytes() {
        for family in [libc::AF_PPPOX, 44, 46, 0x7fff] {
            let family = u16::try_from(family).expect("a family");
            let bytes = of_family(family, 16);
            assert!(Address::from_bytes(&bytes).is_none(), "{family}");
            // SAFETY: it names a descriptor that is never used, because no call has it.
            let address = unsafe { Address::from_raw(&bytes) }.expect("within 128 bytes");
            assert_eq!(address.as_bytes(), bytes);
            let mut told: Storage<MOST> = Storage::of(&[&bytes]);
            assert_eq!(told.address(), None, "nor is it told: {family}");
            told.set_len(2);
            assert_eq!(told.address(), None);
        }
        assert!(KNOWN.iter().all(|&family| Address::from_bytes(&of_family(family, 16)).is_some()));
        // SAFETY: it names nothing, because there are no bytes, or too many.
        let wrong = |len| unsafe { Address::from_raw(&[0; 129][..len]) }.is_some();
        assert_eq!([0, 1, 128, 129].map(wrong), [false, true, true, false]);
    }

    #[test]
    fn op3_what_a_tunnel_would_take_is_an_address_of_no_family() {
        for (len, family) in [(38, UNIX), (46, INET), (50, INET6), (58, 0)] {
            let rest = vec![7; len - 6];
            let of = |protocol: u32| {
                let head = [family.to_ne_bytes().as_slice(), &protocol.to_ne_bytes()].concat();
                Address::from_bytes(&[head.as_slice(), &rest].concat())
            };
            assert_eq!((of(1).is_none(), of(2).is_some(), of(0).is_some()), (true, true, true));
        }
        assert!(Address::from_bytes(&of_family(UNIX, 39)).is_some());
    }
}
