//! E0624: a ticket is made when an operation goes into a slot, and names the type that is there.

use annulus::Ticket;
use annulus::op::Nop;

fn main() {
    let _ = Ticket::<Nop>::new; // misuse
    let _ = Ticket::<Nop>::slot;
}
