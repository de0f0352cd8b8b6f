//! A safe binding to Linux io_uring.
