//! E0277: the table of a list is made here from borrows, and nobody else can make one.

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
}

fn main() {
    let _: Table = <[&'static str; 1]>::EMPTY;
}
