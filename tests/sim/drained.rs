//! What the kernel holds back behind a drained entry, since a worker thread has not let go of what
//! it ran (Linux 6.16): nothing of it is left behind, however the ring ends.

use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Nop, Op as _, Read};
use annulus::sim::{Faults, Sim};
use annulus::{Ring, Setup};

#[test]
fn what_is_held_back_ends_with_the_ring() {
    let faults = Faults { lingers: 700, ..Faults::NONE };
    for seed in 0..300 {
        let sim = Sim::with_faults(seed, faults);
        let mut ring: Ring = Setup::plain(8).kernel(sim.kernel()).build().expect("a ring");
        let (reader, writer) = sim.pipe().expect("descriptors");
        let reader = Rc::new(reader);
        for _ in 0..3 {
            let read = ring.submit(Read::new(Rc::clone(&reader), [0; 8])).expect("room");
            let nop = ring.submit(Nop.drained()).expect("room");
            ring.detach(read);
            ring.detach(nop);
        }
        ring.submit_all().expect("no fault");
        sim.write(&writer, b"enough for one and a half").expect("room");
        ring.reap(|_| {}).expect("no fault");
        assert_eq!(ring.shutdown(Duration::from_secs(10)), Ok(()), "{seed}\n{}", sim.report());
    }
}
