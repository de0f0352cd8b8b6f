//! What documentation owes its reader: since when, how it ends, and where to find it.

use std::collections::BTreeSet;

use crate::source::{Complaint, File, find_word, identifier};

/// Each constant of the kernel says since which kernel it exists.
pub fn constants_say_since(file: &File) -> Vec<Complaint> {
    let cure = "say `Since Linux x.y` in the constant's documentation";
    if file.path != "sys/opcode.rs" && !file.path.starts_with("sys/flags") {
        return vec![];
    }
    let constants = file
        .shipped_code()
        .filter_map(|(line, text)| Some((line, kernel_constant(text.trim_start())?)));
    let silent = constants.filter(|&(line, _)| !documentation(file, line).contains("Since Linux"));
    silent
        .map(|(line, name)| file.complain(line, format!("{name} does not say since when"), cure))
        .collect()
}

/// The name of the constant that `line` defines, if it is a number of the kernel's.
fn kernel_constant(line: &str) -> Option<&str> {
    let public = line.strip_prefix("pub const ");
    let rest = public.or(line.strip_prefix("const "))?;
    let name = identifier(rest);
    let after = &rest[name.len()..];
    // Within `bitflags!` a constant is public without the word, and has no type. A list of
    // constants is ours.
    let is_number = if public.is_some() {
        after.starts_with(": ") && !after.starts_with(": &") && !after.starts_with(": [")
    } else {
        // `_` stands for the bits that are yet to come.
        after.starts_with(" =") && name != "_"
    };
    is_number.then_some(name)
}

/// Each operation says what its completion means, and what becomes of it when it is cancelled.
pub fn operations_say_how_they_end(file: &File) -> Vec<Complaint> {
    let cure = "add the section to the struct's documentation";
    if !file.is_library() || !file.path.starts_with("src/op/") {
        return vec![];
    }
    let structs: Vec<(usize, &str)> = file
        .shipped_code()
        .filter_map(|(line, text)| Some((line, identifier(text.strip_prefix("pub struct ")?))))
        .collect();
    // Operations implement `Op`, and owe the two sections. Others do not.
    let implements = |name: &str| {
        file.code().any(|(_, text)| {
            text.split_once("Op for ").is_some_and(|(_, rest)| identifier(rest) == name)
        })
    };
    let mut complaints = Vec::new();
    for (line, name) in structs.into_iter().filter(|(_, name)| implements(name)) {
        let documentation = documentation(file, line);
        for section in ["# Completion", "# Cancellation"] {
            if !documentation.contains(section) {
                complaints.push(file.complain(line, format!("{name} has no `{section}`"), cure));
            }
        }
    }
    complaints
}

/// The `///` lines above the item at `line`, past its attributes.
fn documentation(file: &File, line: usize) -> String {
    let above: Vec<&str> = file.text.lines().take(line - 1).collect();
    let belongs = |text: &&&str| {
        let text = text.trim_start();
        // An attribute may go on over lines; its last one ends with `]`.
        text.starts_with("///") || text.starts_with('#') || text.ends_with(")]")
    };
    above.iter().rev().take_while(belongs).map(|text| format!("{text}\n")).collect()
}

/// The README names each example.
pub fn examples_are_in_the_readme(tree: &[File]) -> Vec<Complaint> {
    let cure = "name it in README.md with the idea that it adds, or delete it";
    let readme = tree.iter().find(|file| file.path == "README.md").map_or("", |file| &file.text);
    let mut complaints = Vec::new();
    for file in tree {
        let Some(rest) = file.path.strip_prefix("examples/") else { continue };
        let name = rest.strip_suffix("/main.rs").or(rest.strip_suffix(".rs"));
        // A file deeper down is a module of an example, and no example.
        let Some(name) = name.filter(|name| !name.contains('/')) else { continue };
        if find_word(readme, name).is_none() {
            complaints.push(file.complain(1, format!("README.md does not name `{name}`"), cure));
        }
    }
    complaints
}

/// The README, or another document, links each document.
pub fn documents_are_linked(tree: &[File]) -> Vec<Complaint> {
    let cure = "link it from README.md or from the document that a reader comes from";
    let targets = |file: &File| -> Vec<String> {
        let to_others = links(file).into_iter().filter(|target| *target != file.path);
        to_others.collect()
    };
    let documents = tree.iter().filter(|file| file.path.ends_with(".md"));
    let linked: BTreeSet<String> = documents.flat_map(targets).collect();
    // What is no text, such as the settings of the book, is nobody's reading.
    let is_document = |file: &&File| file.path.starts_with("docs/") && file.path.ends_with(".md");
    let lost = tree.iter().filter(|file| is_document(file) && !linked.contains(&file.path));
    lost.map(|file| file.complain(1, "nothing links this document", cure)).collect()
}

/// Where the relative links of a document lead, from the root of the tree.
fn links(file: &File) -> Vec<String> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let targets = file.text.split("](").skip(1).filter_map(|rest| rest.split(['#', ')']).next());
    targets.map(|target| resolve(folder, target)).collect()
}

/// `target` as seen from `folder`, without `.` and `..`.
fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{accepts, rejects};

    #[test]
    fn a_constant_without_its_kernel_is_rejected() {
        rejects(constants_say_since, "sys/opcode.rs", "/// Nothing.\npub const NOP: Self = 0;");
        rejects(constants_say_since, "sys/flags_setup.rs", "    const IOPOLL = 1;");
        accepts(
            constants_say_since,
            "sys/flags.rs",
            "/// Polls. Since Linux 5.1.\n#[doc(alias = \"X\")]\nconst IOPOLL = 1;\n\
             pub const ALL: &[Self] = &[];\npub const fn f() {}\nconst HIGH: u32 = 8;\n\
             const _ = !0;",
        );
        accepts(constants_say_since, "sys/abi.rs", "pub const SIZE: u32 = 0;");
    }

    #[test]
    fn an_operation_without_its_end_is_rejected() {
        let sections = "/// Reads.\n///\n/// # Completion\n///\n/// # Cancellation\n";
        let read = "#[derive(Debug)]\npub struct Read;\nimpl Op for Read {}\n";
        rejects(operations_say_how_they_end, "src/op/read.rs", read);
        accepts(operations_say_how_they_end, "src/op/read.rs", "/// Bytes.\npub struct Bytes;");
        accepts(operations_say_how_they_end, "src/op/read.rs", &format!("{sections}{read}"));
        let output = format!("{sections}{read}/// What was read.\npub struct Output;\n");
        accepts(operations_say_how_they_end, "src/op/read.rs", &output);
    }

    #[test]
    fn an_example_that_the_readme_does_not_name_is_rejected() {
        let tree = |readme| [File::new("README.md", readme), File::new("examples/02_nop.rs", "")];
        assert_eq!(examples_are_in_the_readme(&tree("`01_nop`, `02_nop_again`")).len(), 1);
        assert_eq!(examples_are_in_the_readme(&tree("`02_nop`: one request")).len(), 0);
    }

    #[test]
    fn a_document_that_nothing_links_is_rejected() {
        let tree = |book| [File::new("docs/book/one.md", book), File::new("docs/a.md", "# A")];
        let of_a = |book| documents_are_linked(&tree(book)).iter().any(|c| c.path == "docs/a.md");
        assert!(of_a("docs/a.md, and [a](a.md)"));
        assert!(!of_a("see [A](../a.md#top)"));
    }
}
