//! The beginning of the book in French: it has what the English pages have, and French spaces.

use std::path::PathBuf;

use crate::pages::{BOOKS, Page, of_book};

/// The pages that are a translation, each with its original.
fn translations() -> Vec<(Page, Page)> {
    let [mut english, french] = BOOKS.map(of_book);
    let french = french.into_iter().filter(|page| page.name != "SUMMARY.md");
    let pair = |page: Page| {
        let at = english.iter().position(|original| original.name == page.name);
        let at = at.unwrap_or_else(|| panic!("{}", page.complain("has no original")));
        (page, english.swap_remove(at))
    };
    french.map(pair).collect()
}

#[test]
fn a_translation_has_the_listings_the_marks_and_the_headings_of_its_original() {
    for (page, original) in translations() {
        let listings = |page: &Page| -> Vec<(Option<PathBuf>, Option<String>)> {
            let includes = page.includes().into_iter();
            includes.map(|(path, anchor)| (page.resolved(&path), anchor)).collect()
        };
        assert_eq!(listings(&page), listings(&original), "{}", page.complain("listings"));
        let marks = |page: &Page| -> Vec<(String, Vec<String>)> {
            page.marks().into_iter().map(|mark| (mark.folder, mark.tests)).collect()
        };
        assert_eq!(marks(&page), marks(&original), "{}", page.complain("marks"));
        let blocks = |page: &Page| -> Vec<String> {
            let fences = page.fences().into_iter();
            fences.filter(|fence| fence.info == "sh").map(|fence| fence.body).collect()
        };
        assert_eq!(blocks(&page), blocks(&original), "{}", page.complain("commands"));
        let headings = |page: &Page| page.heading_ids().len();
        assert_eq!(headings(&page), headings(&original), "{}", page.complain("headings"));
    }
}

/// A space that no line ends at, wide or narrow.
fn holds(c: Option<char>) -> bool {
    matches!(c, Some('\u{a0}' | '\u{202f}'))
}

/// The places in `text` where a space that holds is missing.
fn loose(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let is_loose = match c {
            '?' | '!' | ';' | ':' | '»' => !holds(before),
            '«' => !holds(chars.get(at + 1).copied()),
            _ => false,
        };
        if is_loose {
            found.push(chars[at.saturating_sub(20)..(at + 10).min(chars.len())].iter().collect());
        }
    }
    found
}

#[test]
fn french_punctuation_is_not_torn_off() {
    for (page, _) in translations() {
        // What stands between ticks, or opens or rules a table or a figure, is no French.
        let prose = page.prose().replace("![", "[").replace("|:", "|");
        let spoken: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("x");
        let found = loose(&spoken);
        assert!(found.is_empty(), "{}", page.complain(format!("{found:#?}")));
    }
}

#[test]
fn a_loose_sign_is_found_and_a_held_one_is_not() {
    assert_eq!(loose("Pourquoi ?").len(), 1);
    assert_eq!(loose("Pourquoi?").len(), 1);
    assert_eq!(loose("Pourquoi\u{202f}? Ici\u{a0}: «\u{a0}cela\u{a0}».").len(), 0);
    assert_eq!(loose("« cela\u{a0}»").len(), 1);
}
