//! Chains that close their descriptor: when it is closed, who owns it until then, and that its
//! number is of no use to anyone else.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Write as _, pipe};
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus::op::{
    ChainFd, Close, Fsync, Nop, PollEvents, PollMulti, Read, SetOption, SocketOption, Splice, Write,
};
use annulus::sys::flags::SetupFlags;
use annulus::{ChainEnd, Rejection, Ring, Setup, Step as _, StepExt as _};
use libtest_mimic::{Failed, Trial};

use super::names::hung_up;
use super::{Folder, READ, errno, run, small};
use crate::harness::{Need, hangs_up, safe_ring, test};

const SQPOLL: Need = Need::Setup(SetupFlags::SQPOLL);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_chain_writes_syncs_and_closes", &[READ], complete),
        test("a_chain_that_breaks_gives_its_descriptor_back", &[READ], broken),
        test("after_a_hard_step_a_chain_closes_in_any_case", &[READ], hard),
        test("a_chain_of_any_shape_closes_its_descriptor", &[READ], shapes),
        test("a_chain_that_is_not_submitted_comes_back_whole", &[READ], rejected),
        test("a_chain_that_panics_closes_its_descriptor", &[READ], panicked),
        test("op1_a_number_is_of_no_use_outside_its_chain", &[READ], nowhere_else),
        test("op1_a_number_is_of_no_use_to_code_of_the_caller_meanwhile", &[READ], meanwhile),
        test("a_chain_that_breaks_gives_a_device_back", &[READ], device_back),
        test("what_looks_at_its_file_again_is_no_step_of_it", &[READ], looks_again),
        test("op1_a_polling_thread_that_rings_share_closes_nothing_early", &[READ, SQPOLL], shared),
        test("op1_no_chain_reads_the_file_of_another", &[READ], random_chains),
    ]
}

fn complete() -> Result<(), Failed> {
    let (folder, mut ring) = (Folder::new(), small());
    let file = folder.file("log", b"");
    let number = file.as_raw_fd();
    let chain =
        Close::after(file, |file| (Write::new(file.clone(), "a record").at(0), Fsync::new(file)));
    let chain = ring.submit_chain(chain).map_err(|rejected| rejected.why)?;
    let before = ring.raw().stats().enters;
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    assert!(ring.raw().stats().enters - before <= 2, "one by one");
    assert_eq!(chain.end, ChainEnd::Complete);
    let ((write, sync), close) = chain.outputs;
    assert_eq!(write.result?, 8);
    sync.result?;
    close.result?;
    assert!(close.fd.is_none());
    assert_eq!(fs::read(folder.path("log"))?, b"a record");
    // Nothing, or a file that another thread has opened since.
    let link = fs::read_link(format!("/proc/self/fd/{number}"));
    assert_ne!(link.ok(), Some(folder.path("log")), "it is open");
    Ok(())
}

fn broken() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let (ended, _) = pipe()?;
    let read = Read::new(ended, [0; 8]); // 0 bytes, so it breaks the chain.
    let chain = Close::after(writer, |writer| (Write::new(writer, "x"), read));
    let chain = ring.submit_chain(chain).map_err(|rejected| rejected.why)?;
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 1 });
    let ((write, read), close) = chain.outputs;
    assert_eq!((write.result?, read.result?), (1, 0));
    assert_eq!(errno(&close), Some(libc::ECANCELED));
    let writer = close.fd.expect("it is open");
    assert!(!hung_up(&reader));
    run(&mut ring, Close::new(writer)).result?;
    assert!(hangs_up(&reader));
    Ok(())
}

fn hard() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let empty = folder.file("empty", b"");
    let number = empty.as_raw_fd();
    let chain = Close::after(empty, |empty| [Read::new(empty, [0; 8]).at(0).hard()]);
    let chain = ring.submit_chain(chain).map_err(|rejected| rejected.why)?;
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    let ([read], close) = chain.outputs;
    assert_eq!(read.result?, 0);
    close.result?;
    assert!(close.fd.is_none());
    let link = fs::read_link(format!("/proc/self/fd/{number}"));
    assert_ne!(link.ok(), Some(folder.path("empty")), "it is open");
    Ok(())
}

fn shapes() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8));
    let minute = std::time::Duration::from_secs(60);
    let (reader, writer) = pipe()?;
    let list = Close::after(writer, |writer| {
        ["a", "b"].map(|text| Write::new(writer.clone(), text)).into_iter().collect::<Vec<_>>()
    });
    let chain = ring.submit_chain(list).map_err(|rejected| rejected.why)?;
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    assert_eq!((chain.end, chain.outputs.0.len()), (ChainEnd::Complete, 2));
    assert!(hangs_up(&reader));

    // Two descriptors: what was read from the one pipe goes to the other, and both are closed.
    let (onward, out) = pipe()?;
    let both = Close::after(reader, |from| {
        Close::after(out, |to| (Splice::new(from, to, 2).within(minute),))
    });
    let chain = ring.submit_chain(both).map_err(|rejected| rejected.why)?;
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    let (((splice,), out), reader) = chain.outputs;
    assert_eq!((chain.end, splice.output.result?), (ChainEnd::Complete, 2));
    assert!(out.fd.is_none() && reader.fd.is_none() && hangs_up(&onward));

    let mut buf = [0; 2];
    ring.scope(|scope| {
        let chain = Close::after(onward, |onward| (Read::new(onward, &mut buf[..]), Nop));
        let chain = scope.submit_chain(chain).map_err(|rejected| rejected.why)?;
        let chain = scope.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
        assert_eq!(chain.end, ChainEnd::Complete);
        Ok::<_, Failed>(())
    })?;
    assert_eq!(&buf, b"ab");
    Ok(())
}

fn rejected() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let chain = Close::after(writer, |_| Vec::<Write<ChainFd, &str>>::new());
    let rejected = ring.submit_chain(chain).expect_err("it has no steps");
    assert!(matches!(rejected.why, Rejection::Invalid { .. }), "{:?}", rejected.why);
    let (steps, close) = rejected.op.into_parts();
    assert!(steps.is_empty() && !hung_up(&reader));
    drop(close);
    assert!(hangs_up(&reader));

    let (reader, writer) = pipe()?;
    let chain = Close::after(writer, |writer| [(); 8].map(|()| Write::new(writer.clone(), "x")));
    let rejected = ring.submit_chain(chain).expect_err("the queue has 4 entries");
    assert_eq!(rejected.why, Rejection::ChainTooLong { count: 9, entries: 4 });
    let mut larger = safe_ring(Setup::new(16));
    let chain = larger.submit_chain(rejected.op).map_err(|rejected| rejected.why)?;
    let chain = larger.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    assert!(hangs_up(&reader));
    Ok(())
}

/// A buffer that gives no address.
struct Refuses;

impl annulus::buf::IoBuf for Refuses {
    fn region(&self) -> annulus::buf::Region<'_> {
        panic!("as told");
    }
}

fn panicked() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let mut kept = None;
    let chain = Close::after(writer, |writer| {
        kept = Some(writer.clone());
        (Nop, Write::new(writer, Refuses))
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| ring.submit_chain(chain)));
    assert!(panicked.is_err(), "submitted");
    assert!(hangs_up(&reader));
    is_refused(&mut ring, &kept.expect("just kept"));
    run(&mut ring, Nop)?;
    Ok(())
}

fn is_refused<U: Default>(ring: &mut Ring<U>, number: &ChainFd) {
    let refused = ring.submit(Write::new(number.clone(), "x"));
    assert_eq!(refused.map_err(|rejected| rejected.why).err(), Some(Rejection::OtherRing));
    let chain = (Nop, Write::new(number.clone(), "x"));
    let refused = ring.submit_chain(chain).map_err(|rejected| rejected.why);
    assert_eq!(refused.err(), Some(Rejection::OtherRing));
}

fn nowhere_else() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let (reader, writer) = pipe()?;
    let (reader_b, writer_b) = pipe()?;
    let mut kept = None;
    let chain = Close::after(writer, |writer| {
        kept = Some(writer.clone());
        (Write::new(writer, "x"),)
    });
    let number = kept.expect("just kept");
    is_refused(&mut ring, &number); // Not yet submitted.
    // In a chain that closes another descriptor.
    let foreign = Close::after(writer_b, |_| (Write::new(number.clone(), "y"),));
    let refused = ring.submit_chain(foreign).expect_err("it is not the number of that chain");
    assert_eq!(refused.why, Rejection::OtherRing);
    drop(refused);
    assert!(hangs_up(&reader_b));
    let chain = ring.submit_chain(chain).map_err(|rejected| rejected.why)?;
    is_refused(&mut ring, &number); // Submitted, not closed.
    is_refused(&mut other, &number);
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    let ((write,), close) = chain.outputs;
    assert_eq!(write.result?, 1);
    close.result?;
    is_refused(&mut ring, &write.fd); // Closed, as the output shows it.
    assert!(hangs_up(&reader));
    Ok(())
}

fn device_back() -> Result<(), Failed> {
    let mut ring = small();
    for _ in 0..3 {
        let null = File::open("/dev/null")?;
        let number = null.as_raw_fd();
        let chain = Close::after(null, |null| (Read::new(null, [0; 8]),)); // 0 bytes.
        let chain = ring.submit_chain(chain).map_err(|rejected| rejected.why)?;
        let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
        assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
        let back = chain.outputs.1.fd.expect("it is open");
        assert_eq!(back.as_raw_fd(), number);
    }
    Ok(())
}

fn looks_again() -> Result<(), Failed> {
    let mut ring = small();
    let refused = |rejected: Rejection| assert!(matches!(rejected, Rejection::Invalid { .. }));
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let chain =
        Close::after(socket, |socket| (SetOption::new(socket, SocketOption::BROADCAST, true),));
    refused(ring.submit_chain(chain).expect_err("it looks again").why);
    let chain = Close::after(pipe()?.0, |pipe| (PollMulti::new(pipe, PollEvents::IN),));
    refused(ring.submit_chain(chain).expect_err("it looks again").why);
    Ok(())
}

/// Such a thread takes eight entries of a ring at a time. A close behind eight reads that wait
/// would begin at once, so neither ring accepts such a chain.
fn shared() -> Result<(), Failed> {
    let mut first = safe_ring(Setup::new(16).sqpoll(std::time::Duration::from_secs(1)));
    let setup = Setup::new(16).sqpoll(std::time::Duration::from_secs(1));
    // SAFETY: only this test uses the first ring, so it may die with the second.
    let setup = unsafe { setup.attach(first.raw().as_fd()) };
    let mut second = safe_ring(setup);
    for ring in [&mut first, &mut second] {
        let (reader, writer) = pipe()?;
        let chain =
            Close::after(reader, |reader| [(); 8].map(|()| Read::new(reader.clone(), [0; 1])));
        let rejected = ring.submit_chain(chain).expect_err("it may be cut");
        assert!(matches!(rejected.why, Rejection::Invalid { .. }), "{:?}", rejected.why);
        drop(writer);
    }
    Ok(())
}

thread_local! {
    /// What `Meddles::default` does.
    static MEDDLE: RefCell<Option<(Ring, ChainFd)>> = const { RefCell::new(None) };
}

/// A user value, made while the entries of a chain are made.
struct Meddles;

impl Default for Meddles {
    fn default() -> Self {
        MEDDLE.with_borrow_mut(|meddle| {
            if let Some((ring, number)) = meddle {
                is_refused(ring, number);
            }
        });
        Self
    }
}

fn meanwhile() -> Result<(), Failed> {
    let mut ring: Ring<Meddles> = crate::harness::patient(|| Setup::new(4).build_for())?;
    let (reader, writer) = pipe()?;
    let mut kept = None;
    let chain = Close::after(writer, |writer| {
        kept = Some(writer.clone());
        (Write::new(writer.clone(), "x"), Write::new(writer, "y"))
    });
    MEDDLE.set(Some((small(), kept.expect("just kept"))));
    let chain = ring.submit_chain(chain).map_err(|rejected| rejected.why)?;
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    assert!(MEDDLE.take().is_some());
    assert_eq!(chain.end, ChainEnd::Complete);
    assert!(hangs_up(&reader));
    Ok(())
}

/// A file with this number in it.
fn numbered(number: u32) -> Result<File, Failed> {
    // SAFETY: the name is a string with a zero at its end, which the kernel copies.
    let fd = unsafe { libc::memfd_create(c"annulus".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: success means a new descriptor, which nothing else owns.
    let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    let mut file = File::from(fd);
    file.write_all(&number.to_ne_bytes())?;
    Ok(file)
}

/// Random chains on two rings, several in flight, some broken, over files whose numbers are taken
/// again at once. Numbers that were kept are tried everywhere.
fn random_chains() -> Result<(), Failed> {
    let mut rings = [safe_ring(Setup::new(16)), safe_ring(Setup::new(16))];
    let (mut luck, mut kept, mut waiting) = (0x2545_f491_usize, Vec::new(), Vec::new());
    let mut below = |limit: usize| {
        luck ^= luck << 13;
        luck ^= luck >> 7;
        luck ^= luck << 17;
        luck % limit
    };
    let (mut closed, mut given_back) = (0, 0);
    for number in 0..2000 {
        let which = below(2);
        let breaks = below(4) == 0;
        let read_at = if breaks { 9 } else { 0 }; // Behind the end: 0 bytes break the chain.
        let chain = Close::after(numbered(number)?, |file| {
            kept.push(file.clone());
            let foreign = below(8) == 0;
            let from = if foreign { kept[below(kept.len())].clone() } else { file };
            let read = |at| Read::new(from.clone(), [0; 4]).at(at);
            [read(0), read(read_at)]
        });
        match rings[which].submit_chain(chain) {
            Ok(ticket) => waiting.push((which, number, ticket)),
            // A number of another chain; its file is closed here.
            Err(rejected) => assert_eq!(rejected.why, Rejection::OtherRing),
        }
        if below(3) == 0 {
            let stale = &kept[below(kept.len())];
            is_refused(&mut rings[below(2)], stale);
        }
        while waiting.len() > below(4) {
            let (which, number, ticket) = waiting.swap_remove(below(waiting.len()));
            let chain = rings[which].wait_chain(ticket).map_err(|unfinished| unfinished.why)?;
            let ([first, second], close) = chain.outputs;
            assert_eq!((first.result?, u32::from_ne_bytes(first.buf)), (4, number));
            match chain.end {
                ChainEnd::Complete => {
                    assert_eq!((second.result?, u32::from_ne_bytes(second.buf)), (4, number));
                    close.result?;
                    assert!(close.fd.is_none());
                    closed += 1;
                }
                ChainEnd::Broken { at } => {
                    assert_eq!((at, second.result?), (1, 0));
                    assert!(close.fd.is_some(), "its number is lost");
                    given_back += 1;
                }
            }
        }
    }
    assert!(closed > 500 && given_back > 100, "{closed} closed, {given_back} given back");
    Ok(())
}
