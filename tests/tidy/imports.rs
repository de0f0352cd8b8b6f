//! Which modules a file names, and which files so come to import each other.

use crate::source::{File, identifier};

/// The modules that `file`, which is `module`, names in what it ships: after `crate::`, `super::`,
/// whole, in and out of braces, from the root of its crate. The last names may be of items.
pub fn named(file: &File, module: &str) -> Vec<(usize, Vec<String>)> {
    let code: String = file.code().fold(String::new(), |mut code, (line, text)| {
        code.push_str(if file.is_test(line) { "" } else { text });
        code.push('\n');
        code
    });
    let above: Vec<&str> = module.split('/').collect();
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            for path in paths(&code[at..]) {
                found.extend(absolute(&path, &above).map(|path| (line, path)));
            }
        }
    }
    found
}

/// The path from the root of the crate, of what a file of the module `above` calls `path`.
fn absolute(path: &[String], above: &[&str]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|name| *name == "super").count();
    let start = match path.first()?.as_str() {
        "crate" => vec![],
        _ => above.get(..above.len().checked_sub(ups)?)?.to_vec(),
    };
    let rest = path.iter().skip(ups.max(1));
    Some(start.into_iter().map(str::to_owned).chain(rest.cloned()).collect())
}

/// All paths of a tree: `a::b` and `a::c::d` of `a::{b, c::d}`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let (mut text, mut path) = (text, Vec::new());
    loop {
        if let Some(inner) = text.strip_prefix('{') {
            let under = split(inner).into_iter().flat_map(paths);
            return under.map(|rest| [path.clone(), rest].concat()).collect();
        }
        let name = identifier(text);
        if name.is_empty() {
            return vec![path]; // Of all that is there.
        }
        path.push(name.to_owned());
        match text[name.len()..].strip_prefix("::") {
            Some(rest) => text = rest,
            None => return vec![path],
        }
    }
}

/// What stands between the commas, up to the brace that closes.
fn split(inner: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                parts.push(inner[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// For each file, by its place in `files`, those that it imports: but not its parents, nor those in
/// its own folder.
pub fn graph(files: &[&File], module_of: fn(&str) -> Option<(&str, &str)>) -> Vec<Vec<usize>> {
    let names: Vec<_> = files.iter().map(|file| module_of(&file.path)).collect();
    let of = |folder: &str, path: &[String]| {
        // The longest that is a module: what is behind it is an item.
        (1..=path.len()).rev().find_map(|len| {
            let name = path[..len].join("/");
            names.iter().position(|module| *module == Some((folder, name.as_str())))
        })
    };
    let related = |a: &str, b: &str| {
        let within = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        a == b || within(a, b) || within(b, a)
    };
    let imported = |(file, name): (&&File, &Option<(&str, &str)>)| {
        let Some((folder, module)) = *name else { return vec![] };
        let others = named(file, module).into_iter().filter_map(|(_, path)| of(folder, &path));
        let is_other = |at: &usize| names[*at].is_some_and(|(_, other)| !related(module, other));
        others.filter(is_other).collect()
    };
    files.iter().zip(&names).map(imported).collect()
}

/// The shortest way from a file over others back to it.
pub fn way_back(graph: &[Vec<usize>], from: usize) -> Option<Vec<usize>> {
    let mut reached = vec![false; graph.len()];
    let mut ways = std::collections::VecDeque::from([vec![from]]);
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        for &next in &graph[last] {
            if next == from {
                return Some(way);
            }
            if !std::mem::replace(&mut reached[next], true) {
                ways.push_back(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let file = File::new("src/op/read.rs", text);
        named(&file, "op/read").into_iter().map(|(_, path)| path.join("/")).collect()
    }

    #[test]
    fn each_path_of_a_tree_is_named() {
        assert_eq!(found("use crate::{a::A, b::{B, c::*}};"), ["a/A", "b/B", "b/c"]);
        assert_eq!(found("fn f() { super::x::y() }"), ["op/x/y"]);
        assert_eq!(found("use super::super::ring::Ring;"), ["ring/Ring"]);
        assert_eq!(found("use annulus_crate::A; // crate::b"), [""; 0]);
    }
}
