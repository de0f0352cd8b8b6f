//! Futexes: random programs on both kernels, in which requests wait at words and wake each other.

use std::sync::atomic::{AtomicU32, Ordering};

use annulus::prep;
use annulus::sys::abi::{FutexWaitv, Sqe};
use annulus::sys::flags::{CancelFlags, SqeFlags};
use annulus::sys::flags_futex::FutexFlags;
use annulus::sys::opcode::Opcode;

use super::chance::Chance;
use super::scene::{Scene, at, seeded, with_faults};

const WORDS: usize = 3;

/// A program's words, and the lists that entries point to.
struct Words {
    words: Box<[AtomicU32; WORDS]>,
    lists: Vec<Vec<FutexWaitv>>,
}

impl Words {
    fn word(&self, chance: &mut Chance) -> u64 {
        match chance.below(30) {
            0 => at(&self.words[0]) + 1,
            // Nothing is mapped there.
            1 => 4096,
            _ => at(&self.words[chance.below(3) as usize]),
        }
    }

    fn flags(chance: &mut Chance) -> FutexFlags {
        let shared = FutexFlags::SIZE_U32;
        match chance.below(20) {
            0 => FutexFlags::empty(),
            1 => FutexFlags::from_bits_retain(shared.bits() | 1 << 10),
            2..=5 => shared | FutexFlags::PRIVATE,
            _ => shared,
        }
    }

    fn list(&mut self, chance: &mut Chance) -> Sqe {
        let count = chance.below(4);
        let one = |_| FutexWaitv {
            val: if chance.one_in(9) { 1 } else { 0 },
            uaddr: self.word(chance),
            flags: Self::flags(chance).bits(),
            reserved: u32::from(chance.one_in(30)),
        };
        let list: Vec<FutexWaitv> = (0..count).map(one).collect();
        let address = list.as_ptr().expose_provenance() as u64;
        self.lists.push(list);
        prep::futex_waitv(address, count)
    }

    fn entry(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Sqe {
        let mask = chance.among(&[u64::from(u32::MAX), u64::from(u32::MAX), 1, 2, 3, 0, 1 << 40]);
        let flags = Self::flags(chance);
        match chance.below(9) {
            0..=2 => {
                let value = chance.among(&[0, 0, 0, 1, 1 << 33]);
                prep::futex_wait(self.word(chance), value, mask, flags)
            }
            3 | 4 => self.list(chance),
            5..=7 => {
                let count = chance.among(&[0, 1, 1, 2, 9, u64::from(u32::MAX), 1 << 33]);
                prep::futex_wake(self.word(chance), count, mask, flags)
            }
            _ => {
                let any = chance.below(u32::try_from(it.next).expect("few") + 1);
                match chance.below(4) {
                    0 => Sqe {
                        len: Opcode::FUTEX_WAIT.0.into(),
                        ..prep::cancel(any.into(), CancelFlags::OP | CancelFlags::ALL)
                    },
                    _ => prep::cancel(any.into(), CancelFlags::empty()),
                }
            }
        }
    }
}

fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let mut words = Words { words: Default::default(), lists: vec![] };
    for _ in 0..chance.below(25) {
        if chance.one_in(6) {
            let which = chance.below(3) as usize;
            words.words[which].store(chance.below(2), Ordering::Release);
            continue;
        }
        let sqe = words.entry(it, chance);
        let is_odd = chance.one_in(30);
        it.push(Sqe { file_index: u32::from(is_odd), ..sqe });
        if chance.one_in(3) && sqe.opcode != Opcode::ASYNC_CANCEL {
            // What follows begins when the wait is over.
            let more = chance.among(&[SqeFlags::IO_LINK, SqeFlags::IO_HARDLINK]);
            let sqe = words.entry(it, chance);
            it.push(Sqe { flags: more, ..sqe });
            it.push(prep::nop());
        }
        it.rest(|_| false);
    }
    for _ in 0..3 {
        it.push(prep::cancel(0, CancelFlags::ANY | CancelFlags::ALL));
        it.rest(|_| false);
    }
    // If a kernel did not end everything, it must not find other memory here (RG1).
    std::mem::forget(words);
}

#[test]
fn random_programs_with_futexes_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("futexes", 600, program);
}

#[test]
fn op1_holds_for_random_programs_with_futexes_and_faults() {
    with_faults(300, program);
}
