//! A table of what was measured, for people or for programs.

use serde_json::json;

use crate::machine;
use crate::measure::Measured;

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Table,
    Json,
}

/// What a benchmark found: sections of rows, each row a contender.
pub struct Report {
    pub title: &'static str,
    /// What one operation is.
    pub unit: &'static str,
    pub sections: Vec<(String, Vec<Measured>)>,
    /// Other facts, a line each.
    pub notes: Vec<String>,
}

impl Report {
    pub fn print(&self, form: Form) {
        match form {
            Form::Table => self.print_table(),
            Form::Json => println!("{:#}", self.json()),
        }
    }

    fn print_table(&self) {
        println!("{}; nanoseconds for each {}", self.title, self.unit);
        machine::lines().iter().for_each(|line| println!("{line}"));
        for (name, rows) in &self.sections {
            println!("\n{name}");
            println!("| {:<34} | CPU time | {:<15} |     wall | rate, M/s |", "", "middle half");
            println!("|{:-<36}|---------:|----------------:|---------:|----------:|", "");
            for Measured { name, cpu, wall } in rows {
                let half = format!("{:.1} – {:.1}", cpu.low, cpu.high);
                let (cpu, wall, rate) = (cpu.median, wall.median, 1e3 / wall.median);
                println!("| {name:<34} | {cpu:>8.1} | {half:>15} | {wall:>8.1} | {rate:>9.2} |");
            }
        }
        self.notes.iter().for_each(|note| println!("{note}"));
    }

    fn json(&self) -> serde_json::Value {
        let row = |one: &Measured| {
            json!({
                "name": one.name,
                "cpu_ns": [one.cpu.low, one.cpu.median, one.cpu.high],
                "wall_ns": [one.wall.low, one.wall.median, one.wall.high],
            })
        };
        let section = |(name, rows): &(String, Vec<Measured>)| {
            let rows: Vec<_> = rows.iter().map(row).collect();
            json!({ "name": name, "rows": rows })
        };
        json!({
            "title": self.title,
            "unit": self.unit,
            "machine": machine::lines(),
            "sections": self.sections.iter().map(section).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}
