//! BR2: the kernel reads in an entry of a buffer ring what we wrote there. BR1, counting half: a
//! slot is written again only when a completion has returned its buffer.

use annulus_sys::abi::{Buf, Cqe};
use annulus_sys::buf_ring::BufferRing;
use loom::thread;

use crate::model::{check, completion, until};
use crate::support::fake_kernel::{FakeBufferKernel, FakeKernel, Shape};

/// The `bid`th buffer: no field is what another has there.
fn buffer(bid: u16) -> Buf {
    Buf { addr: 0x1000 + u64::from(bid), len: 10 + u32::from(bid), bid, resv: 0 }
}

fn offer(ring: &mut BufferRing, bid: u16) {
    let Buf { addr, len, bid, .. } = buffer(bid);
    // SAFETY: nothing follows the address, since the kernel here is a test; ids are used once
    // (BR1).
    unsafe { ring.push(addr, len, bid) }.expect("room");
}

#[test]
fn br2_the_kernel_sees_what_was_written_before_the_flush() {
    check("2 buffers", || {
        let (mut ring, mut kernel) = FakeBufferKernel::new(2, u16::MAX);
        let peer = thread::spawn(move || {
            for bid in 0..2 {
                assert_eq!(until(|| kernel.select()), buffer(bid));
            }
        });
        for bid in 0..2 {
            offer(&mut ring, bid);
            ring.flush();
        }
        peer.join().expect("the kernel's thread");
    });
}

#[test]
fn br2_the_kernel_sees_all_of_a_batch_or_nothing() {
    check("2 buffers at once", || {
        let (mut ring, mut kernel) = FakeBufferKernel::new(2, u16::MAX);
        let peer = thread::spawn(move || {
            let visible = until(|| Some(kernel.visible()).filter(|&visible| visible != 0));
            assert_eq!(visible, 2, "a batch was cut");
            assert_eq!([0, 1].map(|_| kernel.select()), [0, 1].map(|bid| Some(buffer(bid))));
        });
        offer(&mut ring, 0);
        offer(&mut ring, 1);
        ring.flush();
        peer.join().expect("the kernel's thread");
    });
}

#[test]
fn br1_a_slot_is_reused_after_the_completion_of_its_buffer() {
    check("3 buffers through 1 slot", || {
        let (mut ring, mut picker) = FakeBufferKernel::new(1, u16::MAX);
        let (_sq, mut cq, mut kernel) = FakeKernel::new(Shape::plain(2));
        let peer = thread::spawn(move || {
            for bid in 0..3 {
                assert_eq!(until(|| picker.select()), buffer(bid));
                until(|| kernel.post(completion(u64::from(bid))).then_some(()));
            }
        });
        for bid in 0..3 {
            offer(&mut ring, bid);
            ring.flush();
            let Cqe { user_data, .. } = until(|| cq.pop());
            assert_eq!(user_data, 100 + u64::from(bid));
            // SAFETY: the completion has just returned the only buffer, once (BR1).
            unsafe { ring.taken(1) };
        }
        peer.join().expect("the kernel's thread");
    });
}
