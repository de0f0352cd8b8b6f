//! What io_uring is on this machine, and what one ring does: a file, an echo, and a look inside.
//!
//! | | shows | look at |
//! |---|---|---|
//! | 1 | what this kernel can do | what `Setup::new` made of it |
//! | 2 | a file, read by many reads at once | how few times the kernel was entered |
//! | 3 | an echo with both ends on the ring | how few times the kernel was entered |
//! | 4 | both rings at four moments | who owns a slot, and what moves when |
//! | 5 | the cost | enters per request |
//!
//! Nothing here is `unsafe`: the ring owns buffers and files while the kernel uses them (the file),
//! or borrows them for the time of a scope (the echo).
//!
//! Linux 5.10. Newer features are used where the kernel has them: SOCKET from 5.19, registered ring
//! descriptors from 5.18. A ring of 16 entries fits a locked-memory limit of 64 KiB, the default of
//! old kernels.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use annulus::op::Nop;
use annulus::raw::capabilities::Source as LearnedBy;
use annulus::sys::flags::SetupFlags;
use annulus::sys::index::Entries;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Capabilities, Ring, Setup};
use clap::Parser;
use support::echo::{self, Connection};
use support::picture::picture;
use support::reading::{BLOCK, Source};
use support::{Failure, Page};

mod support;

/// Shows what io_uring can do here, reads a file through a ring, echoes over TCP,
/// and draws the rings at work.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// The file to read; else the source of this program
    path: Option<PathBuf>,
    /// Print CPU time per request, too
    #[arg(long)]
    stats: bool,
}

/// Submission entries of the ring; as many blocks of the file are in flight at once.
const DEPTH: u32 = 16;
/// How often the echo goes there and back.
const ROUNDS: u8 = 100;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    // First the checks that can fail at once: whether the file can be read, and whether there is a
    // ring.
    let source = match arguments.path {
        Some(path) => Source::open(&path)?,
        None => Source::open_our_own("quickstart.rs")?,
    };
    let here = Capabilities::detect()?;
    let mut ring = Setup::new(DEPTH).build()?;
    let before = support::cpu_time();

    show_kernel(page, &here)?;
    show_ring(page, &mut ring)?;
    read_file(page, &mut ring, &here, &source)?;
    run_echo(page, &mut ring, &here)?;
    show_moments(page)?;

    let (stats, cpu) = (ring.stats(), support::cpu_time() - before);
    writeln!(page, "\n5. What it took (the ring of parts 2 and 3)\n")?;
    writeln!(
        page,
        "   {} enters, {} SQEs, {} CQEs: {} enters per request",
        stats.enters,
        stats.sqes,
        stats.cqes,
        ratio(stats.enters, stats.sqes)
    )?;
    if arguments.stats {
        writeln!(page, "   {}", support::stats_line(stats, stats.sqes, cpu))?;
    }
    Ok(())
}

/// Part 1: what this kernel can do.
fn show_kernel(page: &mut Page, here: &Capabilities) -> Result<(), Failure> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    let release = release.unwrap_or_else(|_| "of an unknown release".into());
    writeln!(page, "1. This kernel: Linux {}\n", release.trim())?;

    let features: Vec<_> = here.features().iter_names().map(|(name, _)| name).collect();
    page.list("   features      ", &features)?;

    let ops = Opcode::ALL.iter().map(|&op| (op.name(), here.has_op(op)));
    show_count(page, "   operations    ", ops)?;
    let calls = RegisterOp::ALL.iter().map(|&op| (op.name(), here.has_register(op)));
    show_count(page, "   register calls", calls)?;

    let (have, lack): (Vec<_>, Vec<_>) =
        SetupFlags::all().iter_names().partition(|(_, flag)| here.setup_flags().contains(*flag));
    let names = |flags: Vec<(&'static str, SetupFlags)>| -> Vec<&'static str> {
        flags.into_iter().map(|(name, _)| name).collect()
    };
    page.list("   set-up flags  yes:", &names(have))?;
    if !lack.is_empty() {
        page.list("                 no: ", &names(lack))?;
    }
    let by = match here.source() {
        LearnedBy::Asked => "by asking the kernel (REGISTER_QUERY)",
        LearnedBy::Tried => "by trying each; no version number was asked",
    };
    writeln!(page, "   learned        {by}")
}

/// How many of `facts` are true, and which are not, if they are few.
fn show_count(
    page: &mut Page,
    label: &str,
    facts: impl Iterator<Item = (Option<&'static str>, bool)>,
) -> Result<(), Failure> {
    let (have, lack): (Vec<_>, Vec<_>) = facts.partition(|(_, has)| *has);
    let mut words = vec![format!("{} of {}", have.len(), have.len() + lack.len())];
    if (1..=6).contains(&lack.len()) {
        words.push("without".into());
        words.extend(lack.iter().filter_map(|(name, _)| name.map(String::from)));
    }
    page.list(label, &words)
}

/// Part 1, continued: the features that `Setup::new` chose.
fn show_ring(page: &mut Page, ring: &mut Ring) -> Result<(), Failure> {
    let flags: Vec<_> = ring.flags().iter_names().map(|(name, _)| name).collect();
    let none = ["none"];
    page.list("   Setup::new    ", if flags.is_empty() { &none } else { &flags })?;
    writeln!(
        page,
        "   sizes          {} submission slots, {} completion slots",
        ring.raw().sq_entries(),
        ring.raw().cq_entries()
    )?;
    match ring.register_ring_fd() {
        Ok(()) => writeln!(page, "   descriptor     registered, so that entering needs no look-up"),
        Err(_) => writeln!(page, "   descriptor     not registered: that needs Linux 5.18"),
    }
}

/// Part 2: a file, by many reads at once.
fn read_file(
    page: &mut Page,
    ring: &mut Ring,
    here: &Capabilities,
    source: &Source,
) -> Result<(), Failure> {
    if !here.has_op(Opcode::READ) {
        return Err(Failure::Failed("this kernel has no READ: it needs Linux 5.6".into()));
    }
    writeln!(page, "\n2. A file, read through the ring\n")?;
    writeln!(page, "   path           {}", source.path().display())?;
    let before = ring.stats().enters;
    let report = source.read(ring, DEPTH as usize)?;
    let enters = ring.stats().enters - before;
    writeln!(page, "   bytes          {}", report.bytes)?;
    writeln!(
        page,
        "   reads          {}, of at most {} KiB, up to {DEPTH} at once; {enters} enters",
        report.reads,
        BLOCK >> 10
    )?;
    writeln!(page, "   contents       {}", report.verdict)?;
    writeln!(page, "   checksum       {:016x}", report.checksum)
}

/// Part 3: an echo with both ends on the ring.
fn run_echo(page: &mut Page, ring: &mut Ring, here: &Capabilities) -> Result<(), Failure> {
    writeln!(page, "\n3. An echo over TCP, both ends on this ring\n")?;
    let failed = |failure| match failure {
        Failure::Failed(what) => Failure::of("the echo failed", what),
        other => other,
    };
    let connection = Connection::open(ring, here).map_err(failed)?;
    writeln!(page, "   connected by   {}", connection.made_by)?;
    let before = ring.stats();
    connection.exchange(ring, ROUNDS).map_err(failed)?;
    let after = ring.stats();
    writeln!(
        page,
        "   exchanged      {ROUNDS} messages of {} bytes there and back, every byte checked",
        echo::MESSAGE
    )?;
    let (requests, enters) = (after.sqes - before.sqes, after.enters - before.enters);
    writeln!(page, "   requests       {requests} sends and receives; {enters} enters")
}

// ANCHOR: moments
/// Part 4: three NOPs, and three more, on a ring of four slots.
fn show_moments(page: &mut Page) -> Result<(), Failure> {
    writeln!(page, "\n4. Two rings at four moments, three NOPs long")?;
    writeln!(page, "   (us, kernel: who may touch the slot; h, t, w: head, tail, written)")?;
    let mut ring = Setup::new(4).build()?;
    let tickets = [ring.submit(Nop)?, ring.submit(Nop)?, ring.submit(Nop)?];
    show_moment(page, &ring, "submitted: three slots are written, and the kernel sees none of it")?;
    support::submit_and_wait(&mut ring, 3)?;
    show_moment(page, &ring, "entered: the kernel took the entries and posted completions")?;
    let reaped = ring.reap(|_| ())?;
    show_moment(page, &ring, "reaped: the completions are copied out, their slots given back")?;
    if reaped != 3 || tickets.into_iter().any(|ticket| ring.try_take(ticket).is_err()) {
        return Err(Failure::Failed(format!("3 NOPs had {reaped} completions")));
    }
    for _ in 0..3 {
        let again = ring.submit(Nop)?;
        ring.detach(again);
    }
    show_moment(page, &ring, "submitted again: the indices go on, and the slots come round")
}
// ANCHOR_END: moments

fn show_moment(page: &mut Page, ring: &Ring, caption: &str) -> Result<(), Failure> {
    let ring = ring.raw();
    let sizes = Entries::new(ring.sq_entries()).zip(Entries::new(ring.cq_entries()));
    let (sq, cq) = sizes.expect("SQ2, CQ2: the sizes are powers of two");
    writeln!(page, "\n   {caption}\n{}", picture(&ring.positions(), sq, cq).trim_end())
}

/// A quotient with two digits.
fn ratio(of: u64, to: u64) -> String {
    let hundredths = of * 100 / to.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
