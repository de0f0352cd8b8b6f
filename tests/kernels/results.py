"""The verdict on a kernel, read from the console of its guest.

    console ──► one Pass per user and program ──► passed, failed, skipped
            ──► the kernel's log              ──► a warning that names io_uring fails the kernel
            ──► no end of the guest           ──► panic, timeout, no status

Where something is missing we never presume the best: no summary line is no result.
"""

import re
from dataclasses import dataclass, field

# What liburing looks for in the kernel's log after each of its tests, and a few more.
ALARM = re.compile(r"WARNING|BUG|Oops|general protection fault|lockdep|inconsistent lock state"
                   r"|possible (circular|recursive) locking|INFO: (task|rcu)|KASAN|UBSAN")
# The call trace of a report follows within so many lines.
REPORT_LINES = 60
OURS = re.compile(r"io_uring|io_wq|iou-(wrk|sqp)")

SUMMARY = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;",
                     re.MULTILINE)
# The name is padded, and a kind in brackets may stand before it. Whatever the test itself prints
# comes between the dots and the outcome.
TEST = re.compile(r"^test +(?:\[(?P<kind>[^]]*)\] *)?(?P<name>\S+) +\.\.\. (?P<rest>.*?)"
                  r"(?=^test |^failures:$|\Z)", re.MULTILINE | re.DOTALL)
# The messages of all failed tests stand between two such lines; after the second, their names.
FAILURES = re.compile(r"^failures:$\n(.*?)^failures:$", re.MULTILINE | re.DOTALL)
# libtest-mimic puts the reason in brackets, libtest after a comma.
OUTCOME = re.compile(r"(?P<word>ok|FAILED|ignored(?: \(|, )?(?P<reason>[^\n]*?)\)?)\Z")


@dataclass
class Pass:
    """One program, run once as one user."""

    user: str
    program: str
    libtest: bool
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    skips: list = field(default_factory=list)
    """(test, reason) of each skipped test."""
    problem: str = ""
    """Why there is no trustworthy result, if so."""
    output: str = ""
    """What to show of a pass that failed."""


@dataclass
class Result:
    """One kernel."""

    wanted: str
    package: object
    seconds: float
    passes: list
    problems: list
    """Failures of the whole guest, each a short line; the first word of all is the verdict."""
    log_excerpt: str = ""

    @property
    def verdict(self):
        """`ok`, or the worst that happened."""
        if self.problems:
            return self.problems[0].split(":")[0]
        if any(run.failed or run.problem for run in self.passes):
            return "FAILED"
        return "ok"

    def count(self, user, what):
        """The sum over all programs of `passed`, `failed` or `skipped` as one user."""
        return sum(getattr(run, what) for run in self.passes if run.user == user)


def judge(wanted, package, plan, console):
    """Reads a console."""
    text = console.text
    passes = [_read_pass(text, *run) for run in plan.passes()]
    problems = _end_of_guest(console)
    refused = re.findall(r"^@@ refused (.*)$", text, re.MULTILINE)
    problems += [f"refused: {words}" for words in refused]
    tests, _, log = text.partition("\n@@ dmesg\n")
    excerpt = _io_uring_report(log.partition("\n@@ done\n")[0])
    if excerpt:
        problems.append("dmesg: the kernel's log has a warning about io_uring")
    elif not any("\n@@ begin " in part for part in (tests, log)):
        # It died before our time: what it said last is all there is to see.
        excerpt = _last_lines(tests)
    return Result(wanted, package, console.seconds, passes, problems, excerpt)


def _end_of_guest(console):
    if "Kernel panic" in console.text:
        return ["panic: the kernel panicked"]
    if "\n@@ timeout\n" in console.text or not console.ended:
        return ["timeout: the guest did not end in time"]
    if "\n@@ done\n" not in console.text:
        return ["no status: the guest died without a word"]
    return []


def _read_pass(text, user, number, program):
    run = Pass(user, program.name, program.libtest)
    start = f"\n@@ begin {user} {number}\n"
    end = re.compile(rf"\n@@ end {user} {number} (\d+)\n")
    if start not in text:
        run.problem = "it was never started"
        return run
    rest = text.partition(start)[2]
    finished = end.search(rest)
    if not finished:
        run.problem = "it did not end"
        run.output = _last_lines(rest.partition("\n@@ ")[0])
        return run
    output = rest[:finished.start()]
    status = int(finished.group(1))
    if program.libtest:
        _read_libtest(run, output, status)
    elif status == 0:
        run.passed = 1
    else:
        run.failed = 1
        run.output = f"exit status {status}\n{_last_lines(output)}"
    return run


def _read_libtest(run, output, status):
    summary = SUMMARY.search(output)
    if not summary:
        run.problem = f"it ended with status {status} and no summary"
        run.output = _last_lines(output)
        return
    run.passed, run.failed, run.skipped = map(int, summary.groups())
    if run.passed + run.failed + run.skipped == 0:
        run.problem = "it ran no test"
    elif (status == 0) != (run.failed == 0):
        run.problem = f"it ended with status {status} but counts {run.failed} failed"
    shown = []
    for test in TEST.finditer(output[:summary.start()]):
        outcome = OUTCOME.search(test["rest"].rstrip())
        if outcome and outcome["word"].startswith("ignored"):
            run.skips.append((test["name"], outcome["reason"] or test["kind"] or "no reason given"))
        elif not outcome or outcome["word"] == "FAILED":
            shown.append(test.group().rstrip())
    if len(run.skips) != run.skipped:
        run.problem = f"it names {len(run.skips)} skipped tests but counts {run.skipped}"
    if run.failed or run.problem:
        messages = FAILURES.search(output)
        run.output = "\n".join([*shown, messages.group(1) if messages else ""]).strip()


def _io_uring_report(log):
    """The first report in the kernel's log that names io_uring, or nothing."""
    lines = log.splitlines()
    for at, line in enumerate(lines):
        if ALARM.search(line):
            report = lines[at:at + REPORT_LINES]
            if any(OURS.search(line) for line in report):
                return "\n".join(report)
    return ""


def _last_lines(text, count=40):
    return "\n".join(text.strip().splitlines()[-count:])
