//! The program `fio`, with three of its engines, where it is installed.
//!
//! It says itself how long it took, in milliseconds, and how much of that on a processor, in
//! percent. So each sample has ten times the reads of the others' samples.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Contender, Spent};

use super::BLOCK;

const ENGINES: [(&str, &[&str]); 4] = [
    ("psync", &[]),
    ("libaio", &[]),
    ("io_uring", &[]),
    ("io_uring", &["--fixedbufs", "--registerfiles"]),
];
const LONGER: u64 = 10;

pub struct Fio {
    path: PathBuf,
    direct: bool,
}

impl Fio {
    /// `None` if it is not installed.
    pub fn find(path: &Path, direct: bool) -> Option<Self> {
        let asked = Command::new("fio").arg("--version").output();
        let is_here = asked.is_ok_and(|output| output.status.success());
        is_here.then(|| Self { path: path.to_owned(), direct })
    }

    pub fn contenders(&self, depth: u32) -> Vec<Contender<'_>> {
        let contender = |&(engine, more): &(&'static str, &'static [&'static str])| {
            let fixed = if more.is_empty() { "" } else { ", registered" };
            Contender::reporting(format!("fio, {engine}{fixed}"), move |count| {
                let spent = self.run(engine, more, depth, count * LONGER);
                let share = LONGER as f64;
                Spent { cpu: spent.cpu / share, wall: spent.wall / share }
            })
        };
        ENGINES.iter().map(contender).collect()
    }

    fn run(&self, engine: &str, more: &[&str], depth: u32, count: u64) -> Spent {
        let mut command = Command::new("fio");
        command.args(["--name=read", "--rw=randread", "--norandommap", "--gtod_reduce=1"]);
        command.args(["--invalidate=0", "--output-format=json", "--time_based=0"]);
        command.arg(format!("--filename={}", self.path.display()));
        command.arg(format!("--bs={BLOCK}")).arg(format!("--direct={}", u8::from(self.direct)));
        command.arg(format!("--io_size={}", count * BLOCK as u64));
        command.arg(format!("--ioengine={engine}")).arg(format!("--iodepth={depth}"));
        let output = command.args(more).output().expect("it ran before");
        let text = String::from_utf8_lossy(&output.stdout);
        let from = text.find('{').unwrap_or(0); // Warnings come first.
        let found: serde_json::Value = serde_json::from_str(&text[from..]).unwrap_or_default();
        let job = &found["jobs"][0];
        let figure = |value: &serde_json::Value| value.as_f64();
        let read = (|| {
            let wall = figure(&job["read"]["runtime"])? / 1e3;
            let cpu = wall * (figure(&job["usr_cpu"])? + figure(&job["sys_cpu"])?) / 100.0;
            (job["read"]["total_ios"].as_u64() == Some(count)).then_some(Spent { cpu, wall })
        })();
        let complaint = String::from_utf8_lossy(&output.stderr);
        read.unwrap_or_else(|| panic!("fio with {engine} did not read {count} blocks: {complaint}"))
    }
}
