//! What Linux says of the programs that this test has started, for whoever reads why it failed.
//!
//! ```text
//!   /proc/PID/fdinfo: each ring, what is in flight, and what was not taken
//!   /proc/PID/task: where in the kernel each thread is, worker threads too
//!   /proc/net/tcp: how many bytes wait in each connection
//! ```

use std::fs;

/// Looks at all children of this process.
pub fn whereabouts() -> String {
    let mut text = String::new();
    let ours = format!("/proc/{}/task", std::process::id());
    for thread in names(&ours) {
        for child in ask(&format!("{ours}/{thread}/children")).split_whitespace() {
            text += &of_process(child);
        }
    }
    // Not those that are over, of which there may be thousands (TIME_WAIT).
    let is_there = |line: &&str| line.split_whitespace().nth(3) != Some("06");
    let table = ask("/proc/net/tcp");
    table.lines().filter(is_there).fold(text, |text, line| text + line.trim_end() + "\n")
}

fn of_process(pid: &str) -> String {
    let mut text = format!("{pid}: {}", ask(&format!("/proc/{pid}/comm")));
    for fd in names(&format!("/proc/{pid}/fd")) {
        let says = ask(&format!("/proc/{pid}/fdinfo/{fd}"));
        if says.contains("SqMask") {
            text += &format!("ring {fd}\n{says}");
        }
    }
    for thread in names(&format!("/proc/{pid}/task")) {
        let of = format!("/proc/{pid}/task/{thread}");
        let says = |name: &str| ask(&format!("{of}/{name}"));
        text += &format!("{}{}{}", says("comm"), says("syscall"), says("stack"));
    }
    text
}

/// Empty where it cannot be read.
fn ask(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
