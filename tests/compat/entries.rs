//! Every operation, built with all that it can be told, as the words of its entry.
//!
//! This file is compiled against the stock crate too, by `tests/peers/entries`, which writes
//! `tests/data/compat_entries.tsv`. Addresses are numbers that nothing lies at.

use std::ptr::{without_provenance, without_provenance_mut};

use crate::io_uring::opcode::*;
use crate::io_uring::squeue::{Entry, Entry128};
use crate::io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, FsyncFlags, TimeoutFlags};

/// The name of an operation, and the words of its entry.
pub type Row = (&'static str, Vec<u64>);

/// All rows.
pub fn rows() -> Vec<Row> {
    let files = [bytes(), registered(), storage(), names()].concat();
    let others = [sockets(), transfer(), events(), futexes(), commands()].concat();
    [files, others].concat()
}

fn row(name: &'static str, entry: Entry) -> Row {
    // SAFETY: an entry is 64 bytes, and nothing but numbers.
    let words: [u64; 8] = unsafe { (&raw const entry).cast::<[u64; 8]>().read() };
    (name, words.to_vec())
}

fn row128(name: &'static str, entry: Entry128) -> Row {
    // SAFETY: such an entry is 128 bytes, and nothing but numbers.
    let words: [u64; 16] = unsafe { (&raw const entry).cast::<[u64; 16]>().read() };
    (name, words.to_vec())
}

fn at<T>(address: usize) -> *const T {
    without_provenance(address)
}

fn to<T>(address: usize) -> *mut T {
    without_provenance_mut(address)
}

fn slot() -> Option<DestinationSlot> {
    Some(DestinationSlot::try_from_slot_target(77).unwrap())
}

const FD: Fd = Fd(0x1234_5678);
const FIXED: Fixed = Fixed(0x9234_5678);
const U16: u16 = 0x89ab;
const U32: u32 = 0x89ab_cdef;
const I32: i32 = -0x0123_4567;
const U64: u64 = 0x8123_4567_89ab_cdef;

fn bytes() -> Vec<Row> {
    vec![
        row("Nop", Nop::new().build().user_data(U64).personality(U16)),
        row("Read", Read::new(FIXED, to(0x1001), U32).build()),
        row(
            "Read, all",
            Read::new(FD, to(0x1001), U32)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .buf_group(0x4321)
                .build(),
        ),
        row("Write", Write::new(FIXED, at(0x1001), U32).build()),
        row(
            "Write, all",
            Write::new(FD, at(0x1001), U32)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .write_stream(0x9a)
                .build(),
        ),
        row(
            "Readv",
            Readv::new(FD, at(0x1001), U32)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .buf_group(0x4321)
                .build(),
        ),
        row(
            "Writev",
            Writev::new(FIXED, at(0x1001), U32)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .write_stream(0x9a)
                .build(),
        ),
    ]
}

fn registered() -> Vec<Row> {
    vec![
        row(
            "ReadFixed",
            ReadFixed::new(FIXED, to(0x1001), U32, 0x4321)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .build(),
        ),
        row(
            "WriteFixed",
            WriteFixed::new(FD, at(0x1001), U32, 0x4321)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .write_stream(0x9a)
                .build(),
        ),
        row(
            "ReadvFixed",
            ReadvFixed::new(FD, at(0x1001), U32, 0x4321)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .build(),
        ),
        row(
            "WritevFixed",
            WritevFixed::new(FIXED, at(0x1001), U32, 0x4321)
                .offset(U64)
                .ioprio(U16)
                .rw_flags(I32)
                .write_stream(0x9a)
                .build(),
        ),
        row("ReadMulti", ReadMulti::new(FD, U32, 0x4321).offset(U64).build()),
        row("ReadMulti, fixed", ReadMulti::new(FIXED, U32, 0x4321).build()),
    ]
}

fn storage() -> Vec<Row> {
    vec![
        row("Fsync", Fsync::new(FIXED).offset(U64).len(U32).flags(FsyncFlags::DATASYNC).build()),
        row("SyncFileRange", SyncFileRange::new(FD, U32).offset(U64).flags(7).build()),
        row("Fallocate", Fallocate::new(FIXED, U64).offset(U64 - 1).mode(I32).build()),
        row("Ftruncate", Ftruncate::new(FIXED, U64).build()),
        row("Fadvise", Fadvise::new(FD, 0xffff_ffff, I32).offset(U64).build()),
        row("Madvise", Madvise::new(at(0x1001), 0xffff_ffff, I32).build()),
        row("Splice", Splice::new(FD, -1, FD, -2, U32).flags(3).build()),
        row("Splice, fixed", Splice::new(FIXED, 5, FIXED, 6, U32).flags(3).build()),
        row("Splice, in", Splice::new(FIXED, 5, FD, 6, U32).build()),
        row("Tee", Tee::new(FD, FIXED, U32).flags(3).build()),
        row("Tee, fixed", Tee::new(FIXED, FD, U32).flags(3).build()),
        row("ProvideBuffers", ProvideBuffers::new(to(0x1001), I32, U16, 0x4321, 0xfedc).build()),
        row("RemoveBuffers", RemoveBuffers::new(U16, 0x4321).build()),
    ]
}

fn names() -> Vec<Row> {
    vec![
        row("OpenAt", OpenAt::new(FD, at(0x1001)).flags(I32).mode(0o755).build()),
        row("OpenAt, slot", OpenAt::new(FD, at(0x1001)).file_index(slot()).build()),
        row("OpenAt2", OpenAt2::new(FD, at(0x1001), at(0x2002)).build()),
        row(
            "OpenAt2, slot",
            OpenAt2::new(FD, at(0x1001), at(0x2002))
                .file_index(Some(DestinationSlot::auto_target()))
                .build(),
        ),
        row("Close", Close::new(FD).build()),
        row("Close, fixed", Close::new(Fixed(41)).build()),
        row("FilesUpdate", FilesUpdate::new(at(0x1001), U32).offset(9).build()),
        row("FilesUpdate, alloc", FilesUpdate::new(at(0x1001), U32).offset(-1).build()),
        row("Statx", Statx::new(FD, at(0x1001), to(0x2002)).flags(I32).mask(U32).build()),
        row("RenameAt", RenameAt::new(FD, at(0x1001), Fd(-100), at(0x2002)).flags(U32).build()),
        row("UnlinkAt", UnlinkAt::new(FD, at(0x1001)).flags(I32).build()),
        row("MkDirAt", MkDirAt::new(FD, at(0x1001)).mode(0o755).build()),
        row("SymlinkAt", SymlinkAt::new(FD, at(0x1001), at(0x2002)).build()),
        row("LinkAt", LinkAt::new(FD, at(0x1001), Fd(-100), at(0x2002)).flags(I32).build()),
        row("GetXattr", GetXattr::new(at(0x1001), to(0x2002), at(0x3003), U32).build()),
        row("SetXattr", SetXattr::new(at(0x1001), at(0x2002), at(0x3003), U32).flags(I32).build()),
        row("FGetXattr", FGetXattr::new(FIXED, at(0x1001), to(0x2002), U32).build()),
        row("FSetXattr", FSetXattr::new(FD, at(0x1001), at(0x2002), U32).flags(I32).build()),
        row("FixedFdInstall", FixedFdInstall::new(FIXED, U32).build()),
        row("Pipe", Pipe::new(to(0x1001)).flags(U32).build()),
        row("Pipe, slot", Pipe::new(to(0x1001)).file_index(slot()).build()),
    ]
}

fn sockets() -> Vec<Row> {
    vec![
        row("Socket", Socket::new(2, 1, I32).flags(I32).build()),
        row("Socket, slot", Socket::new(2, 1, 0).file_index(slot()).build()),
        row("Bind", Bind::new(FIXED, at(0x1001), U32).build()),
        row("Listen", Listen::new(FD, I32).build()),
        row("Accept", Accept::new(FIXED, to(0x1001), to(0x2002)).flags(I32).build()),
        row("Accept, slot", Accept::new(FD, to(0x1001), to(0x2002)).file_index(slot()).build()),
        row("AcceptMulti", AcceptMulti::new(FIXED).flags(I32).build()),
        row("AcceptMulti, slot", AcceptMulti::new(FD).allocate_file_index(true).build()),
        row("Connect", Connect::new(FIXED, at(0x1001), U32).build()),
        row("Shutdown", Shutdown::new(FIXED, I32).build()),
        row("SetSockOpt", SetSockOpt::new(FIXED, U32, 7, at(0x1001), 8).flags(U32).build()),
        row("GetSockOpt", GetSockOpt::new(FD, 6, U32, to(0x1001), 8).flags(U32).build()),
    ]
}

fn transfer() -> Vec<Row> {
    vec![
        row("Send", Send::new(FIXED, at(0x1001), U32).build()),
        row(
            "Send, all",
            Send::new(FD, at(0x1001), U32)
                .ioprio(U16)
                .flags(I32)
                .buf_group(0x4321)
                .dest_addr(at(0x2002))
                .dest_addr_len(28)
                .build(),
        ),
        row(
            "Recv",
            Recv::new(FIXED, to(0x1001), U32).ioprio(U16).flags(I32).buf_group(0x4321).build(),
        ),
        row("RecvMulti", RecvMulti::new(FIXED, 0x4321).flags(I32).len(U32).build()),
        row("SendBundle", SendBundle::new(FIXED, 0x4321).flags(I32).len(U32).build()),
        row("RecvBundle", RecvBundle::new(FIXED, 0x4321).flags(I32).build()),
        row("RecvMultiBundle", RecvMultiBundle::new(FD, 0x4321).flags(I32).build()),
        row("RecvZc", RecvZc::new(FIXED, U32).ifq(U32 - 1).ioprio(0x40).build()),
        row("SendMsg", SendMsg::new(FIXED, at(0x1001)).ioprio(U16).flags(U32).build()),
        row(
            "RecvMsg",
            RecvMsg::new(FD, to(0x1001)).ioprio(U16).flags(U32).buf_group(0x4321).build(),
        ),
        row(
            "RecvMsgMulti",
            RecvMsgMulti::new(FIXED, at(0x1001), 0x4321).ioprio(0x41).flags(U32).build(),
        ),
        row("SendZc", SendZc::new(FIXED, at(0x1001), U32).zc_flags(0x48).build()),
        row(
            "SendZc, all",
            SendZc::new(FD, at(0x1001), U32)
                .buf_index(Some(0x4321))
                .dest_addr(at(0x2002))
                .dest_addr_len(28)
                .flags(I32)
                .zc_flags(0x48)
                .build(),
        ),
        row("SendMsgZc", SendMsgZc::new(FIXED, at(0x1001)).ioprio(0x48).flags(U32).build()),
        row(
            "SendMsgZc, registered",
            SendMsgZc::new(FD, at(0x1001)).buf_index(Some(0x4321)).ioprio(0x48).build(),
        ),
    ]
}

fn events() -> Vec<Row> {
    let flags = TimeoutFlags::ABS | TimeoutFlags::ETIME_SUCCESS;
    vec![
        row("PollAdd", PollAdd::new(FIXED, U32).build()),
        row("PollAdd, multi", PollAdd::new(FD, U32).multi(true).build()),
        row("PollRemove", PollRemove::new(U64).build()),
        row("Timeout", Timeout::new(at(0x1001)).count(U32).flags(flags).build()),
        row("TimeoutRemove", TimeoutRemove::new(U64).build()),
        row("TimeoutUpdate", TimeoutUpdate::new(U64, at(0x1001)).flags(flags).build()),
        row("LinkTimeout", LinkTimeout::new(at(0x1001)).flags(flags).build()),
        row("AsyncCancel", AsyncCancel::new(U64).build()),
        row("AsyncCancel2, any", AsyncCancel2::new(CancelBuilder::any()).build()),
        row("AsyncCancel2", AsyncCancel2::new(CancelBuilder::user_data(U64).all()).build()),
        row("AsyncCancel2, fd", AsyncCancel2::new(CancelBuilder::fd(FD)).build()),
        row("AsyncCancel2, fixed", AsyncCancel2::new(CancelBuilder::fd(FIXED).all()).build()),
        row("EpollCtl", EpollCtl::new(FD, Fd(9), 1, at(0x1001)).build()),
        row("EpollWait", EpollWait::new(FIXED, to(0x1001), U32).flags(U32).build()),
    ]
}

fn futexes() -> Vec<Row> {
    vec![
        row("FutexWait", FutexWait::new(at(0x1001), U64, U64 - 1, U32).flags(U32).build()),
        row("FutexWake", FutexWake::new(at(0x1001), U64, U64 - 1, U32).flags(U32).build()),
        row("FutexWaitV", FutexWaitV::new(at(0x1001), U32).flags(U32).build()),
        row("WaitId", WaitId::new(3, U32, I32).infop(at(0x1001)).flags(U32).build()),
    ]
}

fn commands() -> Vec<Row> {
    let cmd16 = std::array::from_fn(|at| u8::try_from(at + 1).unwrap());
    let cmd80 = std::array::from_fn(|at| u8::try_from(at + 1).unwrap());
    vec![
        row("MsgRingData", MsgRingData::new(FD, I32, U64, None).opcode_flags(U32).build()),
        row("MsgRingData, flags", MsgRingData::new(FD, I32, U64, Some(U32)).build()),
        row(
            "MsgRingSendFd",
            MsgRingSendFd::new(FD, FIXED, slot().unwrap(), U64).opcode_flags(U32).build(),
        ),
        row("UringCmd16", UringCmd16::new(FIXED, U32).build()),
        row(
            "UringCmd16, all",
            UringCmd16::new(FD, U32).buf_index(Some(0x4321)).cmd(cmd16).addr(Some(U64)).build(),
        ),
        row128("UringCmd80", UringCmd80::new(FIXED, U32).build()),
        row128(
            "UringCmd80, all",
            UringCmd80::new(FD, U32)
                .buf_index(Some(0x4321))
                .cmd(cmd80)
                .addr(Some(U64))
                .build()
                .user_data(U64)
                .personality(U16),
        ),
        row128("Nop of 128 bytes", Entry128::from(Nop::new().build().user_data(U64))),
    ]
}
