//! The book in `docs/book`: its pages agree with the tree, and the solutions of its exercises run.
//!
//! ```text
//!   page ──► mark `[shown by …]`  ──► a test with that name, in that folder      checks
//!        ──► {{#include …:anchor}} ──► a file, and an anchor in it                checks
//!        ──► link                 ──► a page, and a heading of it                checks
//!        ──► figure               ──► a file, drawn by examples/ringscope         checks
//!        ──► exercise             ──► docs/book/solutions/chNN.rs, compiled here
//! ```
//!
//! `opcodes` writes one page, appendix B, from the documentation that `docs` reads. `french`
//! compares the pages in French with those that they translate.
//!
//! What the book claims and no other test shows is shown here: `files` (epoll and regular files),
//! `aio` (the older asynchronous reads), `facts` (the rest). Where there is no io_uring, or a
//! kernel lacks something, a test says so on stderr, and passes. What `checks` cannot show: that a
//! test shows all of the sentence before its mark. That takes a reader.

use annulus::{RawRing, Ring, Setup};

mod aio;
mod checks;
mod docs;
mod facts;
mod files;
mod french;
mod moments;
mod opcodes;
mod pages;

#[path = "../../docs/book/solutions/ch00.rs"]
mod ch00;
#[path = "../../docs/book/solutions/ch01.rs"]
mod ch01;
#[path = "../../docs/book/solutions/ch02.rs"]
mod ch02;
#[path = "../../docs/book/solutions/ch03.rs"]
mod ch03;
#[path = "../../docs/book/solutions/ch04.rs"]
mod ch04;
#[path = "../../docs/book/solutions/ch05.rs"]
mod ch05;
#[path = "../../docs/book/solutions/ch06.rs"]
mod ch06;
#[path = "../../docs/book/solutions/ch07.rs"]
mod ch07;
#[path = "../../docs/book/solutions/ch08.rs"]
mod ch08;
#[path = "../../docs/book/solutions/ch09.rs"]
mod ch09;
#[path = "../../docs/book/solutions/ch10.rs"]
mod ch10;
#[path = "../../docs/book/solutions/ch11.rs"]
mod ch11;
#[path = "../../docs/book/solutions/ch12.rs"]
mod ch12;
#[path = "../../docs/book/solutions/ch13.rs"]
mod ch13;
#[path = "../../docs/book/solutions/ch14.rs"]
mod ch14;
#[path = "../../docs/book/solutions/ch15.rs"]
mod ch15;
#[path = "../../docs/book/solutions/ch16.rs"]
mod ch16;
#[path = "../../docs/book/solutions/ch17.rs"]
mod ch17;
#[path = "../../docs/book/solutions/ch18.rs"]
mod ch18;
#[path = "../../docs/book/solutions/ch19.rs"]
mod ch19;
#[path = "../../docs/book/solutions/ch20.rs"]
mod ch20;
#[path = "../../docs/book/solutions/ch21.rs"]
mod ch21;
#[path = "../../docs/book/solutions/ch22.rs"]
mod ch22;
#[path = "../../docs/book/solutions/ch23.rs"]
mod ch23;
#[path = "../../docs/book/solutions/ch24.rs"]
mod ch24;

/// A ring, or a reason on stderr.
fn ring(setup: Setup<'_>) -> Option<Ring> {
    setup.build().map_err(|error| eprintln!("skipped: {error}")).ok()
}

/// A raw ring, or a reason on stderr.
fn raw(setup: Setup<'_>) -> Option<RawRing> {
    setup.build_raw().map_err(|error| eprintln!("skipped: {error}")).ok()
}
