//! Address families: which ones name descriptors of the process, or may do so.
//!
//! ```text
//!   AF_XDP     │ 44 │ .. │ fd │         bind: the socket whose memory this one shares
//!   AF_PPPOX   │ any │ 1 │ pid │ fd │ .. connect: the socket of an L2TP tunnel
//! ```
//!
//! The kernel takes such a number as a descriptor of this process, and uses that file. Safe code
//! must not turn a number into a descriptor. So safe code can make addresses only of those families
//! whose addresses are known to be names, or numbers of another kind; and the kernel's answers are
//! shown only for those families too. `AF_PPPOX` does not look at the family (up to Linux 7.3), but
//! at the protocol after it and at the length. So bytes that `AF_PPPOX` would accept are refused in
//! every family.
//!
//! Keeps OP3: only its owner uses a descriptor. Leaves to others: everything else in an address
//! (`address`).
#![allow(unsafe_code, reason = "its tests make addresses of any bytes")]

/// Whether the kernel takes no number in `sockaddr` as a descriptor, whatever kind of socket it is
/// used with.
pub(super) fn names_no_descriptor(sockaddr: &[u8]) -> bool {
    let family = sockaddr.split_first_chunk().map(|(family, _)| u16::from_ne_bytes(*family));
    family.is_some_and(|family| KNOWN.contains(&family)) && !is_of_a_tunnel(sockaddr)
}

/// The families, as of Linux 7.3, whose addresses are names, or numbers that are not descriptors:
/// `AF_UNSPEC`, `UNIX`, `INET`, `AX25`, `APPLETALK`, `NETROM`, `X25`, `INET6`, `ROSE`, `NETLINK`,
/// `PACKET`, `RDS`, `LLC`, `CAN`, `TIPC`, `BLUETOOTH`, `IUCV`, `RXRPC`, `PHONET`, `IEEE802154`,
/// `CAIF`, `ALG`, `NFC`, `VSOCK`, `QIPCRTR`, `MCTP`.
const KNOWN: [u16; 26] = [
    0, 1, 2, 3, 5, 6, 9, 10, 11, 16, 17, 21, 26, 29, 30, 31, 32, 33, 35, 36, 37, 38, 39, 40, 42, 45,
];

/// Whether `AF_PPPOX` would take this as the address of an L2TP tunnel's socket: it has one of the
/// four lengths of such an address, and the protocol `PX_PROTO_OL2TP` after the family, whatever
/// the family is.
fn is_of_a_tunnel(sockaddr: &[u8]) -> bool {
    let protocol = sockaddr.get(2..6) == Some(&1_u32.to_ne_bytes()[..]);
    matches!(sockaddr.len(), 38 | 46 | 50 | 58) && protocol
}

#[cfg(test)]
mod tests {
    use super::super::{Address, MAX_ADDRESS, Storage};
    use super::*;

    const UNIX: u16 = 1;
    const INET: u16 = 2;
    const INET6: u16 = 10;

    /// A socket address of `family` and `len` bytes, filled with ones after the family.
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
            let mut told: Storage<MAX_ADDRESS> = Storage::of(&[&bytes]);
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
