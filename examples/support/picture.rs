//! The two rings as a picture: the contents of each slot, and who owns it.
//!
//! ```text
//!   submission ring                 head 0   tail 3   written 3
//!   │  #0  │  #1  │  #2  │      │   an entry is shown by its index
//!   └kernel┴kernel┴kernel┴──us──┘   who may touch the slot now
//!      h                     tw     where head, tail and written are
//! ```

use annulus::raw::inspect::Positions;
use annulus::sys::index::{Entries, Index};

/// Slots in a row: 8 of them fit into 80 columns.
const ROW: u32 = 8;

/// Draws both rings. `sq` and `cq` are their sizes.
pub fn picture(at: &Positions, sq: Entries, cq: Entries) -> String {
    let Positions { sq_head, sq_tail, sq_written, cq_head, cq_tail } = *at;
    let mut text = format!(
        "  submission ring   head {}   tail {}   written {}\n",
        sq_head.to_raw(),
        sq_tail.to_raw(),
        sq_written.to_raw()
    );
    // Published and not yet consumed: the kernel's. All others are ours to write.
    let marks = [('h', sq_head), ('t', sq_tail), ('w', sq_written)];
    draw(&mut text, sq, (sq_head, sq_written), (sq_head, sq_tail, "kernel", "us"), &marks);
    text.push_str(&format!(
        "  completion ring   head {}   tail {}\n",
        cq_head.to_raw(),
        cq_tail.to_raw()
    ));
    // Posted and not yet popped: ours. All others are the kernel's to write.
    let marks = [('h', cq_head), ('t', cq_tail)];
    draw(&mut text, cq, (cq_head, cq_tail), (cq_head, cq_tail, "us", "kernel"), &marks);
    text
}

/// Draws one ring: `held` are the indices of its entries. The slots of `from..to` belong to
/// `inside`, all others to `outside`.
fn draw(
    text: &mut String,
    entries: Entries,
    held: (Index, Index),
    (from, to, inside, outside): (Index, Index, &str, &str),
    marks: &[(char, Index)],
) {
    for row in (0..entries.count()).step_by(ROW as usize) {
        let (mut top, mut middle) = (String::new(), String::new());
        let (mut bottom, mut under) = (String::new(), String::new());
        for slot in row..entries.count().min(row + ROW) {
            let entry = index_in(slot, held, entries).map_or(String::new(), number);
            let owner =
                if index_in(slot, (from, to), entries).is_some() { inside } else { outside };
            let stands = |(_, index): &&(char, Index)| index.slot(entries) == slot as usize;
            let mark: String = marks.iter().filter(stands).map(|(mark, _)| *mark).collect();
            top.push_str(if slot == row {
                "┌──────"
            } else {
                "┬──────"
            });
            middle.push_str(&format!("│{entry:^6}"));
            bottom.push_str(if slot == row { "└" } else { "┴" });
            bottom.push_str(&format!("{owner:─^6}"));
            under.push_str(&format!("{mark:^7}"));
        }
        let under = under.trim_end();
        text.push_str(&format!("    {top}┐\n    {middle}│\n    {bottom}┘\n    {under}\n"));
    }
}

/// An index in at most six columns: the last digits of a large one.
fn number(index: Index) -> String {
    match index.to_raw() {
        small @ 0..100_000 => format!("#{small}"),
        large => format!("#…{:04}", large % 10_000),
    }
}

/// The index in `from..to` that occupies `slot`, if one does.
fn index_in(slot: u32, (from, to): (Index, Index), entries: Entries) -> Option<Index> {
    let mut indices = (0..to.distance_from(from)).map(|count| from.advance(count));
    indices.find(|index| index.slot(entries) == slot as usize)
}
