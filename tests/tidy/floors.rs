//! Who may import whom, and that no file stands where nobody reads it.

use crate::source::{Complaint, File, identifier};

/// One floor of a crate. A file imports from its own floor and from those below.
struct Floor {
    name: &'static str,
    /// The crate's folder.
    folder: &'static str,
    /// Modules, by their path in the folder. A `*` at the end stands for anything.
    modules: &'static [&'static str],
    /// Whether a file of this floor may opt into `unsafe`.
    may_be_unsafe: bool,
}

/// The ring's life in use.
const F6: &[&str] = &[
    "forecast",
    "chain",
    "patience",
    "rest",
    "wait",
    "enter",
    "raw",
    "raw/*",
    "reap",
    "split",
    "disabled",
    "notify",
    "inspect",
    "buf",
    "buf/*",
    "op",
    "op/*",
    "lease",
    "lease/*",
    "register/*",
    "inflight",
    "inflight/*",
    "ticket",
    "event",
    "ring",
    "ring/*",
    "link",
    "link/*",
    "scope",
    "sender",
    "end",
    "backlog",
    "own",
    "forward",
];

/// The floors of `docs/ARCHITECTURE.md`, lowest first. They are also the reading order.
const FLOORS: &[Floor] = &[
    floor("F0", "sys", &["index", "errno", "abi*", "flags*", "opcode", "shape"]).values_only(),
    floor("F1", "sys", &["process", "syscall", "map", "kernel"]),
    floor("F2", "sys", &["shared"]),
    floor("F3", "sys", &["sq", "reservation", "cq", "cq/*", "buf_ring", "refill"]),
    floor("F3+", "sys", &["layout", "rings", "groups"]),
    floor("sim", "src", &["sim", "sim/*"]),
    floor("F4", "src", &["prep", "prep/*"]).values_only(),
    floor("F5", "src", &["error", "denied", "register", "setup", "capabilities"]),
    floor("F6", "src", F6),
];

const fn floor(
    name: &'static str,
    folder: &'static str,
    modules: &'static [&'static str],
) -> Floor {
    Floor { name, folder, modules, may_be_unsafe: true }
}

impl Floor {
    const fn values_only(mut self) -> Self {
        self.may_be_unsafe = false;
        self
    }

    fn holds(&self, folder: &str, module: &str) -> bool {
        let fits = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => module.starts_with(start),
            None => module == *pattern,
        };
        self.folder == folder && self.modules.iter().any(fits)
    }
}

/// The folder of the crate that `path` belongs to, and the module's path in it.
fn module_of(path: &str) -> Option<(&str, &str)> {
    let (folder, rest) = path.split_once('/')?;
    let module = rest.strip_suffix(".rs")?;
    let module = module.strip_suffix("/mod").unwrap_or(module);
    // What may not ship needs no floor, and `lib.rs` stands on the roof.
    let is_ours = matches!(folder, "sys" | "src") && module != "lib";
    let is_shipped = !["tests/", "examples/", "benches/"].iter().any(|dir| rest.starts_with(dir));
    (is_ours && is_shipped).then_some((folder, module))
}

/// How high a module stands; `None` if the table does not list it.
fn height(folder: &str, module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.holds(folder, module))
}

/// Whether the table lets the file at `path` opt into `unsafe`.
pub fn may_be_unsafe(path: &str) -> bool {
    let floor = module_of(path).and_then(|(folder, module)| height(folder, module));
    floor.is_none_or(|height| FLOORS[height].may_be_unsafe)
}

/// Every file of the libraries is in the table.
pub fn has_a_floor(file: &File) -> Vec<Complaint> {
    let cure = "put it into FLOORS in tests/tidy/floors.rs, on the lowest floor that it can have";
    match module_of(&file.path) {
        Some((folder, module)) if height(folder, module).is_none() => {
            vec![file.complain(1, format!("`{module}` has no floor"), cure)]
        }
        _ => vec![],
    }
}

/// A file names, in what it ships, only modules of its own floor and of those below.
pub fn imports_go_down(file: &File) -> Vec<Complaint> {
    let cure = "move what is needed down, or the one who needs it up";
    let Some((folder, module)) = module_of(&file.path) else { return vec![] };
    let Some(own) = height(folder, module) else { return vec![] };
    let mut complaints = Vec::new();
    for (line, name) in imported(file) {
        if let Some(other) = height(folder, &name).filter(|&other| other > own) {
            let (own, other) = (FLOORS[own].name, FLOORS[other].name);
            let what = format!("{own} imports `{name}`, which stands on {other}");
            complaints.push(file.complain(line, what, cure));
        }
    }
    complaints
}

/// The modules that a file names after `crate::`; at the top of a crate, after `super::` too.
fn imported(file: &File) -> Vec<(usize, String)> {
    let is_top = file.path.matches('/').count() == 1;
    let code: String = file.code().fold(String::new(), |mut code, (line, text)| {
        code.push_str(if file.is_test(line) { "" } else { text });
        code.push('\n');
        code
    });
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        if root == "super::" && !is_top {
            continue;
        }
        for (at, _) in code.match_indices(root) {
            let line = code[..at].matches('\n').count() + 1;
            let names = group(&code[at + root.len()..]);
            found.extend(names.into_iter().map(|name| (line, name.to_owned())));
        }
    }
    found
}

/// The first names of a path: `a` of `a::b`; `a` and `c` of `{a::{b, d}, c}`.
fn group(path: &str) -> Vec<&str> {
    let Some(inner) = path.strip_prefix('{') else { return vec![identifier(path)] };
    let (mut depth, mut start, mut names) = (0_usize, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                names.push(identifier(inner[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// Whether a file has a line that ends in `mod name;`.
fn declares(parent: &File, name: &str) -> bool {
    parent.code().any(|(_, line)| {
        let declared = line.rsplit_once("mod ").and_then(|(_, rest)| rest.trim().strip_suffix(';'));
        declared == Some(name)
    })
}

/// Every file of the libraries is declared by the module above it.
pub fn no_dead_files(tree: &[File]) -> Vec<Complaint> {
    let cure = "declare it with `mod`, or delete it";
    let mut complaints = Vec::new();
    for file in tree {
        let Some((folder, module)) = module_of(&file.path) else { continue };
        let (parents, name) = match module.rsplit_once('/') {
            Some((above, name)) => {
                (vec![format!("{folder}/{above}.rs"), format!("{folder}/{above}/mod.rs")], name)
            }
            None => (vec![format!("{folder}/lib.rs")], module),
        };
        let above = |other: &&File| parents.contains(&other.path);
        let is_declared = tree.iter().filter(above).any(|parent| declares(parent, name));
        if !is_declared {
            let what = format!("{} does not declare `{name}`", parents.join(" or "));
            complaints.push(file.complain(1, what, cure));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{accepts, rejects};

    #[test]
    fn an_import_from_above_is_rejected() {
        rejects(imports_go_down, "sys/index.rs", "use crate::shared::Slots;");
        rejects(imports_go_down, "sys/shared.rs", "use crate::{\n index::Index,\n sq::Full,\n};");
        rejects(imports_go_down, "sys/map.rs", "fn a() { super::rings::b() }");
        rejects(imports_go_down, "src/prep/read.rs", "use crate::ring::Ring;");
        accepts(imports_go_down, "sys/sq.rs", "use crate::{abi::Sqe, cq::{rings}, shared::Slots};");
        accepts(
            imports_go_down,
            "sys/index.rs",
            "//! See crate::sq.\n#[cfg(test)]\nuse crate::sq;",
        );
        accepts(imports_go_down, "src/ring.rs", "use crate::op::Read;");
    }

    #[test]
    fn a_file_without_a_floor_is_rejected() {
        rejects(has_a_floor, "sys/helpers.rs", "");
        accepts(has_a_floor, "sys/abi_net.rs", "");
        accepts(has_a_floor, "src/op/read.rs", "");
        accepts(has_a_floor, "sys/lib.rs", "");
    }

    #[test]
    fn a_file_that_nobody_declares_is_dead() {
        let tree = |root: &str| {
            [File::new("src/lib.rs", root), File::new("src/op.rs", "mod read;")]
                .into_iter()
                .chain([File::new("src/op/read.rs", "")])
                .collect::<Vec<_>>()
        };
        assert_eq!(no_dead_files(&tree("// mod op;\npub mod ops;")).len(), 1);
        assert_eq!(no_dead_files(&tree("#[doc(hidden)]\npub mod op;")).len(), 0);
    }

    #[test]
    fn values_are_never_unsafe() {
        assert!(!may_be_unsafe("sys/index.rs"));
        assert!(may_be_unsafe("sys/shared.rs"));
        assert!(may_be_unsafe("tests/race.rs"));
    }
}
