//! A page that tells on whoever touches it: each access faults, is noted, and then is made.
//!
//! ```text
//!   PROT_NONE ─ an access ─► SIGSEGV: noted; page opened, one step ─► SIGTRAP: page closed again
//! ```
//!
//! The kernel reaches a ring by addresses of its own, so only accesses of this program are noted.
//! The trap flag of x86_64 gives the single step.
//!
//! # Safety
//!
//! The handlers use memory of this thread only, and call nothing but `mprotect`.
#![allow(unsafe_code, reason = "handles the signals of its own faults")]

use std::cell::Cell;
use std::ptr;
use std::sync::Once;

use libc::{c_int, c_void, siginfo_t};

/// An access: the offset in the page, and whether it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    pub offset: usize,
    pub is_write: bool,
}

/// How many accesses can be noted.
const ROOM: usize = 1024;

struct Watch {
    page: usize,
    len: usize,
    count: usize,
    noted: [Access; ROOM],
}

thread_local! {
    static WATCH: Cell<*mut Watch> = const { Cell::new(ptr::null_mut()) };
}

/// What `body` reads and writes in the page at the address `page`, in order.
pub fn accesses(page: usize, body: impl FnOnce()) -> Vec<Access> {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| {
        handle(libc::SIGSEGV, touched);
        handle(libc::SIGTRAP, stepped);
    });
    let len = annulus::sys::map::page_size();
    assert_eq!(page % len, 0, "a mapping begins with a page");
    let noted = [Access::default(); ROOM];
    let watch = Box::into_raw(Box::new(Watch { page, len, count: 0, noted }));
    WATCH.set(watch);
    close(page, len);
    body();
    open(page, len);
    WATCH.set(ptr::null_mut());
    // SAFETY: made above, and no handler has it any more.
    let watch = unsafe { Box::from_raw(watch) };
    assert!(watch.count <= ROOM, "{} accesses", watch.count);
    watch.noted[..watch.count].to_vec()
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn handle(signal: c_int, handler: Handler) {
    // SAFETY: zeroes are an action: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: a live action, whose handler does only what a handler may.
    let done = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// The bit of `EFLAGS` that stops the processor after one instruction.
const TRAP: i64 = 1 << 8;
/// The bit of a page fault's error code that says that it was a write.
const WROTE: i64 = 1 << 1;

extern "C" fn touched(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let watch = WATCH.get();
    // SAFETY: the kernel passes a live `siginfo_t`, which nothing else uses.
    let info = unsafe { &*info };
    // SAFETY: it is that of a fault, so it has an address.
    let address = unsafe { info.si_addr() }.addr();
    // SAFETY: null, or alive and used by nothing else, because this thread was stopped outside it.
    let watch = unsafe { watch.as_mut() };
    let Some(watch) = watch.filter(|watch| (watch.page..watch.page + watch.len).contains(&address))
    else {
        // A fault of another kind: it happens again, and ends this program.
        // SAFETY: the default action has no handler.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        return;
    };
    let registers = registers(context);
    let is_write = registers[libc::REG_ERR as usize] & WROTE != 0;
    if let Some(place) = watch.noted.get_mut(watch.count) {
        *place = Access { offset: address - watch.page, is_write };
    }
    watch.count += 1;
    open(watch.page, watch.len);
    registers[libc::REG_EFL as usize] |= TRAP;
}

extern "C" fn stepped(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    registers(context)[libc::REG_EFL as usize] &= !TRAP;
    // SAFETY: as in `touched`.
    if let Some(watch) = unsafe { WATCH.get().as_ref() } {
        close(watch.page, watch.len);
    }
}

/// The registers of the code that a signal interrupted.
fn registers<'a>(context: *mut c_void) -> &'a mut [libc::greg_t; 23] {
    // SAFETY: the kernel passes a live `ucontext_t`, which nothing else uses during the handler.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    &mut context.uc_mcontext.gregs
}

fn open(page: usize, len: usize) {
    protect(page, len, libc::PROT_READ | libc::PROT_WRITE);
}

fn close(page: usize, len: usize) {
    protect(page, len, libc::PROT_NONE);
}

fn protect(page: usize, len: usize, how: c_int) {
    // SAFETY: a page of a mapping, which stays mapped; whoever uses it meanwhile gets a fault.
    let done = unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(page), len, how) };
    if done != 0 {
        // SAFETY: has no preconditions, because it ends the process.
        unsafe { libc::abort() };
    }
}
