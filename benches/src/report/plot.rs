//! Plots as SVG: bars for the contenders of a section, or lines over sections that differ in a
//! number.
//!
//! ```text
//!   bars    a  ██████▌─┤              lines   ns │ ╲  a
//!           b  ████▌┤                            │  ╲____
//!              └─────────► ns                    └─1──8──32─► batch
//!              the middle half of the samples is a stroke, in both
//! ```
//!
//! Axes start at 0. Text has the colour of the page around it, so that a plot is legible in light
//! and in dark.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::measure::{Measured, Spread};

/// Colours that differ in light and in dark, also for those who see few.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0x33, 0x7A, 0xC4),
    RGBColor(0xE0, 0x7B, 0x1F),
    RGBColor(0x1F, 0x9E, 0x77),
    RGBColor(0xC8, 0x3E, 0x4D),
    RGBColor(0x8A, 0x63, 0xC9),
    RGBColor(0xA8, 0x8A, 0x12),
    RGBColor(0xD0, 0x5F, 0xA8),
    RGBColor(0x2A, 0xA5, 0xB8),
    RGBColor(0x7F, 0x7F, 0x7F),
    RGBColor(0x8C, 0x5A, 0x3C),
];
/// Stands for the colour of the text around the plot, until the picture is done.
const INK: RGBColor = RGBColor(1, 2, 3);
const WIDTH: u32 = 860;
/// The width of the names beside the bars or lines.
const NAMES: i32 = 250;
/// The height of a bar, and the room to the next.
const ROW: i32 = 31;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws with `draw` on a picture so high, whose description is `title`.
fn picture(height: u32, title: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(&area).expect("a string takes everything");
        area.present().expect("a string takes everything");
    }
    let head = format!(
        "role=\"img\" aria-label=\"{}\" style=\"max-width:100%;height:auto\" ",
        super::page::escape(title)
    );
    let svg = svg.replace("#010203", "currentColor").replace("<svg ", &format!("<svg {head}"));
    svg.replace("font-family=\"sans-serif\"", "font-family=\"system-ui, sans-serif\"")
}

/// Bars of the CPU time of `rows`, from above to below; a thin one under each is the wall time.
pub fn bars(title: &str, unit: &str, rows: &[Measured]) -> String {
    let height = ROW * rows.len() as i32;
    picture(height as u32 + 60, title, |area| {
        let scale = Scale::over(rows.iter().flat_map(|row| [&row.cpu, &row.wall]));
        let (left, right) = (NAMES, WIDTH as i32 - 70);
        let x = |value: f64| left + (scale.share(value) * f64::from(right - left)) as i32;
        for value in scale.ticks() {
            line(area, (x(value), 4), (x(value), height + 8), INK.mix(0.15), 1)?;
            write(area, &scale.tick(value), (x(value), height + 14), HPos::Center, VPos::Top)?;
        }
        for (at, Measured { name, cpu, wall }) in rows.iter().enumerate() {
            let (top, colour) = (8 + ROW * at as i32, COLOURS[at % COLOURS.len()]);
            let bar = [(left, top), (x(cpu.median), top + 15)];
            area.draw(&Rectangle::new(bar, colour.filled()))?;
            whisker(area, (x(cpu.low), top + 7), (x(cpu.high), top + 7))?;
            let bar = [(left, top + 17), (x(wall.median), top + 22)];
            area.draw(&Rectangle::new(bar, colour.mix(0.45).filled()))?;
            write(area, name, (left - 8, top + 11), HPos::Right, VPos::Center)?;
            let after = (x(cpu.high.max(wall.median)) + 8, top + 9);
            write(area, &scale.value(cpu.median), after, HPos::Left, VPos::Center)?;
        }
        line(area, (left, 4), (left, height + 8), INK.mix(0.6), 1)?;
        let time = format!("{} for each {unit}: CPU time, and wall time under it", scale.unit());
        write(area, &time, ((left + right) / 2, height + 36), HPos::Center, VPos::Top)
    })
}

/// A line of the CPU time of each contender, over `points`: what stands on the axis, and the rows.
pub fn lines(title: &str, unit: &str, axis: &str, points: &[(String, &[Measured])]) -> String {
    let names = contenders(points);
    let height = 300.max(40 + 20 * names.len() as i32);
    picture(height as u32 + 60, title, |area| {
        let scale = Scale::over(points.iter().flat_map(|point| point.1).map(|row| &row.cpu));
        let (left, right) = (70, WIDTH as i32 - NAMES);
        let y = |value: f64| height - (scale.share(value) * f64::from(height - 30)) as i32;
        let places = places(points);
        let x = |at: usize| left + 30 + (places[at] * f64::from(right - left - 60)) as i32;
        for value in scale.ticks() {
            line(area, (left, y(value)), (right, y(value)), INK.mix(0.15), 1)?;
            write(area, &scale.tick(value), (left - 8, y(value)), HPos::Right, VPos::Center)?;
        }
        for (at, (label, _)) in points.iter().enumerate() {
            line(area, (x(at), height), (x(at), height + 4), INK.mix(0.6), 1)?;
            write(area, label, (x(at), height + 8), HPos::Center, VPos::Top)?;
        }
        line(area, (left, height), (right, height), INK.mix(0.6), 1)?;
        let time = format!("CPU time for each {unit}, {}", scale.unit());
        write(area, &time, (left - 60, 4), HPos::Left, VPos::Top)?;
        let below = ((left + right) / 2, height + 32);
        write(area, axis, below, HPos::Center, VPos::Top)?;
        for (number, name) in names.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let found = points.iter().enumerate().filter_map(|(at, (_, rows))| {
                let row = rows.iter().find(|row| row.name == **name)?;
                Some((x(at), row.cpu))
            });
            let found: Vec<(i32, Spread)> = found.collect();
            let path: Vec<_> = found.iter().map(|(x, cpu)| (*x, y(cpu.median))).collect();
            for (x, Spread { low, high, .. }) in found {
                line(area, (x, y(low)), (x, y(high)), colour.to_rgba(), 5)?;
            }
            let top = 30 + 20 * number as i32;
            let key = vec![(right + 20, top), (right + 44, top)];
            // Once the colours are used up, squares and broken lines take over.
            let is_second = number >= COLOURS.len();
            for &(x, y) in &path {
                if is_second {
                    let square = [(x - 3, y - 3), (x + 3, y + 3)];
                    area.draw(&Rectangle::new(square, colour.filled()))?;
                } else {
                    area.draw(&Circle::new((x, y), 3, colour.filled()))?;
                }
            }
            for (points, width) in [(path, 2), (key, 3)] {
                let style = colour.stroke_width(width);
                if is_second {
                    area.draw(&DashedPathElement::new(points, 6, 4, style))?;
                } else {
                    area.draw(&PathElement::new(points, style))?;
                }
            }
            write(area, name, (right + 52, top), HPos::Left, VPos::Center)?;
        }
        Ok(())
    })
}

/// Where points stand between the ends of the axis, 0 and 1: a doubling is as wide as any other.
fn places(points: &[(String, &[Measured])]) -> Vec<f64> {
    let logs =
        points.iter().map(|(label, _)| label.parse().map_or(0.0, |x: f64| x.max(1.0).log2()));
    let logs: Vec<f64> = logs.collect();
    let least = logs.iter().copied().fold(f64::MAX, f64::min);
    let wide = logs.iter().copied().fold(f64::MIN_POSITIVE, f64::max) - least;
    logs.iter().map(|log| if wide > 0.0 { (log - least) / wide } else { 0.5 }).collect()
}

/// The names of all contenders, in the order in which they come.
fn contenders<'a>(points: &[(String, &'a [Measured])]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for row in points.iter().flat_map(|point| point.1) {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    names
}

/// A stroke from the low to the high end of the middle half.
fn whisker(area: &Area<'_>, low: (i32, i32), high: (i32, i32)) -> Drawn {
    line(area, low, high, INK.mix(0.8), 1)?;
    for (x, y) in [low, high] {
        line(area, (x, y - 4), (x, y + 4), INK.mix(0.8), 1)?;
    }
    Ok(())
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBAColor, width: u32) -> Drawn {
    area.draw(&PathElement::new(vec![from, to], colour.stroke_width(width)))?;
    Ok(())
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), x: HPos, y: VPos) -> Drawn {
    let style = TextStyle::from(("sans-serif", 13).into_font()).color(&INK).pos(Pos::new(x, y));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// An axis from 0 to a round number, with some ticks.
struct Scale {
    step: f64,
    steps: u32,
}

impl Scale {
    fn over<'a>(spreads: impl Iterator<Item = &'a Spread>) -> Self {
        let most = spreads.map(|spread| spread.high).fold(f64::MIN_POSITIVE, f64::max);
        let power = 10_f64.powf((most / 5.0).log10().floor());
        let fits = |step: &f64| most <= step * 6.0;
        let steps = [1.0, 2.0, 5.0, 10.0].map(|round| round * power);
        let step = steps.into_iter().find(fits).unwrap_or(power * 10.0);
        Self { step, steps: (most / step).ceil().max(1.0) as u32 }
    }

    fn share(&self, value: f64) -> f64 {
        value / (self.step * f64::from(self.steps))
    }

    /// What a number on the axis counts, and how many nanoseconds that is.
    fn counts(&self) -> (f64, &'static str) {
        match self.step * f64::from(self.steps) {
            most if most > 2e7 => (1e6, "ms"),
            most if most > 2e4 => (1e3, "µs"),
            _ => (1.0, "ns"),
        }
    }

    fn unit(&self) -> &'static str {
        self.counts().1
    }

    /// What stands at a tick: as many digits as tell it from the next.
    fn tick(&self, value: f64) -> String {
        let each = self.counts().0;
        let digits = (-(self.step / each).log10().floor()).max(0.0) as usize;
        format!("{:.digits$}", value / each)
    }

    /// What stands at a bar.
    fn value(&self, value: f64) -> String {
        let value = value / self.counts().0;
        if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|at| f64::from(at) * self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(high: f64) -> Spread {
        Spread { low: high, median: high, high }
    }

    #[test]
    fn an_axis_starts_at_zero_and_has_the_largest_value_on_it() {
        for most in [0.4, 1.0, 61.3, 99.9, 1323.0, 505_491.0] {
            let scale = Scale::over([spread(most), spread(0.1)].iter());
            let ticks: Vec<f64> = scale.ticks().collect();
            assert_eq!(ticks[0], 0.0);
            assert!((3..=8).contains(&ticks.len()) && scale.share(most) <= 1.0, "{most} {ticks:?}");
        }
    }
}
