//! The rings of other processes, as `/proc/PID/fdinfo` describes them.
//!
//! | field | |
//! |---|---|
//! | `SqMask` `SqHead` `SqTail`, `Cq..` | sizes and indices; newer kernels also list the entries between |
//! | `PollList` | requests that wait for a file to be ready; other ones in flight are not listed |
//! | `CqOverflowList` | completions that found no room |
//! | `SqThread` | the polling thread; -1 if there is none, or none any more |
//!
//! Nothing here blocks or stops the process: the files are read as they are. A process may end
//! meanwhile, and then its rings are left out; one of another user cannot be read, and is counted.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What a ring's file says. Fields that an older kernel does not have are 0 or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    pub sq_entries: u32,
    pub sq_head: u32,
    pub sq_tail: u32,
    pub cq_entries: u32,
    pub cq_head: u32,
    pub cq_tail: u32,
    /// The operations of the entries that are published, oldest first.
    pub pending: Vec<String>,
    /// The results of the completions to take.
    pub unread: Vec<i32>,
    pub polls: usize,
    pub overflow: usize,
    pub thread: Option<u32>,
}

/// A ring of a process.
#[derive(Debug, Clone)]
pub struct Found {
    pub pid: u32,
    pub command: String,
    pub fd: u32,
    pub info: Info,
    /// What the polling thread does: the letter of its state, `R` or `S`.
    pub thread_state: Option<char>,
}

/// What was found, and what was not.
#[derive(Debug, Default)]
pub struct Survey {
    pub rings: Vec<Found>,
    /// How many processes there were that may not be read.
    pub barred: usize,
}

/// The rings of all processes, by their numbers.
pub fn of_machine() -> Survey {
    let mut survey = Survey::default();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = pids.collect();
    pids.sort_unstable();
    for pid in pids {
        match of_process(pid) {
            Ok(rings) => survey.rings.extend(rings),
            Err(ErrorKind::PermissionDenied) => survey.barred += 1,
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    survey
}

/// The rings of one process.
///
/// # Errors
///
/// It may not be read, or there is no such process.
pub fn of_process(pid: u32) -> Result<Vec<Found>, ErrorKind> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(folder).map_err(|error| error.kind())?;
    let mut fds: Vec<u32> = entries
        .flatten()
        .filter(|entry| is_ring(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let command = command.trim().to_owned();
    let found = fds.into_iter().filter_map(|fd| {
        // The descriptor may be closed by now.
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let info = parse(&text);
        let thread_state = info.thread.and_then(|thread| state_of(pid, thread));
        Some(Found { pid, command: command.clone(), fd, info, thread_state })
    });
    Ok(found.collect())
}

fn is_ring(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.as_os_str() == "anon_inode:[io_uring]")
}

/// The state of a thread; `None` if it is gone.
fn state_of(pid: u32, thread: u32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    // The name before it may hold anything, even a parenthesis.
    text.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Reads the text of a ring's file.
pub fn parse(text: &str) -> Info {
    let mut info = Info::default();
    let mut list = "";
    for line in text.lines() {
        if line.starts_with(' ') {
            match list {
                "SQEs" => info.pending.extend(field(line, "opcode:").map(str::to_lowercase)),
                "CQEs" => {
                    info.unread.extend(field(line, "res:").and_then(|res| res.parse::<i32>().ok()));
                }
                "PollList" => info.polls += 1,
                "CqOverflowList" => info.overflow += 1,
                _ => {}
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        list = name;
        let value = value.trim();
        let number = value
            .strip_prefix("0x")
            .map_or_else(|| value.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
        match (name, number) {
            ("SqMask", Some(mask)) => info.sq_entries = mask.wrapping_add(1),
            ("CqMask", Some(mask)) => info.cq_entries = mask.wrapping_add(1),
            ("SqHead", Some(index)) => info.sq_head = index,
            ("SqTail", Some(index)) => info.sq_tail = index,
            ("CqHead", Some(index)) => info.cq_head = index,
            ("CqTail", Some(index)) => info.cq_tail = index,
            ("SqThread", thread) => info.thread = thread,
            _ => {}
        }
    }
    info
}

/// The word after a name.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = &line[line.find(name)? + name.len()..];
    Some(rest.split([',', ' ']).next().unwrap_or(rest))
}

impl Info {
    /// Entries that were published and not consumed.
    pub fn pending_count(&self) -> u32 {
        self.sq_tail.wrapping_sub(self.sq_head)
    }

    /// Completions that were posted and not taken.
    pub fn unread_count(&self) -> u32 {
        self.cq_tail.wrapping_sub(self.cq_head)
    }
}

impl Found {
    /// What its polling thread does, in a word.
    pub fn thread(&self) -> String {
        match (self.info.thread, self.thread_state) {
            (None, _) => "-".into(),
            (Some(thread), Some('S' | 'I')) => format!("{thread} sleeps"),
            (Some(thread), Some('Z' | 'X') | None) => format!("{thread} is dead"),
            (Some(thread), Some(_)) => format!("{thread} runs"),
        }
    }
}

/// A table of rings, and what could not be read.
pub fn table(survey: &Survey) -> String {
    let mut text = format!(
        "{:>7} {:<15} {:>4} {:>6} {:>6} {:>7} {:>6} {:>8} {:>5}  {}\n",
        "PID", "COMMAND", "FD", "SQ", "CQ", "PENDING", "UNREAD", "OVERFLOW", "POLLS", "THREAD"
    );
    for found in &survey.rings {
        let Found { pid, command, fd, info, .. } = found;
        text += &format!(
            "{pid:>7} {command:<15} {fd:>4} {:>6} {:>6} {:>7} {:>6} {:>8} {:>5}  {}\n",
            info.sq_entries,
            info.cq_entries,
            info.pending_count(),
            info.unread_count(),
            info.overflow,
            info.polls,
            found.thread()
        );
    }
    let rings = survey.rings.len();
    text += &format!("{rings} {}", if rings == 1 { "ring" } else { "rings" });
    if survey.barred > 0 {
        let what = if survey.barred == 1 { "process" } else { "processes" };
        text += &format!("; {} {what} of others could not be read", survey.barred);
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.18 says of a ring of 2 and 4 entries.
    const FULL: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t22812583\nSqMask:\t0x1\n\
        SqHead:\t7\nSqTail:\t8\nCachedSqHead:\t7\nCqMask:\t0x3\nCqHead:\t0\nCqTail:\t4\n\
        CachedCqTail:\t4\nSQEs:\t1\n    1: opcode:NOP, fd:-1, flags:0, off:0, addr:0x0, \
        rw_flags:0x0, buf_index:0 user_data:78\nCQEs:\t2\n    0: user_data:77, res:-4, flag:0\n    \
        1: user_data:78, res:9, flag:0\nSqThread:\t-1\nSqThreadCpu:\t-1\nPollList:\n  op=6, \
        task_works=0\nCqOverflowList:\n  user_data=77, res=0, flags=0\n  user_data=78, res=0, \
        flags=0\nNAPI:\tdisabled\n";

    #[test]
    fn every_field_is_read() {
        let info = parse(FULL);
        assert_eq!((info.sq_entries, info.cq_entries), (2, 4));
        assert_eq!((info.pending_count(), info.unread_count()), (1, 4));
        assert_eq!((info.pending, info.unread), (vec!["nop".into()], vec![-4, 9]));
        assert_eq!((info.polls, info.overflow, info.thread), (1, 2, None));
        assert_eq!(parse("SqThread:\t311\n").thread, Some(311));
        assert_eq!(parse("nonsense"), Info::default());
    }

    #[test]
    fn who_is_not_there_is_an_error_and_no_panic() {
        assert_eq!(of_process(u32::MAX).err(), Some(ErrorKind::NotFound));
    }
}
