//! A film in the terminal, one frame at a time, by the arrow keys.

use std::io;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Gauge, Paragraph};
use ratatui::{DefaultTerminal, Frame as Canvas};

use crate::frame::Film;
use crate::model::Owner;
use crate::plain::{self, Tint};

/// Shows the film until the user has seen enough.
///
/// # Errors
///
/// The terminal fails.
pub fn show(film: &Film) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let outcome = step(&mut terminal, film);
    ratatui::try_restore()?;
    outcome
}

fn step(terminal: &mut DefaultTerminal, film: &Film) -> io::Result<()> {
    let last = film.frames.len().saturating_sub(1);
    let mut at = 0;
    loop {
        terminal.draw(|canvas| draw(canvas, film, at))?;
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        at = match key.code {
            KeyCode::Right | KeyCode::Down | KeyCode::Char(' ') | KeyCode::Enter => {
                last.min(at + 1)
            }
            KeyCode::Left | KeyCode::Up | KeyCode::Backspace => at.saturating_sub(1),
            KeyCode::Home => 0,
            KeyCode::End => last,
            KeyCode::Char('c') if key.modifiers.contains(event::KeyModifiers::CONTROL) => {
                return Ok(());
            }
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            _ => at,
        };
    }
}

/// Draws one frame of the film.
fn draw(canvas: &mut Canvas<'_>, film: &Film, at: usize) {
    let areas = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]);
    let [page, bar] = areas.areas(canvas.area());
    canvas.render_widget(Paragraph::new(Text::from_iter(lines(film, at))), page);
    let (number, count) = (at + 1, film.frames.len());
    let gauge = Gauge::default()
        .gauge_style(Style::new().fg(Color::DarkGray))
        .label(format!("{number} of {count}   ← → step   q quit"))
        .percent(u16::try_from(100 * number / count.max(1)).unwrap_or(100));
    canvas.render_widget(gauge, bar);
}

/// Draws all frames of a film, one below the other.
pub fn draw_all(canvas: &mut Canvas<'_>, film: &Film) {
    let areas = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]);
    let [page, bar] = areas.areas(canvas.area());
    let all = (0..film.frames.len()).flat_map(|at| lines(film, at).chain([Line::default()]));
    canvas.render_widget(Paragraph::new(Text::from_iter(all)), page);
    let title = Span::styled(format!("{}   q quit", film.title), style(Tint::Soft));
    canvas.render_widget(Paragraph::new(title), bar);
}

/// The lines of one frame, in colours.
fn lines(film: &Film, at: usize) -> impl Iterator<Item = Line<'static>> {
    plain::lines(film, at).into_iter().map(|line| {
        Line::from_iter(line.into_iter().map(|(tint, text)| Span::styled(text, style(tint))))
    })
}

fn style(tint: Tint) -> Style {
    match tint {
        Tint::Plain => Style::new(),
        Tint::Strong => Style::new().add_modifier(Modifier::BOLD),
        Tint::Soft => Style::new().fg(Color::DarkGray),
        Tint::Wrong => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Tint::Of(Owner::Program) => Style::new().fg(Color::White).bg(Color::Blue),
        Tint::Of(Owner::Kernel) => Style::new().fg(Color::Black).bg(Color::Yellow),
        Tint::Of(Owner::Free) => Style::new().fg(Color::DarkGray),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::stories::Story;

    #[test]
    fn owners_are_coloured_in_the_terminal() {
        let film = Story::named("demo").and_then(|story| story.film().map_err(|e| e.to_string()));
        let film = film.expect("a story");
        let mut terminal = Terminal::new(TestBackend::new(80, 40)).expect("a terminal");
        terminal.draw(|canvas| draw(canvas, &film, 1)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let text: String = buffer.content().iter().map(|cell| cell.symbol()).collect();
        assert!(text.contains("The program writes three entries"), "{text}");
        let letter = buffer.content().iter().find(|cell| cell.symbol() == "A");
        assert_eq!(letter.map(|cell| cell.bg), Some(Color::Blue), "{text}");
        assert!(text.contains("2 of 9"), "{text}");
    }
}
