//! Personalities: a request runs with the credentials that were registered.
#![allow(unsafe_code, reason = "changes the credentials of one thread")]

use std::fs;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use annulus::lease::RegisterError;
use annulus::op::{Cwd, How, Nop, Op, OpenAt};
use annulus::sys::abi::Sqe;
use annulus::{Rejection, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, nop, patient, push, ring, safe_ring, test};

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_request_as_nobody_opens_no_file_of_roots", &[Need::Root], as_nobody),
        test("a_request_runs_as_oneself", &[], as_oneself),
        test("personalities_have_numbers_of_their_own", &[], numbers),
        test("a_personality_of_another_ring_is_rejected", &[], of_another),
        test("a_personality_is_forgotten_once", &[], forgotten),
        test("a_personality_of_another_ring_is_not_forgotten", &[], not_forgotten),
    ]
}

/// Makes the effective user of this thread, and of no other, `uid`.
fn become_user(uid: u32) {
    let keep = u32::MAX;
    // SAFETY: three numbers; past libc, which would change every thread, since other tests run.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, keep, uid, keep) };
    assert_eq!(result, 0, "{}", Error::last_os_error());
}

fn as_nobody() -> Result<(), Failed> {
    let path = std::env::temp_dir().join(format!("annulus-person-{}", std::process::id()));
    fs::write(&path, "secret")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let name = std::ffi::CString::new(path.to_str().expect("it is ASCII"))?;
    let opened = thread::spawn(move || {
        let mut ring = safe_ring(Setup::new(4));
        let root = ring.register_personality().expect("root");
        become_user(65534);
        let nobody = ring.register_personality().expect("nobody");
        // Only the named credentials count, not those of the thread or of the ring's maker.
        let open =
            ring.submit(OpenAt::new(Cwd, name.clone(), How::read()).acting_as(root)).expect("room");
        let as_root = ring.wait(open).expect("a wait").result.map(drop);
        become_user(0);
        let open =
            ring.submit(OpenAt::new(Cwd, name, How::read()).acting_as(nobody)).expect("room");
        let as_nobody = ring.wait(open).expect("a wait").result.map(drop);
        (as_root.map_err(|error| error.raw_os_error()), as_nobody.unwrap_err().raw_os_error())
    });
    let opened = opened.join().expect("no panic");
    fs::remove_file(path)?;
    assert_eq!(opened, (Ok(()), Some(libc::EACCES)));
    Ok(())
}

fn as_oneself() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(4));
    let myself = ring.register_personality()?;
    let open = ring.submit(OpenAt::new(Cwd, c"/dev/null", How::read()).acting_as(myself))?;
    assert!(ring.wait(open)?.result?.as_raw_fd() >= 0);
    ring.raw().unregister_personality(myself)?;
    let nop = ring.submit(Nop.acting_as(myself))?;
    let gone = ring.wait(nop)?.unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::EINVAL));
    Ok(())
}

fn numbers() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b) = (ring.register_personality()?, ring.register_personality()?);
    assert_ne!(a.id(), b.id());
    for (who, result) in [(a.id(), 0), (b.id(), 0), (999, -libc::EINVAL)] {
        push(&mut ring, Sqe { personality: who, ..nop(1) });
        ring.submit_and_wait(1)?;
        assert_eq!(ring.pop().map(|cqe| cqe.res), Some(result), "{who}");
    }
    Ok(())
}

fn of_another() -> Result<(), Failed> {
    let (mut ring, mut other) = (safe_ring(Setup::new(4)), safe_ring(Setup::new(4)));
    let _ours = ring.register_personality()?;
    for stranger in [other.register_personality()?, ring.raw().register_personality()?] {
        let rejected = ring.submit(Nop.acting_as(stranger)).expect_err("a stranger");
        assert!(matches!(rejected.why, Rejection::OtherRing), "{:?}", rejected.why);
    }
    Ok(())
}

fn forgotten() -> Result<(), Failed> {
    let ring = ring(Setup::plain(4));
    let who = ring.register_personality()?;
    ring.unregister_personality(who)?;
    let twice = ring.unregister_personality(who);
    assert_eq!(twice, Err(RegisterError::Missing { what: "such personality" }));
    Ok(())
}

/// The first personality of each ring has the number of the other ring's first.
fn not_forgotten() -> Result<(), Failed> {
    let missing = Err(RegisterError::Missing { what: "such personality" });
    let (mut ring, mut other) = (safe_ring(Setup::new(4)), safe_ring(Setup::new(4)));
    let (ours, theirs) = (ring.register_personality()?, other.register_personality()?);
    assert_eq!(ours.id(), theirs.id());
    assert_eq!(ring.raw().unregister_personality(theirs), missing);
    let nop = ring.submit(Nop.acting_as(ours))?;
    ring.wait(nop)??;
    let mut disabled = patient(|| Setup::plain(4).build_disabled())?;
    let before = disabled.register_personality()?;
    let raw = disabled.enable_raw().map_err(|(_, errno)| errno)?;
    assert_eq!(raw.unregister_personality(ours), missing);
    assert_eq!(raw.unregister_personality(before), Ok(()));
    Ok(())
}
