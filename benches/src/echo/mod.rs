//! The echo benchmark: a server on one processor, its clients on another, over the loopback device.
//!
//! ```text
//!   this process: clients, CPU 1  ── 1 to 1,000 connections ──►  a child: the server, CPU 0
//!      each sends so many bytes, waits for all of them back, compares them, sends again
//! ```
//!
//! The server's CPU time comes first, for each answer: all of its threads, and those that the
//! kernel adds. The clients find out how fast it is; they share nothing with it but the network.
//! System calls are those that the server counts itself (`calls`): `–` if its library hides them.
//! A second table has what a million answers take: CPU time and calls of the server, and the energy
//! of the machine, clients included, where its meters can be read.

mod bundles;
mod calls;
mod client;
mod ladder;
#[cfg(feature = "peers")]
mod peers;
mod servers;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::energy::Meters;
use crate::machine;
use crate::measure::on_processor;
use crate::table::Form;
pub use servers::Kind;

/// What to measure.
pub struct Plan {
    pub connections: Vec<u32>,
    pub bytes: Vec<usize>,
    pub kinds: Vec<Kind>,
    pub time: Duration,
    pub samples: u32,
}

/// A server in a process of its own, which is killed at the end.
struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(kind: Kind, bytes: usize) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["serve", &kind.name(), &bytes.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("it is a pipe"));
        said.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { child, said, address }
    }

    /// How many system calls it has made, if it counts them.
    fn calls(&mut self) -> f64 {
        let asked = self.child.stdin.as_mut().expect("it is a pipe");
        asked.write_all(b"\n").expect("it listens");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it answers");
        line.trim().parse().expect("a number")
    }

    /// The CPU time of all its threads, and how often they were switched out.
    fn used(&self) -> Used {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let mut used = Used::default();
        for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let ran = read("schedstat");
            used.cpu += ran.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0);
            let switches = read("status");
            let counts = switches.lines().filter_map(|line| line.split_once("ctxt_switches:"));
            used.switches += counts.filter_map(|at| at.1.trim().parse::<f64>().ok()).sum::<f64>();
        }
        used
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Used {
    cpu: f64,
    switches: f64,
}

/// One row.
struct Row {
    kind: Kind,
    cpu: f64,
    switches: f64,
    /// System calls for each answer, if the server counts them.
    calls: Option<f64>,
    rate: f64,
    half: f64,
    slowest: f64,
    /// Joules for each answer, of the whole machine, if its meters can be read.
    joules: Option<f64>,
}

/// Serves as `kind`, until it is killed.
pub fn serve(kind: Kind, bytes: usize) -> ! {
    let _pinned = on_processor(0);
    servers::run(kind, bytes)
}

pub fn run(plan: &Plan, form: Form) {
    let mut sections = Vec::new();
    let meters = Meters::here();
    if form == Form::Table {
        println!("Echoes over loopback: server on one processor, clients on another");
        machine::lines().iter().for_each(|line| println!("{line}"));
    }
    for &bytes in &plan.bytes {
        for &connections in &plan.connections {
            let rows = section(plan, connections, bytes, meters.as_ref().ok());
            let name = format!("{connections} connections × {bytes} bytes");
            match form {
                Form::Table => {
                    print(&name, &rows);
                    print_millions(&rows, meters.as_ref().err());
                }
                Form::Json => sections.push(json!({
                    "name": name,
                    "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
                })),
            }
        }
    }
    if form == Form::Json {
        println!("{:#}", json!({ "machine": machine::lines(), "sections": sections }));
    }
}

/// The median of the samples of each server, which take turns.
fn section(plan: &Plan, connections: u32, bytes: usize, meters: Option<&Meters>) -> Vec<Row> {
    let mut samples: Vec<Vec<Row>> = plan.kinds.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.samples {
        for (at, &kind) in plan.kinds.iter().enumerate() {
            samples[at].push(sample(kind, connections, bytes, plan.time, meters));
        }
    }
    let median = |mut rows: Vec<Row>| {
        rows.sort_by(|one, other| one.cpu.total_cmp(&other.cpu));
        rows.swap_remove(rows.len() / 2)
    };
    samples.into_iter().map(median).collect()
}

fn sample(
    kind: Kind,
    connections: u32,
    bytes: usize,
    time: Duration,
    meters: Option<&Meters>,
) -> Row {
    let mut server = Server::start(kind, bytes);
    let _pinned = on_processor(1);
    let mut clients =
        client::Clients::connect(server.address, connections, bytes, kind.answer(bytes));
    clients.run(time / 4);
    let (called, before) = (server.calls(), server.used());
    let energy = || meters.and_then(Meters::read);
    let full = energy();
    let answers = clients.run(time);
    let joules = full.zip(energy()).zip(meters).map(|((a, b), meters)| meters.joules(&a, &b));
    let (used, calls) = (server.used(), server.calls() - called);
    let count = answers.count.max(1) as f64;
    Row {
        kind,
        cpu: (used.cpu - before.cpu) / 1000.0 / count,
        switches: (used.switches - before.switches) / count,
        calls: (calls > 0.0).then_some(calls / count),
        rate: count / answers.time.as_secs_f64(),
        half: answers.at(0.5),
        slowest: answers.at(0.99),
        joules: joules.map(|joules| joules / count),
    }
}

fn print(name: &str, rows: &[Row]) {
    println!("\n{name}");
    let titles = "CPU µs/answer | calls/answer | switches/answer | answers/s |   p50 µs |   p99 µs";
    println!("| {:<30} | {titles} |", "server");
    let lines = "-------------:|-------------:|----------------:|----------:|---------:|---------:";
    println!("|{:-<32}|{lines}|", "");
    for Row { kind, cpu, switches, calls, rate, half, slowest, .. } in rows {
        let name = kind.name();
        let calls = calls.map_or_else(|| "–".to_owned(), |calls| format!("{calls:.3}"));
        println!(
            "| {name:<30} | {cpu:>13.2} | {calls:>12} | {switches:>15.3} | {rate:>9.0} | \
             {half:>8.0} | {slowest:>8.0} |"
        );
    }
    if rows.iter().any(|row| row.kind == Kind::Epoll2020) {
        println!("epoll-2020 sends twice the bytes it got, by mistake: a reminder, no contender.");
    }
}

/// What a million answers take.
fn print_millions(rows: &[Row], no_meters: Option<&String>) {
    println!("\n| {:<30} | CPU seconds | system calls |  joules |", "for a million answers");
    println!("|{:-<32}|------------:|-------------:|--------:|", "");
    let unknown = || "–".to_owned();
    for Row { kind, cpu, calls, joules, .. } in rows {
        let name = kind.name();
        let calls = calls.map_or_else(unknown, |calls| format!("{:.0}", calls * 1e6));
        let joules = joules.map_or_else(unknown, |joules| format!("{:.1}", joules * 1e6));
        println!("| {name:<30} | {cpu:>11.2} | {calls:>12} | {joules:>7} |");
    }
    if let Some(why) = no_meters {
        println!("Energy is not readable here: {why}.");
    }
}

impl Row {
    fn json(&self) -> serde_json::Value {
        json!({
            "server": self.kind.name(),
            "cpu_us_per_answer": self.cpu,
            "switches_per_answer": self.switches,
            "calls_per_answer": self.calls,
            "cpu_seconds_per_million": self.cpu,
            "calls_per_million": self.calls.map(|calls| calls * 1e6),
            "joules_per_million": self.joules.map(|joules| joules * 1e6),
            "answers_per_second": self.rate,
            "p50_us": self.half,
            "p99_us": self.slowest,
        })
    }
}
