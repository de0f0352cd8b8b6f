//! The figures of the book: which file shows which frames, and all of them at once.
//!
//! ```text
//!   FIGURES ─► story, its frames ─┬─► docs/book/src/figures/NAME.svg
//!           └► listing ───────────┘
//! ```

use std::fs;
use std::path::Path;

use crate::stage::Failure;
use crate::stories::Story;
use crate::{listings, svg, weak_picture};

/// What a figure shows.
#[derive(Debug, Clone, Copy)]
enum Shows {
    /// These frames of the story of this name.
    Frames(&'static str, &'static [usize]),
    /// A failing order of the listing of this name.
    Weak(&'static str),
}

/// A figure's name, which is that of its file without the ending, and what it shows.
const FIGURES: &[(&str, Shows)] = &[
    ("read", Shows::Frames("read", &[2, 3])),
    ("demo", Shows::Frames("demo", &[3, 5])),
    ("overflow", Shows::Frames("overflow", &[3])),
    ("wrap", Shows::Frames("wrap", &[2, 3])),
    ("weak-pdf", Shows::Weak("pdf")),
    ("weak-pdf-half", Shows::Weak("pdf-half")),
    ("weak-man", Shows::Weak("man")),
    ("weak-sqpoll", Shows::Weak("sqpoll")),
    ("chain", Shows::Frames("chain", &[2, 3])),
    ("cancel", Shows::Frames("cancel", &[3, 4])),
    ("defer", Shows::Frames("defer", &[2, 3])),
    ("sqpoll", Shows::Frames("sqpoll", &[2, 4, 6])),
    ("weak-sqpoll-acquire", Shows::Weak("sqpoll-acquire")),
    ("multishot", Shows::Frames("multishot", &[3, 4, 5])),
    ("fanout", Shows::Frames("fanout", &[3, 4])),
];

/// Draws one.
fn draw(shows: Shows) -> Result<String, Failure> {
    match shows {
        Shows::Frames(story, frames) => {
            let film = Story::named(story)?.film()?;
            Ok(svg::document(&film, &film.choose(frames)?))
        }
        Shows::Weak(name) => {
            let all = listings::all();
            let listing = all.iter().find(|listing| listing.name == name);
            let listing = listing.ok_or_else(|| format!("no listing `{name}`"))?;
            Ok(weak_picture::document(listing))
        }
    }
}

/// Draws all of them into a folder.
///
/// # Errors
///
/// A story fails, or a file cannot be written.
pub fn write(folder: &Path) -> Result<(), Failure> {
    for (name, shows) in FIGURES {
        let path = folder.join(format!("{name}.svg"));
        let drawn = draw(*shows)?;
        fs::write(&path, drawn).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
