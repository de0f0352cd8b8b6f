//! Limits that are reached: memory to lock, descriptors, addresses, slots for registered rings, and
//! rings to attach to.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use annulus::lease::RegisterError;
use annulus::raw::register::RingMemory;
use annulus::sys::flags::SetupFlags;
use annulus::sys::map::{Pages, page_size};
use annulus::{Setup, SetupError};
use libtest_mimic::{Failed, Trial};

use super::{ON, become_ordinary, says, set_limit};
use crate::harness::{Need, child_succeeds, patient, ring, test};

const PLACES: [Need; 1] = [Need::Setup(SetupFlags::REGISTERED_FD_ONLY)];
const POLLS: [Need; 1] = [Need::Other(polls_nothing)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_ring_is_made_or_the_lock_limit_is_named", &ON, || {
            child_succeeds("little memory may be locked")
        }),
        test("the_limit_on_descriptors_is_named", &[], || child_succeeds("no descriptor is left")),
        test("the_limit_on_addresses_is_named", &ON, || {
            child_succeeds("few addresses may be used")
        }),
        test("a_thread_that_has_no_place_for_a_ring_is_told_so", &PLACES, no_place),
        test("a_ring_is_attached_to_rings_only", &[], attached),
        test("a_polled_ring_is_attached_to_polled_rings_only", &POLLS, attached_to_poller),
        test("root_is_not_told_of_a_limit_that_does_not_bind_it", &[Need::Root], unbound),
    ]
}

/// Kernels from 6.14 to 7.1, and up to 5.11, count the ring against the limit; others do not.
pub fn little_locked_memory() {
    let limit = 16 << 10;
    let hard = set_limit(libc::RLIMIT_MEMLOCK, limit);
    become_ordinary();
    let setup = Setup::plain(256); // 16 KiB of entries, 8 of completions, 1 of indices, a header
    let pages = |bytes: usize| bytes.next_multiple_of(page_size()) as u64;
    match setup.build_raw() {
        Ok(ring) => assert_eq!(ring.sq_entries(), 256),
        Err(error) => {
            let needed = pages(256 * 64) + pages(384 + 512 * 16 + 256 * 4);
            assert_eq!(error, SetupError::LockedMemory { needed, limit });
            let bytes = format!("{needed} bytes");
            says(error, libc::ENOMEM, &[&bytes, "16384", "ulimit -l", "RLIMIT_MEMLOCK"]);
            // And the remedy works.
            set_limit(libc::RLIMIT_MEMLOCK, hard);
            patient(|| setup.build_raw()).expect("the limit was all that was wrong");
        }
    }
}

pub fn no_descriptor_left() {
    let hard = set_limit(libc::RLIMIT_NOFILE, 3);
    let error = Setup::new(4).build_raw().expect_err("no descriptor is left");
    assert_eq!(error, SetupError::TooManyFiles { limit: 3 });
    says(error, libc::EMFILE, &["too many open files", "limit is 3", "ulimit -n"]);
    set_limit(libc::RLIMIT_NOFILE, hard);
    patient(|| Setup::new(4).build_raw()).expect("the limit was all that was wrong");
}

fn polling() -> Setup<'static> {
    Setup::plain(4).sqpoll(Duration::from_millis(1))
}

/// Before Linux 5.13 this takes a privilege.
fn polls_nothing() -> Option<String> {
    patient(|| polling().build_raw()).err().map(|error| error.to_string())
}

/// Lets this process use `more` bytes of addresses, and no more.
fn limit_addresses(more: u64) {
    let sizes = fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = sizes.split(' ').next().and_then(|size| size.parse().ok()).expect("a size");
    set_limit(libc::RLIMIT_AS, pages * page_size() as u64 + more);
}

pub fn few_addresses() {
    let setup = Setup::plain(16384); // 1.5 MiB and more
    let mut disabled = patient(|| Setup::plain(4).build_disabled()).expect("a ring");
    limit_addresses(1 << 20);
    let refused = setup.build_raw().map(drop);
    let own = setup.clone().own_memory(Pages::Ordinary).build_raw().map(drop);
    let unmapped = disabled.register_wait_region(32768, RingMemory::Kernel).map(drop);
    set_limit(libc::RLIMIT_AS, u64::MAX);
    let error = refused.expect_err("there is no room");
    assert!(matches!(error, SetupError::AddressSpace { .. }), "{error:?}");
    says(error, libc::ENOMEM, &["address space", "ulimit -v", "RLIMIT_AS"]);
    assert!(matches!(own, Err(SetupError::AddressSpace { .. })), "{own:?}");
    patient(|| setup.build_raw()).expect("the limit was all that was wrong");
    // The memory that the kernel has made by then is mapped when it is asked for again.
    if unmapped == Err(RegisterError::OutOfMemory { needed: 32768 * 64 }) {
        let taken = disabled.register_wait_region(32769, RingMemory::Kernel).map(drop);
        assert_eq!(taken, Err(RegisterError::InUse { what: "region of waits" }));
        disabled.register_wait_region(32768, RingMemory::Kernel).expect("it was made already");
    }
}

/// Each thread has 16.
fn no_place() -> Result<(), Failed> {
    let setup = Setup::plain(4).own_memory(Pages::Ordinary).with(SetupFlags::REGISTERED_FD_ONLY);
    let thread = std::thread::spawn(move || {
        let mut rings = Vec::new();
        loop {
            match patient(|| setup.build_raw()) {
                Ok(ring) => rings.push(ring),
                Err(error) => return (rings.len(), error),
            }
        }
    });
    let (count, error) = thread.join().map_err(|_| "it panicked")?;
    assert_eq!((count, error), (16, SetupError::TooManyRings));
    says(error, libc::EBUSY, &["16 rings", "drop one", "REGISTERED_FD_ONLY"]);
    Ok(())
}

/// Why a ring of `setup` is not attached to `file`.
#[allow(unsafe_code, reason = "attaches to a ring")]
fn refusal(setup: Setup<'_>, file: BorrowedFd<'_>) -> SetupError {
    // SAFETY: no ring of anybody else's, because both are made here.
    let setup = unsafe { setup.attach(file) };
    patient(|| setup.build_raw()).expect_err("nothing to attach to")
}

fn attached() -> Result<(), Failed> {
    let file = File::open("/dev/null")?;
    let error = refusal(Setup::plain(4), file.as_fd());
    assert_eq!(error, SetupError::NotAttached);
    says(error, libc::EINVAL, &["`attach`", "of a ring"]);
    Ok(())
}

fn attached_to_poller() -> Result<(), Failed> {
    let plain = ring(Setup::plain(4));
    let error = refusal(polling(), plain.fd().expect("a descriptor"));
    assert_eq!(error, SetupError::NotAttached);
    says(error, libc::EINVAL, &["SQPOLL", "polling thread"]);
    Ok(())
}

/// Where the kernel cannot make so large a region, the reason is not the limit of locked memory.
fn unbound() -> Result<(), Failed> {
    let mut disabled = patient(|| Setup::plain(4).build_disabled())?;
    let region = disabled.register_wait_region(1 << 20, RingMemory::Kernel).map(drop);
    assert!(!matches!(region, Err(RegisterError::LockedMemory { .. })), "{region:?}");
    Ok(())
}
