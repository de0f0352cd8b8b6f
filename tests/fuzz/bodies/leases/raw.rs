//! A buffer ring alone, against queues: what is written and not flushed is not seen, and what is
//! seen is what was written (BR1, BR2).
//!
//! ```text
//!   push ─► written ── flush ──► visible ── selected ──► taken
//! ```
//!
//! The safe API flushes after each push, so only here does the kernel look between the two. The
//! 16-bit tail wraps on the way.
#![allow(unsafe_code, reason = "offers buffers that do not exist")]

use std::collections::VecDeque;

use crate::bodies::chance::Chance;
use crate::support::fake_buffers::BufferArena;

/// The most steps of a history.
const STEPS: u32 = 300;

/// The address and the length of a buffer, of which no byte is 0.
fn buffer(bid: u16) -> (u64, u32) {
    (0x0101_0101_0101_0101 | u64::from(bid) << 32, 0x0101_0101 | u32::from(bid) << 8)
}

/// One history.
pub fn run(mut chance: Chance) {
    let entries = chance.among(&[1, 2, 4, 8]);
    let start = u16::MAX - u16::try_from(chance.below(8)).expect("small");
    BufferArena::new(entries).run(start, |ring, kernel| {
        let (mut written, mut visible) = (VecDeque::new(), VecDeque::new());
        let (mut selected, mut next) = (0_u32, 0_u16);
        for _ in 0..STEPS {
            if chance.is_used_up() {
                break;
            }
            let offered = written.len() + visible.len() + selected as usize;
            match chance.below(5) {
                0 => {
                    let (addr, len) = buffer(next);
                    // SAFETY: the kernel is a fake, which never looks into the buffer.
                    let pushed = unsafe { ring.push(addr, len, next) };
                    assert_eq!(pushed.is_ok(), offered < entries as usize, "BR1: room");
                    if pushed.is_ok() {
                        written.push_back(next);
                        next = next.wrapping_add(1);
                    }
                }
                1 => {
                    ring.flush();
                    visible.append(&mut written);
                }
                2 => {
                    let buf = kernel.select();
                    let bid = visible.pop_front();
                    let found = buf.map(|buf| (buf.bid, (buf.addr, buf.len)));
                    assert_eq!(found, bid.map(|bid| (bid, buffer(bid))), "BR2: what is selected");
                    selected += u32::from(bid.is_some());
                }
                3 => {
                    // SAFETY: the kernel selected so many and gave them to nothing else (BR1).
                    unsafe { ring.taken(selected) };
                    selected = 0;
                }
                _ => {
                    let count = chance.below(u32::try_from(written.len()).expect("few") + 1);
                    // SAFETY: not flushed, so the kernel has selected none of them.
                    unsafe { ring.rewind(count) };
                    written.truncate(written.len() - count as usize);
                    visible.append(&mut written); // It flushes, too.
                }
            }
            let offered = written.len() + visible.len() + selected as usize;
            assert_eq!(ring.offered() as usize, offered, "BR1: offered");
            assert_eq!(usize::from(kernel.visible()), visible.len(), "BR2: what the kernel sees");
        }
    });
}
