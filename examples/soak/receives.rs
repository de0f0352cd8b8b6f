//! Receives: into memory of our own, registered buffers, and buffers that the kernel selects.
//!
//! | medium | operations |
//! |---|---|
//! | pipe | `Read`, `ReadFixed`, `ReadMulti` |
//! | socket | `Recv`, `Read`, `ReadFixed`, `RecvProvided`, `RecvMulti`, `RecvBundle`, `RecvBundleMulti` |

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use annulus::lease::{BufLease, BufRing, Bundle, FixedBuf};
use annulus::op::{
    Ended, Ending, Outcome, Read, ReadFixed, ReadMulti, Recv, RecvBundle, RecvBundleMulti,
    RecvMulti, RecvProvided, Target,
};

use super::desk::Desk;
use super::flow::{End, Medium, Shared, length};
use super::trouble::{Check, Trouble, equal, may_end};

/// Submits a receive.
pub fn any(desk: &mut Desk, medium: Medium, end: &End, flow: &Shared) -> Check {
    let reader = Reader { flow: Rc::clone(flow), hungry: Rc::clone(&desk.hungry) };
    let accepted = match end {
        End::Fd(fd) => one(desk, medium, Rc::clone(fd), reader),
        End::Fixed(file) => one(desk, medium, file.clone(), reader),
    }?;
    flow.borrow_mut().receiving |= accepted;
    Ok(())
}

/// What a receive tells when it completes.
#[derive(Clone)]
struct Reader {
    flow: Shared,
    hungry: Rc<Cell<bool>>,
}

fn one<F: Target + 'static>(
    desk: &mut Desk,
    medium: Medium,
    fd: F,
    to: Reader,
) -> Result<bool, Trouble> {
    let pool = match desk.pools.len() {
        0 => None,
        _ => Some(desk.chance.among(&[0, 1]) % desk.pools.len()),
    };
    if let Some(pool) = pool.map(|at| desk.pools[at].clone())
        && desk.chance.below(4) > 0
    {
        return selected(desk, medium, fd, &pool, to);
    }
    match desk.fixed.as_ref().and_then(|pool| pool.get()) {
        Some(buf) if desk.chance.one_in(2) => desk
            .submit(ReadFixed::new(fd, buf), move |outcome: Outcome<usize, F, FixedBuf>| {
                to.ends(outcome.result, &outcome.buf)
            }),
        _ => {
            let buf = Vec::with_capacity(length(&mut desk.chance));
            let ends =
                move |outcome: Outcome<usize, F, Vec<u8>>| to.ends(outcome.result, &outcome.buf);
            match medium {
                Medium::Pipe => desk.submit(Read::new(fd, buf), ends),
                _ => desk.submit(Recv::new(fd, buf), ends),
            }
        }
    }
}

/// Into buffers that the kernel selects.
fn selected<F: Target + 'static>(
    desk: &mut Desk,
    medium: Medium,
    fd: F,
    pool: &BufRing,
    to: Reader,
) -> Result<bool, Trouble> {
    let each = to.clone();
    let lease = move |item| each.item(item);
    match (medium, desk.chance.below(5)) {
        (Medium::Pipe, _) => {
            desk.submit_many(ReadMulti::new(fd, pool), lease, move |it| to.lease_ended(it))
        }
        (_, 0) => desk.submit(RecvProvided::new(fd, pool), move |outcome| to.one_lease(outcome)),
        (_, 1) => desk.submit(RecvBundle::new(fd, pool), move |outcome| to.one_bundle(outcome)),
        (_, 2) => {
            let each = to.clone();
            let bundle = move |item| each.bundle_item(item);
            let ends = move |it| to.bundle_ended(it);
            desk.submit_many(RecvBundleMulti::new(fd, pool), bundle, ends)
        }
        _ => desk.submit_many(RecvMulti::new(fd, pool), lease, move |it| to.lease_ended(it)),
    }
}

impl Reader {
    /// A receive into memory of our own has ended.
    fn ends(self, result: io::Result<usize>, bytes: &[u8]) -> Check {
        let mut flow = self.flow.borrow_mut();
        flow.receiving = false;
        match result {
            Ok(0) => flow.at_end(),
            Ok(count) => {
                equal("bytes that a receive filled", bytes.len(), count)?;
                flow.arrived(bytes)
            }
            Err(error) => may_end("a receive", &error),
        }
    }

    fn item(&self, item: io::Result<BufLease>) -> Check {
        match item {
            Ok(lease) => self.flow.borrow_mut().leased(lease),
            Err(error) => may_end("a receive", &error),
        }
    }

    fn bundle(&self, bundle: Bundle) -> Check {
        let (count, buffers) = (bundle.bytes(), bundle.buffers());
        let leases: Vec<BufLease> = bundle.collect();
        equal("buffers of a bundle", leases.len(), buffers)?;
        equal("bytes of a bundle", leases.iter().map(|lease| lease.len()).sum(), count)?;
        let mut flow = self.flow.borrow_mut();
        leases.into_iter().try_for_each(|lease| flow.leased(lease))
    }

    fn bundle_item(&self, item: io::Result<Bundle>) -> Check {
        match item {
            Ok(bundle) => self.bundle(bundle),
            Err(error) => may_end("a receive", &error),
        }
    }

    fn lease_ended<F>(self, ended: Ended<F, io::Result<BufLease>>) -> Check {
        ended.remaining.into_iter().try_for_each(|item| self.item(item))?;
        self.how(ended.how)
    }

    fn bundle_ended<F>(self, ended: Ended<F, io::Result<Bundle>>) -> Check {
        ended.remaining.into_iter().try_for_each(|item| self.bundle_item(item))?;
        self.how(ended.how)
    }

    fn one_lease<F>(self, outcome: Outcome<Option<BufLease>, F>) -> Check {
        match outcome.result {
            Ok(Some(lease)) => self.flow.borrow_mut().leased(lease)?,
            Ok(None) => return self.how(Ending::Eof),
            Err(error) => return self.failed(error),
        }
        self.how(Ending::Stopped)
    }

    fn one_bundle<F>(self, outcome: Outcome<Option<Bundle>, F>) -> Check {
        match outcome.result {
            Ok(Some(bundle)) => self.bundle(bundle)?,
            Ok(None) => return self.how(Ending::Eof),
            Err(error) => return self.failed(error),
        }
        self.how(Ending::Stopped)
    }

    fn failed(self, error: io::Error) -> Check {
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => self.how(Ending::NoBuffers),
            _ => self.how(Ending::Failed(error)),
        }
    }

    /// A receive has ended.
    fn how(self, how: Ending) -> Check {
        let mut flow = self.flow.borrow_mut();
        flow.receiving = false;
        match how {
            Ending::Eof => flow.at_end(),
            Ending::Failed(error) => may_end("a receive", &error),
            Ending::NoBuffers => {
                self.hungry.set(true);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
