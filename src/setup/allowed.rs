//! What this process is allowed: limits on resources, capabilities, and a seccomp filter.
//!
//! | asked of | for |
//! |---|---|
//! | `getrlimit(2)` | locked memory, address space, open files |
//! | `/proc/thread-self/status` | capabilities (`CapEff:`), and whether a filter is in force (`Seccomp:`) |
//! | `/proc/self/uid_map` | whether a capability counts outside of this user namespace |
//!
//! Asked only after the kernel has refused. Leaves to others: what it refused (`setup_error`).
#![allow(unsafe_code, reason = "asks for resource limits")]

use std::fs;

/// Whether a seccomp filter is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the name says it")]
pub enum Filter {
    Present,
    Absent,
}

/// Whether this thread runs under a seccomp filter.
pub(crate) fn seccomp_filter() -> Filter {
    if status("Seccomp:").as_deref() == Some("2") { Filter::Present } else { Filter::Absent }
}

/// Whether this thread has `CAP_SYS_ADMIN`.
pub(super) fn is_privileged() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    has_capability(CAP_SYS_ADMIN)
}

fn has_capability(number: u32) -> bool {
    let capabilities = status("CapEff:").and_then(|hex| u64::from_str_radix(&hex, 16).ok());
    capabilities.is_some_and(|bits| bits & 1 << number != 0)
}

/// The line of this thread's status that begins with `name`, without the name.
fn status(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// The limit `RLIMIT_MEMLOCK`, if it applies to this thread. The memory of this user's other rings
/// counts too, and we cannot ask how much that is. So where there is a limit we suspect it first;
/// where there is none, memory itself has run out.
pub(crate) fn memory_lock_limit() -> Option<u64> {
    let limit = limit_of(libc::RLIMIT_MEMLOCK);
    (limit != u64::MAX && !locks_freely()).then_some(limit)
}

/// Whether this thread has `CAP_IPC_LOCK` in the initial user namespace, which is where the kernel
/// checks for it.
fn locks_freely() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let outside = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    outside && has_capability(CAP_IPC_LOCK)
}

pub(crate) fn limit_of(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live `struct rlimit`, because it is a local.
    let result = unsafe { libc::getrlimit(resource, &raw mut limit) };
    assert!(result == 0, "getrlimit knows the resources that libc names");
    limit.rlim_cur
}
