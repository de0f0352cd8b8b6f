//! E0277: only this crate can make the table of several buffers, from borrows.

use annulus::buf::IoBufs;

type Table = <[&'static str; 1] as IoBufs>::Table;

struct Mine;

impl IoBufs for Mine {
    // misuse, instead: `#[cfg(false)] impl IoBufs for Mine {`
    type Table = Table;
    const EMPTY: Table = <[&'static str; 1]>::EMPTY;

    fn table(&self) -> Table {
        ["dangling"].table()
    }

    fn regions(&self, _: &mut dyn FnMut(annulus::buf::Region<'_>)) {}
}

fn main() {
    let _: Table = <[&'static str; 1]>::EMPTY;
}
