//! One message in, N out, as WebSocket frames over the loopback device: the example `ws_fanout`
//! beside two servers on tokio.
//!
//! ```text
//!   this process: clients, CPU 1  ── N connections ──►  a child of one thread: the server, CPU 0
//!      one of them says 64 bytes; all must get them, in one order, before it says the next
//! ```
//!
//! A delivery is one message to one client. The server's CPU time comes first, as the kernel
//! counts it; then its system calls, as a tracer counts them, in a run of their own. The clients
//! are those of every server, and compare every byte.

mod calls;
mod client;
mod servers;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use crate::machine;
use crate::measure::{Spread, on_processor};
use crate::table::Form;
use calls::Calls;
use client::{BYTES, Clients};
pub use servers::run as serve;

/// What to measure.
pub struct Plan {
    /// How many connections.
    pub clients: Vec<usize>,
    /// How many messages are under way.
    pub windows: Vec<usize>,
    pub time: Duration,
    pub samples: u32,
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Ours,
    SameFrames,
    Tungstenite,
}

const KINDS: [Kind; 3] = [Kind::Ours, Kind::SameFrames, Kind::Tungstenite];

/// Descriptors for all but the sockets.
const SPARE: u64 = 64;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "annulus, ws_fanout",
            Self::SameFrames => "tokio, same frames",
            Self::Tungstenite => "tokio-tungstenite",
        }
    }
}

/// A server in a process of its own, which is killed at the end.
struct Server {
    child: Child,
    address: SocketAddr,
    /// So that it may speak as long as it runs.
    _said: BufReader<ChildStdout>,
}

impl Server {
    fn start(kind: Kind, ours: &Path, clients: usize) -> Self {
        let mut command = if kind == Kind::Ours {
            let mut command = Command::new(ours);
            command.args(["127.0.0.1:0", "--clients", &clients.to_string()]);
            command
        } else {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            let value = kind.to_possible_value().expect("none is hidden");
            command.args(["serve-fanout", value.get_name()]);
            command
        };
        let pinned = on_processor(0); // Which the child inherits.
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        drop(pinned);
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("it is a pipe"));
        said.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening on ").and_then(|at| at.parse().ok());
        Self { child, address: address.expect("an address"), _said: said }
    }

    /// The CPU time of its only thread, in seconds.
    fn cpu(&self) -> f64 {
        let folder = PathBuf::from(format!("/proc/{}", self.child.id()));
        let threads = std::fs::read_dir(folder.join("task")).expect("it runs").count();
        assert_eq!(threads, 1, "a server for one core");
        let ran = std::fs::read_to_string(folder.join("schedstat")).expect("it runs");
        let ran: f64 = ran.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number");
        ran / 1e9
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one run found, for each delivery.
struct Sample {
    cpu_us: f64,
    /// System calls, if they can be counted here.
    calls: Option<f64>,
    rate: f64,
}

/// A server with so many clients.
struct Row {
    kind: Kind,
    cpu_us: Spread,
    calls: Option<f64>,
    rate: f64,
}

pub fn run(plan: &Plan, form: Form) -> Result<(), String> {
    let ours = crate::copy::example("ws_fanout")?.ok_or("there is no example ws_fanout")?;
    let most = usize::try_from(machine::descriptors().saturating_sub(SPARE)).unwrap_or(usize::MAX);
    let (mut sections, mut notes) = (Vec::new(), Vec::new());
    if form == Form::Table {
        println!("A message of {BYTES} bytes to N clients over loopback, as WebSocket frames");
        machine::lines().iter().for_each(|line| println!("{line}"));
    }
    for &wanted in &plan.clients {
        let clients = wanted.min(most);
        if clients < wanted {
            notes.push(format!("{clients} clients in place of {wanted}: RLIMIT_NOFILE"));
        }
        for &window in &plan.windows {
            let rows = section(plan, &ours, clients, window);
            match form {
                Form::Table => print(clients, window, &rows),
                Form::Json => sections.push(json!({
                    "clients": clients,
                    "under_way": window,
                    "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
                })),
            }
        }
    }
    match form {
        Form::Table => notes.iter().for_each(|note| println!("{note}")),
        Form::Json => {
            let machine = machine::lines();
            println!("{:#}", json!({ "machine": machine, "sections": sections, "notes": notes }));
        }
    }
    Ok(())
}

/// The samples of each server, which take turns.
fn section(plan: &Plan, ours: &Path, clients: usize, window: usize) -> Vec<Row> {
    let mut samples: Vec<Vec<Sample>> = KINDS.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.samples {
        for (kind, samples) in KINDS.into_iter().zip(&mut samples) {
            samples.push(sample(kind, ours, clients, window, plan.time));
        }
    }
    KINDS.into_iter().zip(samples).map(|(kind, samples)| Row::of(kind, &samples)).collect()
}

fn sample(kind: Kind, ours: &Path, clients: usize, window: usize, time: Duration) -> Sample {
    let server = Server::start(kind, ours, clients);
    let _pinned = on_processor(1);
    let mut clients = Clients::connect(server.address, clients, window);
    clients.run(time / 4);
    let before = server.cpu();
    let heard = clients.run(time);
    let cpu = server.cpu() - before;
    let deliveries = heard.deliveries.max(1) as f64;
    let calls = match Calls::of(server.child.id()) {
        Ok(calls) => {
            clients.run(time / 8);
            let before = calls.count();
            let heard = clients.run(time / 2);
            Some((calls.count() - before) / heard.deliveries.max(1) as f64)
        }
        Err(error) => {
            eprintln!("system calls cannot be counted: {error}");
            None
        }
    };
    Sample { cpu_us: cpu * 1e6 / deliveries, calls, rate: deliveries / heard.time.as_secs_f64() }
}

impl Row {
    fn of(kind: Kind, samples: &[Sample]) -> Self {
        let spread = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value).collect());
        let calls: Vec<f64> = samples.iter().filter_map(|sample| sample.calls).collect();
        Self {
            kind,
            cpu_us: spread(|sample| sample.cpu_us),
            calls: (!calls.is_empty()).then(|| Spread::of(calls).median),
            rate: spread(|sample| sample.rate).median,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "server": self.kind.name(),
            "cpu_us_per_delivery": [self.cpu_us.low, self.cpu_us.median, self.cpu_us.high],
            "calls_per_delivery": self.calls,
            "deliveries_per_second": self.rate,
        })
    }
}

fn print(clients: usize, window: usize, rows: &[Row]) {
    println!("\n{clients} clients, {window} under way");
    println!(
        "| server             | CPU µs/delivery | middle half   | calls/delivery | deliveries/s |"
    );
    println!(
        "|--------------------|----------------:|--------------:|---------------:|-------------:|"
    );
    for Row { kind, cpu_us, calls, rate } in rows {
        let half = format!("{:.2} – {:.2}", cpu_us.low, cpu_us.high);
        let calls = calls.map_or_else(|| "–".to_owned(), |calls| format!("{calls:.4}"));
        println!(
            "| {:<18} | {:>15.2} | {half:>13} | {calls:>14} | {rate:>12.0} |",
            kind.name(),
            cpu_us.median
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::KINDS;

    /// A row of what `annulus-bench ws-fanout --json` printed when docs/PERFORMANCE.md was written.
    struct Found {
        clients: u64,
        under_way: u64,
        server: String,
        cpu: [f64; 3],
        calls: f64,
    }

    fn measured() -> Vec<Found> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance/ws_fanout.json");
        let text = fs::read_to_string(path).expect("the figures are there");
        let found: Value = serde_json::from_str(&text).expect("what `--json` prints");
        let rows = |section: &Value| {
            let count = |name| section[name].as_u64().expect("a count");
            let (clients, under_way) = (count("clients"), count("under_way"));
            let row = move |row: &Value| Found {
                clients,
                under_way,
                server: row["server"].as_str().expect("a name").to_owned(),
                cpu: [0, 1, 2].map(|at| row["cpu_us_per_delivery"][at].as_f64().expect("a time")),
                calls: row["calls_per_delivery"].as_f64().expect("a ratio"),
            };
            section["rows"].as_array().expect("rows").iter().map(row).collect::<Vec<_>>()
        };
        found["sections"].as_array().expect("sections").iter().flat_map(rows).collect()
    }

    #[test]
    fn the_published_table_has_the_figures_of_one_run() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PERFORMANCE.md");
        let page = fs::read_to_string(path).expect("the page is there");
        for Found { clients, under_way, server, cpu: [low, median, high], calls } in measured() {
            let clients = match clients {
                0..1000 => clients.to_string(),
                _ => format!("{},{:03}", clients / 1000, clients % 1000),
            };
            let row = format!(
                "| {clients} | {under_way} | {server} | {median:.2} | {low:.2} to {high:.2} | \
                 {calls:.4} |"
            );
            assert!(page.contains(&row), "docs/PERFORMANCE.md lacks the row\n{row}");
        }
    }

    #[test]
    fn the_ring_saves_calls_always_and_time_with_many_clients() {
        for rows in measured().chunks(KINDS.len()) {
            let [ours, others @ ..] = rows else { panic!("three servers") };
            assert_eq!(ours.server, "annulus, ws_fanout");
            for other in others {
                let (what, clients) = (&other.server, other.clients);
                assert!(ours.calls * 10.0 < other.calls, "{what}, {clients} clients");
                let is_clear = ours.cpu[2] < other.cpu[0];
                assert!(is_clear || clients == 100, "{what}, {clients} clients");
            }
        }
    }

    #[test]
    fn with_many_messages_under_way_a_delivery_costs_a_fifth_at_most() {
        let rows = measured();
        for one in rows.iter().filter(|row| row.under_way == 1) {
            let many = rows.iter().find(|row| {
                (row.under_way, row.clients, &row.server) == (16, one.clients, &one.server)
            });
            let many = many.expect("the other row");
            assert!(many.cpu[1] * 5.0 < one.cpu[1], "{}, {} clients", one.server, one.clients);
        }
    }
}
