"""Puts all mutants of cargo-mutants into one copy of the sources, each behind a number.

The body of a function is written once more for each of its mutants:

    fn is_full(&self) -> bool {
        match crate::switch::at(3) {              3: the site, which is this function
    17 => /*mutant*/ { true }
    18 => /*mutant*/ { self.len() != self.entries }
    _ => /*original*/ { self.len() == self.entries }
    /*end*/ }
    }

The number is `ANNULUS_MUTANT` in the environment of the program, 0 for none. With `reach` there,
each site that is passed is written once into the file `ANNULUS_REACHED`.

A `const fn` loses its `const`, unless a constant needs it: then no number can be asked, and its
mutants are left out.
"""

import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

MODULE = """//! Which mutant this process runs.
#![allow(missing_docs)]
use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const REACH: u32 = u32::MAX;
static SEEN: [AtomicBool; SITES] = [const { AtomicBool::new(false) }; SITES];
static MUTANT: LazyLock<u32> = LazyLock::new(|| match std::env::var("ANNULUS_MUTANT").as_deref() {
    Ok("reach") => REACH,
    Ok(text) => text.parse().expect("a number"),
    Err(_) => 0,
});

pub fn at(site: usize) -> u32 {
    let mutant = *MUTANT;
    if mutant == REACH { passed(site) }
    mutant
}

#[cold]
fn passed(site: usize) {
    if SEEN[site].swap(true, Relaxed) { return }
    let Ok(path) = std::env::var("ANNULUS_REACHED") else { return };
    let file = std::fs::File::options().append(true).create(true).open(path);
    let Ok(mut file) = file else { return };
    let _ = file.write_all(format!("{site}\\n").as_bytes());
}
"""

NOT_COPIED = [".git", "target", "corpus", "artifacts"]
GLOBS = ["sys/**", "src/ring/**", "src/raw/**"]
SITE = re.compile(r"match (?:crate|annulus_sys)::switch::at\((\d+)\) \{$")
ARM = re.compile(r"^(\d+) => /\*mutant\*/ ")
ORIGINAL = "_ => /*original*/ "
END = "/*end*/ }"
# How rustc names a function that had to stay const.
NOT_CONST = re.compile(r"cannot call non-const .*?`(.+?)` in ")


def load(name, path):
    """A script of ours, as a module."""
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


SWITCHES = load("switches", Path(__file__).resolve().parents[1] / "fuzz" / "switches.py")


class Body:
    """A function that has mutants: where its body is, and whether it is const."""

    def __init__(self, name, const, start, end):
        self.name, self.const, self.start, self.end = name, const, start, end


class Source:
    """A file with its mutants, by number. `bodies` gives the body of each that lies in one."""

    def __init__(self, path, text, mutants):
        self.path, self.text, self.mutants = path, text, mutants
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        blank = SWITCHES.NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        found = {}
        for match in SWITCHES.FUNCTION.finditer(blank):
            body = SWITCHES.braces(blank, match.end())
            if body:
                const = match.span(1) if match[1] else None
                found[body] = Body(match[2].split()[-1], const, *body)
        # Outermost bodies only: a function within another is switched with the whole of it.
        outer = [body for span, body in found.items()
                 if not any(o[0] < span[0] and span[1] < o[1] for o in found)]
        self.bodies = {number: self.around(mutant, outer) for number, mutant in mutants.items()}

    def offset(self, place):
        """Where a line and a column are in the text."""
        return self.starts[place["line"] - 1] + place["column"] - 1

    def span(self, mutant):
        """What a mutant replaces."""
        return self.offset(mutant["span"]["start"]), self.offset(mutant["span"]["end"])

    def around(self, mutant, bodies):
        """The body around a mutant, or none."""
        start, end = self.span(mutant)
        fit = [body for body in bodies if body.start <= start and end <= body.end]
        return fit[0] if fit else None

    def weakened(self, number):
        """A body with a mutant in it."""
        mutant, body = self.mutants[number], self.bodies[number]
        start, end = self.span(mutant)
        inner = mutant["replacement"]
        if mutant["genre"] == "FnValue" and (start, end) == (body.start, body.end):
            inner = f"{{ {inner} }}"
        if mutant["genre"] == "UnaryOperator" and not inner:
            inner = " "
        return self.text[body.start : start] + inner + self.text[end : body.end]


def list_mutants(root, tools):
    """All mutants, from cargo-mutants, which may be in the folder `tools`; or none."""
    environment = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}")
    command = ["cargo", "mutants", "--list", "--json", "--workspace"]
    command += [word for glob in GLOBS for word in ("-f", glob)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    if done.returncode != 0:
        print(done.stderr.decode(errors="replace"), file=sys.stderr)
        print("tests/mutants/all --help says how to install cargo-mutants", file=sys.stderr)
        return None
    mutants = json.loads(done.stdout)
    for mutant in mutants:
        mutant.pop("diff", None)
    return mutants


def copy_tree(root, tree):
    """Copies the sources. A file that is as it was keeps its date, and is not built again."""
    fresh = tree.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(root, fresh, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    tree.mkdir(exist_ok=True)
    subprocess.run(["cp", "-rup", f"{fresh}/.", str(tree)], check=True)
    shutil.rmtree(fresh)


def sources(root, mutants):
    """The files that have mutants."""
    by_file = defaultdict(dict)
    for number, mutant in mutants.items():
        by_file[mutant["file"]][number] = mutant
    return {path: Source(path, (root / path).read_text(encoding="utf-8"), here)
            for path, here in sorted(by_file.items())}


def write(files, tree, left_out):
    """Writes the files with all mutants but those of `left_out` below `tree`; gives the site of
    each mutant that is in them."""
    sites, numbers = {}, {}
    for path, source in files.items():
        text, const = source.text, []
        by_body = defaultdict(list)
        for number, body in source.bodies.items():
            if body and number not in left_out:
                by_body[body].append(number)
        which = "crate" if path.startswith("sys/") else "annulus_sys"
        for body in sorted(by_body, key=lambda body: -body.start):
            here = by_body[body]
            site = numbers.setdefault((path, body.start), len(numbers))
            sites.update(dict.fromkeys(here, site))
            arms = "".join(f"{n} => /*mutant*/ {source.weakened(n)}\n" for n in here)
            whole = (f"{{ match {which}::switch::at({site}) {{\n{arms}"
                     f"{ORIGINAL}{source.text[body.start:body.end]}\n{END} }}")
            text = text[: body.start] + whole + text[body.end :]
            if body.const:
                text = text[: body.const[0]] + text[body.const[1] :]
        replace(tree / path, text)
    module = MODULE.replace("SITES", str(max(len(numbers), 1)))
    replace(tree / "sys" / "switch.rs", module)
    root = tree / "sys" / "lib.rs"
    text = root.read_text(encoding="utf-8")
    if "pub mod switch;" not in text:
        text = text.replace("mod page;", "mod page;\n#[doc(hidden)]\npub mod switch;", 1)
        replace(root, text)
    return sites


def replace(path, text):
    """Writes a file, unless it is as it was, so that cargo builds no more than it must."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def blame(messages, files, tree, sites):
    """From the errors of rustc: the mutants to leave out with the reason for each, and the errors
    for which nobody could be blamed."""
    bad, unknown = {}, []
    for message in messages:
        code = (message.get("code") or {}).get("code")
        name = NOT_CONST.search(message["message"])
        if code == "E0015" and name:
            short = re.sub(r"<.*", "", re.sub(r"::<.*", "", name[1])).split("::")[-1]
            consts = [number for source in files.values() for number, body in source.bodies.items()
                      if body and body.const and body.name == short]
            if consts:
                bad.update(dict.fromkeys(consts, "const"))
                continue
        here = {}
        for span in outermost(message["spans"]):
            here.update(at_line(tree, span, sites))
        if not here and not message["message"].startswith(("aborting", "could not compile")):
            unknown.append(message.get("rendered") or message["message"])
        bad.update(here)
    return bad, unknown


def outermost(spans):
    """The places of an error, outside of macros."""
    for span in spans:
        if not span["is_primary"]:
            continue
        while span.get("expansion"):
            span = span["expansion"]["span"]
        yield span


def at_line(tree, span, sites):
    """The mutant that an error lies in; all of the function's if it lies in none."""
    path = tree / span["file_name"]
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    original = False
    for at in range(span["line_start"] - 1, -1, -1):
        arm, site = ARM.match(lines[at]), SITE.search(lines[at])
        if arm and not original:
            return {int(arm[1]): "does not build"}
        if lines[at].startswith(END) and at != span["line_start"] - 1:
            return {}
        original = original or lines[at].startswith(ORIGINAL)
        if site:
            whole = [number for number, where in sites.items() if where == int(site[1])]
            return dict.fromkeys(whole, "cannot be switched")
    return {}
