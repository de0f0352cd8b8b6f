//! Who may import whom, and that no file stands where nobody reads it.

use crate::imports;
use crate::source::{Complaint, File};

/// One layer of a crate. A file imports from its own layer and from those below.
struct Layer {
    name: &'static str,
    /// The crate's folder.
    folder: &'static str,
    /// Modules, by their path in the folder. A `*` at the end stands for anything.
    modules: &'static [&'static str],
    /// Whether a file of this layer may opt into `unsafe`.
    may_be_unsafe: bool,
}

/// The layers of `docs/ARCHITECTURE.md`, lowest first. They are also the reading order.
const LAYERS: &[Layer] = &[
    layer("F0", "sys", &["index", "errno", "abi*", "flags*", "opcode", "shape"]).values_only(),
    layer("F1", "sys", &["page", "process", "syscall", "syscall/*", "map", "place", "kernel"]),
    layer("F2", "sys", &["orderings", "slots"]),
    layer("F3", "sys", &["sq", "sq/*", "cq", "cq/*", "buf_ring", "refill"]),
    layer("F3+", "sys", &["layout", "rings", "rings/*", "groups"]),
    layer("sim", "src", &["sim", "sim/*"]),
    layer("prep", "src", &["prep", "prep/*"]).values_only(),
    layer("setup", "src", &["setup", "setup/*"]),
    layer("raw", "src", &["raw", "raw/*"]),
    layer("buf", "src", &["buf", "buf/*"]),
    layer("lease", "src", &["lease", "lease/*"]),
    layer("op", "src", &["op", "op/*"]),
    layer("ring", "src", &["ring", "ring/*"]),
    layer("future", "src", &["future", "future/*"]).values_only(),
    layer("compat", "src", &["compat", "compat/*"]),
];

const fn layer(
    name: &'static str,
    folder: &'static str,
    modules: &'static [&'static str],
) -> Layer {
    Layer { name, folder, modules, may_be_unsafe: true }
}

impl Layer {
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
    // What may not ship needs no layer, and `lib.rs` stands on the roof.
    let is_ours = matches!(folder, "sys" | "src") && module != "lib";
    let is_shipped = !["tests/", "examples/", "benches/"].iter().any(|dir| rest.starts_with(dir));
    (is_ours && is_shipped).then_some((folder, module))
}

/// How high a module stands; `None` if the table does not list it.
fn height(folder: &str, module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.holds(folder, module))
}

/// Whether the table lets the file at `path` opt into `unsafe`.
pub fn may_be_unsafe(path: &str) -> bool {
    let layer = module_of(path).and_then(|(folder, module)| height(folder, module));
    layer.is_none_or(|height| LAYERS[height].may_be_unsafe)
}

/// Every file of the libraries is in the table.
pub fn has_a_layer(file: &File) -> Vec<Complaint> {
    let cure = "put it into LAYERS in tests/tidy/layers.rs, on the lowest layer that it can have";
    match module_of(&file.path) {
        Some((folder, module)) if height(folder, module).is_none() => {
            vec![file.complain(1, format!("`{module}` has no layer"), cure)]
        }
        _ => vec![],
    }
}

/// A file names, in what it ships, only modules of its own layer and of those below.
pub fn imports_go_down(file: &File) -> Vec<Complaint> {
    let cure = "move what is needed down, or the one who needs it up";
    let Some((folder, module)) = module_of(&file.path) else { return vec![] };
    let Some(own) = height(folder, module) else { return vec![] };
    let mut complaints = Vec::new();
    for (line, path) in imports::named(file, module) {
        // What is behind a module is an item.
        let mut modules = (1..=path.len()).map(|len| path[..len].join("/"));
        let other = modules.find_map(|module| height(folder, &module));
        if let Some(other) = other.filter(|&other| other > own) {
            let (own, other, name) = (LAYERS[own].name, LAYERS[other].name, path.join("::"));
            let what = format!("{own} imports `{name}`, which stands on {other}");
            complaints.push(file.complain(line, what, cure));
        }
    }
    complaints
}

/// No file imports another that imports it, by whatever way round. A file and those in its folder
/// are one: parent and child.
pub fn no_circles(tree: &[File]) -> Vec<Complaint> {
    let cure = "move what both need into a file of its own, or make one the other's child";
    let ours = |file: &&File| module_of(&file.path).is_some();
    let files: Vec<&File> = tree.iter().filter(ours).collect();
    let graph = imports::graph(&files, module_of);
    let complain = |at: usize| {
        let way = imports::way_back(&graph, at)?;
        let names: Vec<&str> = way.iter().map(|&at| files[at].path.as_str()).collect();
        // Each circle is told once, by the first of its files.
        let first = way.iter().min() == Some(&at);
        first.then(|| files[at].complain(1, format!("a circle: {}", names.join(" -> ")), cure))
    };
    (0..files.len()).filter_map(complain).collect()
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
        rejects(imports_go_down, "sys/index.rs", "use crate::orderings::Slots;");
        rejects(
            imports_go_down,
            "sys/orderings.rs",
            "use crate::{\n index::Index,\n sq::Full,\n};",
        );
        rejects(imports_go_down, "sys/map.rs", "fn a() { super::rings::b() }");
        rejects(imports_go_down, "src/prep/read.rs", "use crate::ring::Ring;");
        rejects(imports_go_down, "src/raw/mod.rs", "fn a(ring: crate::lease::BufRing) {}");
        rejects(imports_go_down, "src/op/nop.rs", "use super::super::ring::Ring;");
        accepts(
            imports_go_down,
            "sys/sq.rs",
            "use crate::{abi::Sqe, cq::{rings}, orderings::Slots};",
        );
        accepts(
            imports_go_down,
            "sys/index.rs",
            "//! See crate::sq.\n#[cfg(test)]\nuse crate::sq;",
        );
        accepts(imports_go_down, "src/ring/mod.rs", "use crate::op::Read;");
    }

    #[test]
    fn a_circle_of_files_is_rejected() {
        let circles = |a: &str, b: &str| {
            let parent = File::new("src/op/mod.rs", "use a::A;\nuse crate::op::b::B;");
            no_circles(&[parent, File::new("src/op/a.rs", a), File::new("src/op/b.rs", b)]).len()
        };
        assert_eq!(circles("use super::b::B;", "use crate::op::{Op, a::{A, C}};"), 1);
        assert_eq!(circles("use super::b::B;", "use super::Op;"), 0, "parent and child");
        assert_eq!(circles("use super::b::B;", "#[cfg(test)]\nuse super::a::A;"), 0);
        assert_eq!(circles("", "use super::{Op, a::A};"), 0);
        let three = [
            File::new("sys/a.rs", "use crate::b::B;"),
            File::new("sys/b.rs", "fn f() { super::c::g() }"),
            File::new("sys/c.rs", "use crate::{a::A, d::D};"),
            File::new("sys/d.rs", ""),
        ];
        assert_eq!(no_circles(&three).len(), 1);
    }

    #[test]
    fn a_file_without_a_layer_is_rejected() {
        rejects(has_a_layer, "sys/helpers.rs", "");
        accepts(has_a_layer, "sys/abi_net.rs", "");
        accepts(has_a_layer, "src/op/read.rs", "");
        accepts(has_a_layer, "sys/lib.rs", "");
    }

    #[test]
    fn a_file_that_nobody_declares_is_dead() {
        let tree = |root: &str| {
            [File::new("src/lib.rs", root), File::new("src/op/mod.rs", "mod read;")]
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
        assert!(may_be_unsafe("sys/orderings.rs"));
        assert!(may_be_unsafe("tests/race/main.rs"));
    }
}
