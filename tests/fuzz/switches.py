"""Puts many faults into one build, each behind a switch.

The function that a fault lies in is written once more for each fault, and a number chooses:

    fn flush(&mut self) -> u32 {
        match planted::which() {
            7 => { ... with fault 7 ... }
            _ => { ... as it was ... }
        }
    }

The number is `ANNULUS_PLANTED` in the environment of the program, 0 for none. So one build shows
what each fault does alone, and that nothing is found without one.
"""

import os
import re
from collections import defaultdict

MODULE = """//! Which fault is planted.
use std::sync::LazyLock;

static WHICH: LazyLock<u32> = LazyLock::new(|| {
    std::env::var("ANNULUS_PLANTED").map_or(0, |text| text.parse().expect("a number"))
});

/// The number of the fault, 0 for none.
#[must_use]
pub fn which() -> u32 {
    *WHICH
}
"""

# What is no code: comments, strings, characters.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\\n]|\\[^\n]+?)'""",
    re.DOTALL,
)
FUNCTION = re.compile(r"\b(const\s+)?((?:unsafe\s+)?(?:extern\s+)?fn\s+\w+)")


class NoFunction(Exception):
    """A fault does not lie in one function that can be switched."""


def plant(tree, faults):
    """Writes each fault of `faults`, number to mutant, into the sources below `tree`."""
    by_file = defaultdict(dict)
    for number, fault in faults.items():
        by_file[fault.path][number] = fault
    for path, here in by_file.items():
        file = tree / path
        file.write_text(switched(file.read_text(encoding="utf-8"), path, here), encoding="utf-8")
    (tree / "sys" / "planted.rs").write_text(MODULE, encoding="utf-8")
    root = tree / "sys" / "lib.rs"
    text = root.read_text(encoding="utf-8").replace("mod page;", "mod page;\npub mod planted;")
    root.write_text(text, encoding="utf-8")


def switched(text, path, faults):
    """A file's text with all of its faults in it."""
    bodies = defaultdict(dict)
    for number, fault in faults.items():
        weakened = fault.apply(text)
        body = body_of(text, changed(text, fault), fault.name)
        end = body[1] + len(weakened) - len(text)
        bodies[body][number] = weakened[body[0] : end]
    last = len(text)
    which = "crate::planted" if path.startswith("sys/") else "annulus_sys::planted"
    for start, end in sorted(bodies, reverse=True):
        if end > last:
            raise NoFunction(f"{path}: a fault in a function in a function with a fault")
        variants = bodies[start, end].items()
        arms = "\n".join(f"{number} => {weakened}" for number, weakened in variants)
        whole = f"{{ match {which}::which() {{\n{arms}\n_ => {text[start:end]}\n}} }}"
        text = text[:start] + whole + text[end:]
        last = start
    return without_const(text, which)


def without_const(text, which):
    """The text, with no `const` before functions that are switched: a number is asked there."""

    def plain(match):
        after = text[match.end() :]
        brace = after.find("{")
        is_switched = after[brace:].startswith(f"{{ match {which}::")
        return match[2] if match[1] and is_switched else match[0]

    return FUNCTION.sub(plain, text)


def changed(text, fault):
    """Where what a fault really changes begins and ends."""
    start, end = fault.span(text)
    before = len(os.path.commonprefix([fault.find, fault.replace]))
    old, new = fault.find[before:], fault.replace[before:]
    after = len(os.path.commonprefix([old[::-1], new[::-1]]))
    return start + before, end - after


def body_of(text, span, name):
    """Where the body of the innermost function around `span` begins and ends."""
    blank = NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    found = None
    for match in FUNCTION.finditer(blank):
        body = braces(blank, match.end())
        if body and body[0] < span[0] and span[1] <= body[1]:
            found = body
    if found is None:
        raise NoFunction(f"{name} lies in no function")
    return found


def braces(blank, start):
    """From the first brace behind a function's name to the one that closes it."""
    depth = 0
    for at in range(start, len(blank)):
        sign = blank[at]
        depth += (sign in "([") - (sign in ")]")
        if sign == ";" and depth == 0:
            return None
        if sign == "{" and depth == 0:
            break
    else:
        return None
    level = 0
    for end in range(at, len(blank)):
        level += (blank[end] == "{") - (blank[end] == "}")
        if level == 0:
            return at, end + 1
    return None
