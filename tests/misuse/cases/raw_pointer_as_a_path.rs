//! E0277: a pointer neither owns nor borrows the path that the kernel would read.

use annulus::op::{Cwd, How, Op, OpenAt};

fn accepts(_: impl Op) {}

fn main() {
    let path = c"name".to_owned();
    accepts(OpenAt::new(Cwd, path.as_ptr(), How::read())); // misuse
    accepts(OpenAt::new(Cwd, path, How::read()));
}
