//! The kernel answers queries.

use annulus::raw::register::query;
use annulus::sys::opcode::RegisterOp;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, test};

const QUERY: [Need; 1] = [Need::Register(RegisterOp::QUERY)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("the_kernel_says_what_it_can_do", &QUERY, says_what),
        test("a_question_before_6_18_says_so", &[Need::Other(answers)], says_so),
    ]
}

fn answers() -> Option<String> {
    let has = here().has_register(RegisterOp::QUERY);
    has.then(|| "needs a kernel without QUERY".to_owned())
}

fn says_what() -> Result<(), Failed> {
    let answers = query()?;
    let opcodes = answers.opcodes.expect("the first question");
    assert_eq!(opcodes.feature_flags, u64::from(here().features().bits()));
    assert_eq!(opcodes.ring_setup_flags, u64::from(here().setup_flags().bits()));
    assert!(opcodes.nr_register_opcodes > RegisterOp::QUERY.0);
    // It answers no more queries than it reports, and refuses the others without refusing the call.
    let count = opcodes.nr_query_opcodes;
    let answered = [answers.zcrx.is_some(), answers.scq.is_some(), answers.zcrx_events.is_some()];
    for (answered, needed) in answered.into_iter().zip(2..) {
        assert!(!answered || count >= needed, "{needed} of {count}: {answers:?}");
    }
    assert_eq!(answers.scq.is_some(), count > 2);
    if let Some(scq) = answers.scq {
        assert!(scq.hdr_size > 0 && scq.hdr_alignment.is_power_of_two(), "{scq:?}");
    }
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    assert_eq!(query().unwrap_err().to_string(), "QUERY needs Linux 6.18");
    Ok(())
}
