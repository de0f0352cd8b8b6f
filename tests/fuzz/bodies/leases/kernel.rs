//! A kernel that selects from pools, as some Linux would, and keeps what it wrote in mind.
//!
//! ```text
//!   enter ─► look at the pools ─► write to what is on offer ─► consume ─► complete some ─► wait
//! ```
//!
//! It is honest: a completion says what happened. What it may do is in `requests`.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annulus_sys::abi::{Cqe, Params, Sqe};
use annulus_sys::abi_register::{BufReg, BufStatus, FilesUpdate, RsrcRegister};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, Features, SetupFlags, SqRingFlags, SqeFlags};
use annulus_sys::kernel::Backend;
use annulus_sys::map::Map;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::{EnterArg, RingFd, RingRef};

use super::LONG;
use super::group::Group;
use super::requests::Request;
use crate::bodies::chance::Chance;
use crate::support::fake_kernel::FakeKernel;
use crate::support::memory::{RingMemory, sane};

/// The kernel of one ring.
#[derive(Clone)]
pub struct Kernel(Arc<Mutex<State>>);

pub struct State {
    pub chance: Chance,
    ring: Option<(RingMemory, FakeKernel)>,
    pub requests: Vec<Request>,
    /// Whether the entry before was linked to the next one.
    pub is_linked: bool,
    overflow: VecDeque<Cqe>,
    pub groups: Vec<Group>,
    /// Which places of the file table are filled.
    pub files: Vec<bool>,
    /// What was written for each descriptor that is read from, completion by completion.
    pub chunks: HashMap<i32, VecDeque<Vec<u8>>>,
    /// What was sent from send rings.
    pub sent: Vec<u8>,
    pub faults: Vec<String>,
    /// Its clock: a wait whose time is up has lasted that long.
    now: Instant,
}

impl Kernel {
    pub fn new(chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(State {
            chance,
            ring: None,
            requests: Vec::new(),
            is_linked: false,
            overflow: VecDeque::new(),
            groups: Vec::new(),
            files: Vec::new(),
            chunks: HashMap::new(),
            sent: Vec::new(),
            faults: Vec::new(),
            now: Instant::now(),
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rings(&mut self) -> &mut FakeKernel {
        &mut self.ring.as_mut().expect("a ring was set up").1
    }

    pub fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// What the next completion for a descriptor carried.
    pub fn pop_chunk(&mut self, fd: i32) -> Option<Vec<u8>> {
        self.chunks.get_mut(&fd)?.pop_front()
    }

    /// Something happens outside of an enter.
    pub fn interrupt(&mut self) {
        self.touch();
        self.complete_one();
        self.say();
    }

    /// Looks at the pools, and uses all memory that the kernel has.
    pub fn touch(&mut self) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            if let Err(fault) = group.look() {
                self.fault(fault);
            }
        }
        self.groups = groups;
        if !self.faults.is_empty() {
            return; // Some of it may be gone.
        }
        let Self { groups, requests, chance, faults, .. } = self;
        for group in groups.iter().filter(|group| !group.is_sent) {
            group.scribble(chance);
        }
        for request in requests {
            if !request.region.touch(chance) {
                faults.push(format!("OP1: memory of {request:?} changed"));
            }
        }
    }

    pub fn group(&mut self, id: u16) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.id == id)
    }

    pub fn post(&mut self, cqe: Cqe) {
        if crate::bodies::tells() {
            println!("     {cqe:?}");
        }
        if !self.overflow.is_empty() || !self.rings().post(cqe) {
            self.overflow.push_back(cqe);
        }
    }

    fn deliver(&mut self) {
        while let Some(cqe) = self.overflow.pop_front() {
            if !self.rings().post(cqe) {
                self.overflow.push_front(cqe);
                break;
            }
        }
    }

    fn say(&mut self) {
        let mut flags = SqRingFlags::empty();
        flags.set(SqRingFlags::CQ_OVERFLOW, !self.overflow.is_empty());
        self.rings().sq_flags.store(flags.bits());
    }

    fn begin(&mut self, sqe: &Sqe) {
        if sqe.flags.contains(SqeFlags::FIXED_FILE) {
            let place = usize::try_from(sqe.fd).unwrap_or(usize::MAX);
            if self.files.get(place) != Some(&true) {
                self.fault(format!("OP3: {:?} names the empty place {place}", sqe.opcode));
            }
        }
        if self.requests.iter().any(|request| request.user_data == sqe.user_data) {
            self.fault("OP2: two requests in flight have one `user_data`");
        }
        if crate::bodies::tells() {
            let Sqe { opcode, flags, buf_index, user_data, .. } = sqe;
            println!("     {user_data:#x}: {opcode:?} of {buf_index}, {flags:?}");
        }
        self.start(sqe);
    }

    fn enter(&mut self, to_submit: u32, least: u32, flags: EnterFlags, bound: bool) -> Answer {
        self.touch();
        let mut count = 0;
        while count < to_submit {
            let Some(sqe) = self.rings().consume() else { break };
            count += 1;
            self.begin(&sqe);
        }
        for _ in 0..self.chance.below(3) {
            self.complete_one();
        }
        let mut outcome = Ok(count);
        if flags.contains(EnterFlags::GETEVENTS) {
            self.deliver();
            if let Err(errno) = self.wait(least, bound)
                && count == 0
            {
                outcome = Err(errno);
            }
        }
        self.touch();
        self.say();
        outcome
    }

    fn wait(&mut self, least: u32, bound: bool) -> Result<(), i32> {
        loop {
            let rings = self.rings();
            if rings.shape().cq_entries - rings.cq_room() >= least {
                return Ok(());
            }
            if !self.complete_one() || (bound && self.chance.one_in(4)) {
                self.now += if bound { LONG } else { Duration::ZERO };
                return Err(if bound { libc::ETIME } else { libc::EINTR });
            }
            self.deliver();
        }
    }

    fn close(&mut self, place: u32) {
        let filled = self.files.get_mut(place as usize);
        if !filled.is_some_and(std::mem::take) {
            self.fault(format!("OP3: the empty place {place} is closed"));
        }
    }

    fn register(&mut self, op: RegisterOp, arg: *mut libc::c_void) -> Answer {
        match op {
            RegisterOp::PBUF_RING => {
                // SAFETY: a live `struct io_uring_buf_reg`, as promised to `register`.
                let reg = unsafe { arg.cast::<BufReg>().read() };
                // The send ring is made first.
                let is_sent = self.groups.is_empty();
                self.groups.push(Group::new(&reg, is_sent));
            }
            RegisterOp::UNREGISTER_PBUF_RING => {
                // SAFETY: a live `struct io_uring_buf_reg`, as promised to `register`.
                let reg = unsafe { arg.cast::<BufReg>().read() };
                self.groups.retain(|group| group.id != reg.bgid);
            }
            RegisterOp::PBUF_STATUS => {
                let status = arg.cast::<BufStatus>();
                // SAFETY: a live `struct io_uring_buf_status`, as promised to `register`.
                let id = unsafe { (*status).buf_group };
                let id = u16::try_from(id).map_err(|_| libc::EINVAL)?;
                let head = self.group(id).ok_or(libc::ENOENT)?.head;
                // SAFETY: live, as promised to `register`.
                unsafe { (*status).head = u32::from(head) };
            }
            RegisterOp::FILES2 => {
                // SAFETY: a live `struct io_uring_rsrc_register`, as promised to `register`.
                let table = unsafe { arg.cast::<RsrcRegister>().read() };
                self.files = vec![false; table.nr as usize];
            }
            RegisterOp::FILES_UPDATE => {
                // SAFETY: a live `struct io_uring_files_update`, as promised to `register`.
                let update = unsafe { arg.cast::<FilesUpdate>().read() };
                self.close(update.offset);
                return Ok(1);
            }
            RegisterOp::BUFFERS | RegisterOp::UNREGISTER_BUFFERS | RegisterOp::UNREGISTER_FILES => {
            }
            _ => return Err(libc::EINVAL),
        }
        Ok(0)
    }
}

/// What a call returns: a number, or an error.
type Answer = Result<u32, i32>;

// SAFETY: what `setup` and `map` describe is memory that its maps keep, touched only by a
// `FakeKernel`.
unsafe impl Backend for Kernel {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        let mut state = self.state();
        let mut answer = sane(entries, *params, SetupFlags::all())?;
        answer.features = Features::from_bits_retain((1 << 18) - 1);
        let memory = RingMemory::new(&mut answer, u32::MAX - 3);
        let kernel = memory.kernel();
        state.ring = Some((memory, kernel));
        *params = answer;
        let null = std::fs::File::open("/dev/null").map_err(|error| Errno::of(&error))?;
        Ok(RingFd::Owned(null.into()))
    }

    fn map(&self, _: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        let state = self.state();
        let (memory, _) = state.ring.as_ref().ok_or(Errno::new(libc::EBADF))?;
        let region = memory.region(offset).ok_or(Errno::new(libc::EINVAL))?;
        let (base, len) = (region.base(), len.min(region.len()));
        // SAFETY: the region is that long, and lives until the keeper is dropped.
        Ok(unsafe { Map::foreign(base, len, Box::new(region)) })
    }

    fn enter(
        &self,
        _: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        let bound = matches!(arg, EnterArg::Ext(ext) if ext.timeout.is_some());
        self.state().enter(to_submit, min_complete, flags, bound).map_err(Errno::new)
    }

    fn now(&self) -> Instant {
        self.state().now
    }

    unsafe fn register(
        &self,
        _: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        _: u32,
    ) -> Result<u32, Errno> {
        self.state().register(op, arg).map_err(Errno::new)
    }
}
