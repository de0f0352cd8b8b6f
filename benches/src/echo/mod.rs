//! The echo benchmark: a server on one processor, its clients on another, over the loopback device.
//!
//! ```text
//!   this process: clients, CPU 1  ── 1 to 1,000 connections ──►  a child: the server, CPU 0
//!      each sends so many bytes, waits for all of them back, compares them, sends again
//! ```
//!
//! The server's CPU time comes first, for each answer: all of its threads, and those that the
//! kernel adds. The clients find out how fast it is; they share nothing with it but the network.

mod client;
#[cfg(feature = "peers")]
mod peers;
mod servers;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

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
    address: SocketAddr,
}

impl Server {
    fn start(kind: Kind, bytes: usize) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["serve", &kind.name(), &bytes.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        stdout.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { child, address }
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
    rate: f64,
    half: f64,
    slowest: f64,
}

/// Serves as `kind`, until it is killed.
pub fn serve(kind: Kind, bytes: usize) -> ! {
    let _pinned = on_processor(0);
    servers::run(kind, bytes)
}

pub fn run(plan: &Plan, form: Form) {
    let mut sections = Vec::new();
    if form == Form::Table {
        println!("Echoes over loopback: server on one processor, clients on another");
        machine::lines().iter().for_each(|line| println!("{line}"));
    }
    for &bytes in &plan.bytes {
        for &connections in &plan.connections {
            let rows = section(plan, connections, bytes);
            let name = format!("{connections} connections × {bytes} bytes");
            match form {
                Form::Table => print(&name, &rows),
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
fn section(plan: &Plan, connections: u32, bytes: usize) -> Vec<Row> {
    let mut samples: Vec<Vec<Row>> = plan.kinds.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.samples {
        for (at, &kind) in plan.kinds.iter().enumerate() {
            samples[at].push(sample(kind, connections, bytes, plan.time));
        }
    }
    let median = |mut rows: Vec<Row>| {
        rows.sort_by(|one, other| one.cpu.total_cmp(&other.cpu));
        rows.swap_remove(rows.len() / 2)
    };
    samples.into_iter().map(median).collect()
}

fn sample(kind: Kind, connections: u32, bytes: usize, time: Duration) -> Row {
    let server = Server::start(kind, bytes);
    let _pinned = on_processor(1);
    let mut clients = client::Clients::connect(server.address, connections, bytes);
    clients.run(time / 4);
    let before = server.used();
    let answers = clients.run(time);
    let used = server.used();
    let count = answers.count.max(1) as f64;
    Row {
        kind,
        cpu: (used.cpu - before.cpu) / 1000.0 / count,
        switches: (used.switches - before.switches) / count,
        rate: count / answers.time.as_secs_f64(),
        half: answers.at(0.5),
        slowest: answers.at(0.99),
    }
}

fn print(name: &str, rows: &[Row]) {
    println!("\n{name}");
    let titles = "CPU µs/answer | switches/answer | answers/s |   p50 µs |   p99 µs";
    println!("| {:<30} | {titles} |", "server");
    println!("|{:-<32}|-------------:|----------------:|----------:|---------:|---------:|", "");
    for Row { kind, cpu, switches, rate, half, slowest } in rows {
        let name = kind.name();
        println!(
            "| {name:<30} | {cpu:>12.2} | {switches:>15.3} | {rate:>9.0} | {half:>8.0} | \
             {slowest:>8.0} |"
        );
    }
}

impl Row {
    fn json(&self) -> serde_json::Value {
        json!({
            "server": self.kind.name(),
            "cpu_us_per_answer": self.cpu,
            "switches_per_answer": self.switches,
            "answers_per_second": self.rate,
            "p50_us": self.half,
            "p99_us": self.slowest,
        })
    }
}
