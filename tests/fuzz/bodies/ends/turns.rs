//! A ring that ends while the kernel takes few cancels at a time, and none succeeds at first: each
//! operation has its turn.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::op::Nop;
use annulus::{Ring, Setup};
use annulus_sys::abi::Cqe;
use annulus_sys::errno::Errno;

use crate::bodies::chance::Chance;
use crate::support::backend::{Enter, ScriptedKernel};

/// The cancels of each, before all end.
const EACH: usize = 3;

/// One ring.
pub fn run(chance: &mut Chance) {
    let count = chance.below(6) as usize + 2;
    let (kernel, script) = ScriptedKernel::new();
    let setup = Setup::plain(1 << chance.below(2)).cq_entries(8).kernel(kernel);
    let mut ring: Ring = setup.build().expect("a ring");
    script.keep_time();
    for _ in 0..count {
        drop(ring.submit(Nop).expect("room"));
        script.enters(Enter::Consume(1));
        ring.submit_all().expect("submit");
    }
    let operations: Vec<u64> = script.consumed().iter().map(|sqe| sqe.user_data).collect();
    let times = Arc::new(Mutex::new(vec![0_usize; count]));
    for _ in 0..400 {
        let (times, operations) = (Arc::clone(&times), operations.clone());
        let most = chance.below(3) + 1;
        // Takes so many, and answers that each came too late. In the end all complete.
        script.enters(Enter::Run(Box::new(move |kernel, to_submit| {
            if to_submit == 0 {
                return Err(Errno::new(libc::ETIME));
            }
            let mut times = times.lock().expect("no panic");
            let mut taken = 0;
            while taken < most.min(to_submit)
                && let Some(sqe) = kernel.consume()
            {
                taken += 1;
                let at = operations.iter().position(|&operation| operation == sqe.addr);
                times[at.expect("a cancel of one of them")] += 1;
                let cqe = Cqe { user_data: sqe.user_data, res: -libc::EALREADY, ..Cqe::ZERO };
                assert!(kernel.post(cqe));
            }
            if times.iter().sum::<usize>() >= EACH * times.len() {
                for &user_data in &operations {
                    let _ = kernel.post(Cqe { user_data, ..Cqe::ZERO });
                }
            }
            Ok(taken)
        })));
        script.enters(Enter::Fail(libc::EAGAIN));
    }
    let _ = ring.shutdown(Duration::from_secs(5));
    let times = times.lock().expect("no panic");
    let (least, most) = (times.iter().min(), times.iter().max());
    let (least, most) = (least.expect("two at least"), most.expect("two at least"));
    assert!(most - least <= 2, "some are left out: {times:?}");
}
