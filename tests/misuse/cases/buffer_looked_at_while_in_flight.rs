//! E0503: the kernel writes the buffer until the scope ends, or gives it back.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buf = [0; 16];
    ring.scope(|s| {
        let read = s.submit(Read::new(&reader, &mut buf[..])).unwrap();
        let first = buf[0]; // misuse, instead: `let first = s.wait(read).unwrap().buf[0];`
        println!("{first}");
    });
    println!("{}", buf[0]);
}
