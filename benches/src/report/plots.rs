//! Which plots a report needs: its sections tell.
//!
//! | sections | plot |
//! |---|---|
//! | several whose names differ in their first number: `batch 1`, `batch 8` | lines over that number |
//! | any other | bars, a plot for each section |

use super::plot::{bars, lines};
use crate::measure::Measured;
use crate::table::Report;

pub struct Plot {
    pub name: String,
    pub svg: String,
}

/// Sections whose names are alike but for a number.
struct Group<'a> {
    /// What stands before and after the number.
    around: (&'a str, &'a str),
    points: Vec<(String, &'a [Measured])>,
}

/// All plots of a report, in the order of its sections.
pub fn of(report: &Report) -> Vec<Plot> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (name, rows) in &report.sections {
        let (around, number) = split(name);
        match groups.iter_mut().find(|group| group.around == around) {
            Some(group) => group.points.push((number.to_owned(), rows)),
            None => groups.push(Group { around, points: vec![(number.to_owned(), rows)] }),
        }
    }
    groups.iter().map(|group| plot(report, group)).collect()
}

fn plot(report: &Report, Group { around: (before, after), points }: &Group<'_>) -> Plot {
    let unit = report.unit;
    if let [(number, rows)] = &points[..] {
        let name = format!("{before}{number}{after}");
        let svg = bars(&format!("{}: {name}", report.title), unit, rows);
        return Plot { name, svg };
    }
    let words = [before.trim(), after.trim()].into_iter().filter(|word| !word.is_empty());
    let axis = words.collect::<Vec<_>>().join(" … ");
    let name = format!("over {axis}");
    let svg = lines(&format!("{}, {name}", report.title), unit, &axis, points);
    Plot { name, svg }
}

/// What stands before and after the first number of a name, and that number.
fn split(name: &str) -> ((&str, &str), &str) {
    let Some(start) = name.find(|letter: char| letter.is_ascii_digit()) else {
        return ((name, ""), "");
    };
    let rest = &name[start..];
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    ((&name[..start], &rest[end..]), &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_name_is_split_at_its_first_number() {
        assert_eq!(split("batch 128"), (("batch ", ""), "128"));
        assert_eq!(split("50 connections × 64 bytes"), (("", " connections × 64 bytes"), "50"));
        assert_eq!(split("no number"), (("no number", ""), ""));
    }
}
