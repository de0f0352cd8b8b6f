//! Time and events: timeouts, polls, epoll.
//!
//! | module | |
//! |---|---|
//! | [`time`] | timeouts |
//! | [`poll`], [`poll_events`] | wait until a file is ready |
//! | [`epoll`] | epoll through the ring |
//!
//! Leaves to others: how long the ring itself waits (`raw`).

pub mod epoll;
pub mod poll;
pub mod poll_events;
pub mod time;
