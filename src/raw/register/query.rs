//! Queries: everything that the kernel says it can do, asked with one call and without a ring.
//!
//! ```text
//!   query() ──► OPCODES ──► ZCRX ──► SCQ ──► ZCRX_EVENT      one call, a chain of questions
//!               6.18        6.19     6.19    7.2
//! ```
//!
//! A kernel answers the queries that it knows. Fields of an answer that it does not know stay 0.
//!
//! Leaves to others: how to find out on older kernels ([`Capabilities`](crate::Capabilities)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::ptr;

use annulus_sys::abi_query::{QueryHdr, QueryOpcode, QueryScq, QueryZcrx, QueryZcrxEvent};
use annulus_sys::flags_register::QueryOp;
use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use super::error::RegisterError;

/// The kernel's answers; `None` for a query that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// How many operations there are, and which flags. Since Linux 6.18.
    pub opcodes: Option<QueryOpcode>,
    /// What zero-copy receive can do. Since Linux 6.19; all zeroes in a kernel built without it.
    pub zcrx: Option<QueryZcrx>,
    /// How much space the header of the rings needs if the process provides the memory. Since Linux
    /// 6.19.
    pub scq: Option<QueryScq>,
    /// Which events zero-copy receive reports. Since Linux 7.2.
    pub zcrx_events: Option<QueryZcrxEvent>,
}

/// Asks all queries. Since Linux 6.18.
///
/// # Errors
///
/// [`RegisterError::Unsupported`] before Linux 6.18.
#[doc(alias = "IORING_REGISTER_QUERY")]
#[doc(alias = "io_uring_query_hdr")]
pub fn query() -> Result<Answers, RegisterError> {
    let mut opcodes = QueryOpcode::default();
    let mut zcrx = QueryZcrx::default();
    let mut scq = QueryScq::default();
    let mut events = QueryZcrxEvent::default();
    let mut chain = [
        question(QueryOp::OPCODES, &mut opcodes),
        question(QueryOp::ZCRX, &mut zcrx),
        question(QueryOp::SCQ, &mut scq),
        question(QueryOp::ZCRX_EVENT, &mut events),
    ];
    let start = ptr::from_mut(&mut chain).cast::<QueryHdr>();
    let first = start.expose_provenance() as u64;
    let size = size_of::<QueryHdr>() as u64;
    let addresses = (1..4).map(|index| first + index * size);
    chain.iter_mut().zip(addresses).for_each(|(question, next)| question.next_entry = next);
    let call = Call::new(RegisterOp::QUERY, 0, "the argument is a chain of queries");
    let arg = ptr::from_mut(&mut chain);
    // SAFETY: a chain of live queries, each of which names a live answer of the size that it says;
    // the kernel keeps none of them, because it has answered when the call returns.
    unsafe { call.make_for_task(arg) }?;
    let [one, two, three, four] = chain.map(|question| question.result == 0);
    Ok(Answers {
        opcodes: one.then_some(opcodes),
        zcrx: two.then_some(zcrx),
        scq: three.then_some(scq),
        zcrx_events: four.then_some(events),
    })
}

fn question<T>(query_op: QueryOp, answer: &mut T) -> QueryHdr {
    QueryHdr {
        query_data: ptr::from_mut(answer).expose_provenance() as u64,
        query_op,
        size: u32::try_from(size_of::<T>()).expect("an answer is small"),
        ..QueryHdr::default()
    }
}
