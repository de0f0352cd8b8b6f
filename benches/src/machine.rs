//! The machine: what a figure depends on, and a reader needs to know.

use std::fs;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lines for the head of a table.
pub fn lines() -> Vec<String> {
    let name = rustix::system::uname();
    let kernel = name.release().to_string_lossy().into_owned();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    vec![
        format!("kernel {kernel}, {}, {cpus} processors", model()),
        format!("mitigations: {}", mitigations()),
        format!("{}, release, no LTO", rustc.unwrap_or_else(|_| String::from("rustc unknown"))),
    ]
}

/// Raises the limit of descriptors as far as it goes, and says how many there may be.
pub fn descriptors() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |at| at.1.to_owned())
}

/// The mitigations that are on: they decide what a system call costs.
fn mitigations() -> String {
    let folder = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let mut on: Vec<String> = folder
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| {
            let text = fs::read_to_string(file.path()).ok()?;
            let how = text.trim().strip_prefix("Mitigation: ")?.to_owned();
            let how = how.split([';', ',']).next().unwrap_or_default().to_owned();
            Some(format!("{} ({how})", file.file_name().to_string_lossy()))
        })
        .collect();
    on.sort_unstable();
    if on.is_empty() { String::from("none known") } else { on.join(", ") }
}
