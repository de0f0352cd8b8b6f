//! The set-up: which flags are tried in which order, and what a refusal reports.

use std::time::Duration;

use annulus::{Setup, SetupError};
use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;

use crate::driver_kernel::DriverKernel;

const NONE: SetupFlags = SetupFlags::empty();
const V5_18: SetupFlags = SetupFlags::SUBMIT_ALL;
const V5_19: SetupFlags =
    SetupFlags::COOP_TASKRUN.union(SetupFlags::TASKRUN_FLAG).union(SetupFlags::SUBMIT_ALL);
const V6_1: SetupFlags = SetupFlags::SINGLE_ISSUER
    .union(SetupFlags::DEFER_TASKRUN)
    .union(SetupFlags::TASKRUN_FLAG)
    .union(SetupFlags::SUBMIT_ALL);
const V6_6: SetupFlags = V6_1.union(SetupFlags::NO_SQARRAY);
const RECOMMENDED: [SetupFlags; 5] = [V6_6, V6_1, V5_19, V5_18, NONE];

/// Since which kernel each flag that `Setup::with` takes exists.
const SINCE: &[(SetupFlags, &str, &str)] = &[
    (SetupFlags::IOPOLL, "IORING_SETUP_IOPOLL", "5.1"),
    (SetupFlags::CLAMP, "IORING_SETUP_CLAMP", "5.6"),
    (SetupFlags::SUBMIT_ALL, "IORING_SETUP_SUBMIT_ALL", "5.18"),
    (SetupFlags::COOP_TASKRUN, "IORING_SETUP_COOP_TASKRUN", "5.19"),
    (SetupFlags::SQE128, "IORING_SETUP_SQE128", "5.19"),
    (SetupFlags::CQE32, "IORING_SETUP_CQE32", "5.19"),
    (SetupFlags::SINGLE_ISSUER, "IORING_SETUP_SINGLE_ISSUER", "6.0"),
    (SetupFlags::DEFER_TASKRUN, "IORING_SETUP_DEFER_TASKRUN", "6.1"),
    (SetupFlags::NO_SQARRAY, "IORING_SETUP_NO_SQARRAY", "6.6"),
    (SetupFlags::CQE_MIXED, "IORING_SETUP_CQE_MIXED", "6.18"),
    (SetupFlags::SQE_MIXED, "IORING_SETUP_SQE_MIXED", "6.19"),
];

/// The kernel that knows every flag but `unknown`, and the result of `setup` on it.
fn refused(unknown: SetupFlags, setup: Setup<'_>) -> (SetupError, Vec<SetupFlags>) {
    let kernel = DriverKernel::new();
    let named: SetupFlags = SetupFlags::all().iter_names().map(|(_, flag)| flag).collect();
    kernel.know(named - unknown);
    let error = setup.kernel(kernel.backend()).build_raw().map(drop).unwrap_err();
    (error, kernel.setups())
}

#[test]
fn the_best_that_the_kernel_knows_is_taken() {
    // The flags that each kernel knows.
    let known = [V6_6 | V5_19, V6_1 | V5_19, V5_19 | SetupFlags::SINGLE_ISSUER, V5_18, NONE];
    for (tried, known) in (1..).zip(known) {
        let kernel = DriverKernel::new();
        kernel.know(known);
        let ring = kernel.ring(Setup::new(4));
        assert_eq!(ring.flags(), RECOMMENDED[tried - 1]);
        assert_eq!(kernel.setups(), RECOMMENDED[..tried]);
    }
}

#[test]
fn a_ring_that_is_plain_has_one_try() {
    let kernel = DriverKernel::new();
    let ring = kernel.ring(Setup::plain(4));
    assert_eq!((ring.flags(), kernel.setups()), (NONE, vec![NONE]));
    let (error, tried) = refused(SetupFlags::CQE32, Setup::plain(4).with(SetupFlags::CQE32));
    assert!(matches!(error, SetupError::Unsupported { .. }));
    // The ring, and the probe for the flag that was refused.
    assert_eq!(tried, [SetupFlags::CQE32; 2]);
}

#[test]
fn what_was_asked_for_by_name_is_never_dropped() {
    let asked = SetupFlags::CQE32 | SetupFlags::SUBMIT_ALL;
    let kernel = DriverKernel::new();
    kernel.know(asked);
    let ring = kernel.ring(Setup::new(4).with(asked));
    assert_eq!(ring.flags(), asked);
    assert_eq!(
        kernel.setups(),
        RECOMMENDED[..4].iter().map(|&rung| rung | asked).collect::<Vec<_>>()
    );
    let (_, tried) = refused(asked, Setup::new(4).with(asked));
    let rungs: Vec<_> = RECOMMENDED.iter().map(|&rung| rung | asked).collect();
    assert_eq!(tried[..5], rungs);
}

#[test]
fn a_size_that_was_asked_for_is_never_dropped() {
    let kernel = DriverKernel::new();
    kernel.know(SetupFlags::CQSIZE);
    let ring = kernel.ring(Setup::new(4).cq_entries(32));
    assert_eq!((ring.flags(), ring.cq_entries()), (SetupFlags::CQSIZE, 32));
    assert!(kernel.setups().iter().all(|flags| flags.contains(SetupFlags::CQSIZE)));
}

#[test]
fn a_polling_ring_is_tried_only_with_what_fits_it() {
    let kernel = DriverKernel::new();
    kernel.know(SetupFlags::SQPOLL);
    let ring = kernel.ring(Setup::new(4).sqpoll(Duration::from_millis(7)));
    assert_eq!(ring.flags(), SetupFlags::SQPOLL);
    assert_eq!(kernel.setups(), [SetupFlags::SQPOLL | V5_18, SetupFlags::SQPOLL]);
}

#[test]
fn an_unknown_flag_is_named_with_the_release_that_knows_it() {
    for &(flag, name, since) in SINCE {
        for setup in [Setup::new(4), Setup::plain(4)] {
            let companion = match flag {
                SetupFlags::DEFER_TASKRUN => SetupFlags::SINGLE_ISSUER,
                _ => NONE,
            };
            let (error, _) = refused(flag, setup.with(flag | companion));
            let text = error.to_string();
            assert!(text.contains(&format!("{name}, which needs Linux {since}")), "{text}");
        }
    }
}

#[test]
fn the_oldest_of_several_unknown_flags_is_named() {
    let (all, asked) = (SetupFlags::all(), SetupFlags::CLAMP | SetupFlags::CQE32);
    let (error, _) = refused(all, Setup::plain(4).with(asked));
    assert!(error.to_string().contains("IORING_SETUP_CLAMP, which needs Linux 5.6"));
}

#[test]
fn a_flag_is_looked_up_with_those_that_it_needs() {
    let cooperating = SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG;
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let asked = cooperating | deferring | SetupFlags::CQE_MIXED;
    let (_, tried) = refused(SetupFlags::CQE_MIXED, Setup::plain(4).with(asked));
    let one_by_one = [
        asked,
        SetupFlags::COOP_TASKRUN,
        cooperating,
        SetupFlags::SINGLE_ISSUER,
        deferring,
        SetupFlags::CQSIZE | SetupFlags::CQE_MIXED,
    ];
    assert_eq!(tried, one_by_one);
}

#[test]
fn a_flag_without_a_name_is_named_by_its_bit() {
    let flag = SetupFlags::from_bits_retain(1 << 30);
    let (error, _) = refused(NONE, Setup::plain(4).with(flag));
    assert!(error.to_string().contains("0x40000000"), "{error}");
}

#[test]
fn a_disabled_ring_is_never_made_enabled() {
    let kernel = DriverKernel::new();
    let disabled = Setup::new(4).kernel(kernel.backend()).build_disabled().expect("a ring");
    assert_eq!(kernel.setups(), [V6_6 | SetupFlags::R_DISABLED]);
    assert!(disabled.enable_raw().is_ok());
    kernel.know(SetupFlags::all() - SetupFlags::R_DISABLED);
    let error = Setup::new(4).kernel(kernel.backend()).build_disabled().map(drop).unwrap_err();
    assert!(error.to_string().contains("IORING_SETUP_R_DISABLED, which needs Linux 5.10"));
    assert!(kernel.setups()[..5].iter().all(|flags| flags.contains(SetupFlags::R_DISABLED)));
}

#[test]
fn only_einval_leads_to_another_try() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE, libc::EFAULT, libc::EIO] {
        let kernel = DriverKernel::new();
        kernel.fail_setup(errno);
        assert!(Setup::new(4).kernel(kernel.backend()).build_raw().is_err());
        assert_eq!(kernel.setups(), [V6_6]);
        // Also on a lower rung.
        kernel.fail_setup(libc::EINVAL);
        kernel.fail_setup(errno);
        assert!(Setup::new(4).kernel(kernel.backend()).build_raw().is_err());
        assert_eq!(kernel.setups(), [V6_6, V6_1]);
    }
}

#[test]
fn einval_for_no_reason_that_we_know_is_passed_on() {
    let kernel = DriverKernel::new();
    for _ in RECOMMENDED {
        kernel.fail_setup(libc::EINVAL);
    }
    let error = Setup::new(4).kernel(kernel.backend()).build_raw().map(drop).unwrap_err();
    assert_eq!(error, SetupError::Other(Errno::new(libc::EINVAL)));
    assert_eq!(kernel.setups(), RECOMMENDED);
}

#[test]
fn what_no_kernel_takes_is_not_asked_for() {
    let kernel = DriverKernel::new();
    let setup = Setup::plain(4).with(SetupFlags::DEFER_TASKRUN);
    let error = setup.kernel(kernel.backend()).build_raw().map(drop).unwrap_err();
    assert!(matches!(error, SetupError::Invalid { .. }));
    assert_eq!(kernel.setups(), []);
}
