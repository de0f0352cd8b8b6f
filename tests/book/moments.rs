//! The picture of chapter 3 is what the example `quickstart` draws.

use std::fs;

use annulus::Setup;
use annulus::op::Nop;
use annulus::sys::index::Entries;

use crate::pages::source;
use crate::ring;

#[path = "../../examples/support/picture.rs"]
mod picture;

/// The rings at this moment.
fn moment(ring: &annulus::Ring, caption: &str) -> String {
    let ring = ring.raw();
    let entries = |count| Entries::new(count).expect("a power of two");
    let (sq, cq) = (entries(ring.sq_entries()), entries(ring.cq_entries()));
    format!("{caption}\n{}\n", picture::picture(&ring.positions(), sq, cq))
}

#[test]
fn the_four_moments_are_those_of_the_page() {
    let Some(mut ring) = ring(Setup::new(4)) else { return };
    let mut drawn = String::new();
    let tickets = [(); 3].map(|()| ring.submit(Nop).expect("room"));
    drawn += &moment(&ring, "1 submitted");
    ring.submit_and_wait(3).expect("three complete");
    drawn += &moment(&ring, "2 entered");
    ring.reap(|_| ()).expect("they are there");
    drawn += &moment(&ring, "3 reaped");
    for ticket in tickets {
        ring.wait(ticket).expect("it is there").expect("a NOP does not fail");
    }
    for _ in 0..3 {
        let nop = ring.submit(Nop).expect("room");
        ring.detach(nop);
    }
    drawn += &moment(&ring, "4 submitted again");
    let drawn = drawn.trim_end().to_owned() + "\n";
    let page = source().join("moments.txt");
    if std::env::var_os("ANNULUS_WRITE").is_some() {
        fs::write(&page, &drawn).expect("it can be written");
    }
    let shown = fs::read_to_string(page).expect("the page has it");
    assert!(shown == drawn, "with ANNULUS_WRITE=1 this test writes it:\n{drawn}");
}
