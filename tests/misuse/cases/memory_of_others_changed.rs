//! E0277: advice that changes memory affects whole pages, and a heap buffer shares its pages.

use annulus::buf::AlignedBuf;
use annulus::op::{Madvise, MapChange, MemoryAdvice, Op};

fn accepts(_: impl Op) {}

fn main() {
    let buf = AlignedBuf::new(8192, 4096);
    let _ = (MapChange::Discard, MemoryAdvice::Cold);
    accepts(Madvise::change(buf, MapChange::Discard));
    // misuse, instead: `accepts(Madvise::new(buf, MemoryAdvice::Cold));`
}
