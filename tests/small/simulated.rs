//! `simulate_runtime`: what is unchanged holds for every seed, what is planted is found and shrunk.

use std::fs;
use std::process::Command;

use super::program;

/// How many seeds: more in a campaign of one's own.
fn seeds() -> String {
    std::env::var("SIMULATED_SEEDS").unwrap_or_else(|_| "300".into())
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new(program("simulate_runtime")).args(arguments).output();
    let output = output.expect("it starts");
    let (page, errors) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (page, errors) = (page.expect("text"), errors.expect("text"));
    assert!(output.status.success() && errors.is_empty(), "{errors}{page}");
    page
}

fn text(name: &str) -> String {
    fs::read_to_string(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_mini_runtime_and_the_echo_server_survive_every_seed() {
    let seeds = seeds();
    let expected = ["mini_runtime", "echo_small"]
        .map(|name| format!("{name}: {seeds} runs, and all went well\n"));
    assert_eq!(run(&["--seeds", &seeds]), expected.concat());
}

#[test]
fn planted_bugs_are_found_and_shrunk() {
    let page = run(&["--planted", "--seeds", "10000"]);
    let found: Vec<_> = page.lines().filter(|line| line.contains(" fails with ")).collect();
    let [runtime, server] = found[..] else { panic!("two bugs: {page}") };
    assert!(runtime.starts_with("mini_runtime: seed "), "{runtime}");
    assert!(runtime.contains("Resource deadlock avoided"), "no lost wake-up: {runtime}");
    assert!(server.starts_with("echo_small: seed "), "{server}");
    assert!(server.contains(": a client got \"hello"), "no short send: {server}");
    for line in [runtime, server] {
        let count = |word: &str| line.split(word).nth(1).and_then(|rest| rest.split(' ').next());
        let count = |word| count(word).and_then(|text| text.parse::<u32>().ok()).expect("a count");
        let (needed, before) = (count(" fails with "), count(" of "));
        assert!((1..before).contains(&needed), "nothing was left out: {line}");
    }
    assert!(page.contains("nothing can happen; ") && page.contains("again: Sim::with_decisions("));
}

#[test]
fn a_seed_of_the_runtime_is_a_run() {
    let trace = run(&["--seed", "3"]);
    assert!(trace.starts_with("mini_runtime, seed 3: Ok(())\n"), "{trace}");
    assert!(trace.contains("\necho_small, seed 3: Ok(())\n"), "{trace}");
    assert_eq!(trace, run(&["--seed", "3"]), "a seed is a run");
}

/// The lines of code of `planted` that are not in `clean`, and the other way round.
fn differences(clean: &str, planted: &str) -> [usize; 2] {
    let lines = |text: &str| {
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or("").trim().into());
        lines.filter(|line: &String| !line.is_empty()).collect::<Vec<_>>()
    };
    let (clean, planted) = (lines(clean), lines(planted));
    let missing = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).count()
    };
    [missing(&planted, &clean), missing(&clean, &planted)]
}

#[test]
fn what_is_planted_is_all_that_differs() {
    let queue = differences(
        &text("examples/mini_runtime/ready.rs"),
        &text("examples/simulate_runtime/planted_ready.rs"),
    );
    assert_eq!(queue, [1, 1], "a line of the queue is another one, and in another place");
    // Of the server, only what accepts and echoes is copied.
    let planted = text("examples/simulate_runtime/planted_echo.rs");
    let (_, planted) = planted.split_once("use crate::echo_small::Served;").expect("its head");
    assert_eq!(differences(&text("examples/echo_small.rs"), planted)[0], 1, "the send");
}

#[test]
fn a_service_is_simulated_in_thirty_lines_which_the_page_shows() {
    let (example, page) =
        (text("examples/simulate_runtime.rs"), text("docs/SIMULATE-YOUR-RUNTIME.md"));
    let body = |name: &str| {
        let start = example.find(&format!("fn {name}(")).expect("it is there");
        let end = example[start..].find("\n}\n").expect("it ends");
        example[start..start + end + 3].to_owned()
    };
    let (service, runtime) = (body("with_clients"), body("in_runtime") + &body("clean_runtime"));
    for (what, text) in [("the service", &service), ("the runtime", &runtime)] {
        assert!(text.lines().count() <= 30, "{what}: {} lines", text.lines().count());
    }
    assert!(page.contains(&service), "the page shows another function");
    let found = run(&["--planted"]);
    let shown = page.lines().find(|line| line.starts_with("mini_runtime: seed ")).expect("a find");
    assert!(found.contains(shown), "the page shows another find: {shown}");
}
