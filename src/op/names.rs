//! Files by name: open, close, rename, look up.
//!
//! | module | |
//! |---|---|
//! | [`fs`], [`close`] | open and close |
//! | [`closing`] | a chain that closes its descriptor |
//! | [`direct`], [`install`] | open files in the ring's file table, and move files in and out of it |
//! | [`replace`] | open, use and close a file in one chain |
//! | [`pipe`] | create a pipe |
//! | [`path`] | rename, unlink, link, make directories |
//! | [`stat`] | metadata of a file |
//! | [`xattr`] | extended attributes |
//!
//! Leaves to others: the bytes of files (`bytes`).

pub mod close;
pub mod closing;
pub mod direct;
pub mod fs;
pub mod install;
pub mod path;
pub mod pipe;
pub mod replace;
pub mod stat;
pub mod xattr;
