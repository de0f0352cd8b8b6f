//! The results of the small functions next to the numbers.

use std::time::Duration;

use annulus_sys::abi::{Cqe, Sqe, Sqe128, Timespec};
use annulus_sys::abi_zcrx::{ZCRX_AREA_MASK, ZcrxCtrl, ZcrxCtrlOp, ZcrxEvent};
use annulus_sys::flags::{CqeFlags, EnterFlags, Features, SetupFlags};
use annulus_sys::opcode::{Opcode, RegisterOp};

fn cqe(res: i32, flags: u32) -> Cqe {
    Cqe { res, flags: CqeFlags::from_bits_retain(flags), ..Cqe::ZERO }
}

#[test]
fn numbers_that_we_do_not_know_survive() {
    assert_eq!(format!("{:?} {:?}", Opcode(200), RegisterOp(200)), "Opcode(200) RegisterOp(200)");
    assert_eq!(format!("{:?} {:?}", Opcode::READ, RegisterOp::QUERY), "READ QUERY");
    assert_eq!((Opcode(200).name(), RegisterOp(38).since()), (None, None));
    let newer = SetupFlags::from_bits_retain(1 << 31 | 1);
    assert_eq!((newer & !SetupFlags::IOPOLL).bits(), 1 << 31);
    assert_eq!(SetupFlags::from_bits(1 << 31).map(|flags| flags.bits()), Some(1 << 31));
}

#[test]
fn only_a_single_known_flag_has_a_linux() {
    assert_eq!(SetupFlags::SQ_REWIND.since(), Some("7.0"));
    assert_eq!((SetupFlags::SQPOLL | SetupFlags::SQ_AFF).since(), None);
    assert_eq!(Features::empty().since(), None);
    assert_eq!(EnterFlags::from_bits_retain(1 << 31).since(), None);
}

#[test]
fn a_command_lies_in_the_last_bytes_of_an_entry() {
    let mut sqe = Sqe::ZERO;
    sqe.set_cmd(*b"0123456789abcdef");
    assert_eq!((sqe.addr3, sqe.pad2), (0x3736_3534_3332_3130, 0x6665_6463_6261_3938));
    assert_eq!(&sqe.cmd(), b"0123456789abcdef");
    assert_eq!(Sqe { addr3: 0, pad2: 0, ..sqe }, Sqe::ZERO);
}

#[test]
fn a_long_command_starts_in_the_first_half_of_its_entry() {
    let mut sqe = Sqe128::ZERO;
    let command: [u8; 80] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    sqe.set_cmd(command);
    assert_eq!(sqe.first.cmd()[..], command[..16]);
    assert_eq!(sqe.rest[0].to_le_bytes()[..], command[16..24]);
    assert_eq!(sqe.rest[7].to_le_bytes()[..], command[72..]);
    assert_eq!(sqe.cmd(), command);
}

#[test]
fn op1_a_completion_is_the_last_unless_it_says_more() {
    assert!(cqe(0, 0).is_last());
    assert!(!cqe(0, CqeFlags::MORE.bits()).is_last());
    assert!(cqe(0, CqeFlags::NOTIF.bits()).is_last());
}

#[test]
fn a_buffer_id_is_there_only_with_its_flag() {
    assert_eq!(cqe(1, 0xfffe_0000).buffer_id(), None);
    assert_eq!(cqe(1, 0xfffe_0000 | CqeFlags::BUFFER.bits()).buffer_id(), Some(0xfffe));
    assert_eq!(cqe(1, CqeFlags::BUFFER.bits()).buffer_id(), Some(0));
}

#[test]
fn a_result_below_zero_is_an_error() {
    assert_eq!(cqe(0, 0).result().unwrap(), 0);
    assert_eq!(cqe(i32::MAX, 0).result().unwrap(), 0x7fff_ffff);
    assert_eq!(cqe(-libc::ECANCELED, 0).result().unwrap_err().raw(), libc::ECANCELED);
}

#[test]
fn a_span_longer_than_the_kernel_takes_becomes_the_longest() {
    let longest = Timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 };
    assert_eq!(Timespec::from(Duration::MAX), longest);
    let exact = Duration::new(i64::MAX.unsigned_abs(), 999_999_999);
    assert_eq!(Timespec::from(exact), longest);
    let short = Timespec { tv_sec: 1, tv_nsec: 500_000_000 };
    assert_eq!(Timespec::from(Duration::from_millis(1500)), short);
}

#[test]
fn a_command_to_a_receive_queue_carries_its_argument_in_the_first_word() {
    assert_eq!(ZcrxCtrl::flush_rq(7).zc_export, [0; 6]);
    assert_eq!(ZcrxCtrl::arm_event(7, ZcrxEvent::COPY).zc_export[0], 1);
    assert_eq!(ZcrxCtrl::add_area(7, ZCRX_AREA_MASK).zc_export[0], ZCRX_AREA_MASK);
    let mut answer = ZcrxCtrl::export(7);
    assert_eq!((answer.zcrx_id, answer.op), (7, ZcrxCtrlOp::EXPORT));
    answer.zc_export[0] = 0xffff_ffff_0000_0005;
    assert_eq!(answer.exported(), 5);
}
