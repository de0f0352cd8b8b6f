//! Documentation comments as text: what stands before an item, its sections, and its links turned
//! into those of a page.

use std::collections::BTreeSet;

/// An item with its documentation.
#[derive(Debug)]
pub struct Doc {
    pub name: String,
    /// Without the slashes.
    lines: Vec<String>,
    attributes: String,
}

/// The public items of this kind (`struct`, `fn`) in `text` that have documentation.
pub fn documented(text: &str, kind: &str) -> Vec<Doc> {
    let heads = [format!("pub {kind} "), format!("pub const {kind} ")];
    items(text.lines(), &[&heads[0], &heads[1]])
}

/// The methods in `text` that have documentation, named `Owner::method`: those of types and traits.
pub fn methods(text: &str) -> Vec<Doc> {
    let mut found = Vec::new();
    let (mut owner, mut inside) = (None, Vec::new());
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(line) => inside.push(line),
            None if line.is_empty() => inside.push(line),
            None => {
                let of_it = items(inside.drain(..), &["pub fn ", "pub const fn ", "fn "]);
                if let Some(owner) = owner {
                    let named = |doc: Doc| Doc { name: format!("{owner}::{}", doc.name), ..doc };
                    found.extend(of_it.into_iter().map(named));
                }
                owner = owner_of(line);
            }
        }
    }
    found
}

/// The type or trait whose items come after this line.
fn owner_of(line: &str) -> Option<&str> {
    let of_trait = line.strip_prefix("pub trait ").or(line.strip_prefix("pub unsafe trait "));
    let of_type = line.strip_prefix("impl").filter(|_| !line.contains(" for "));
    // Behind the parameters of `impl<..>`, of which there are none in angle brackets.
    let of_type = of_type.and_then(|rest| rest.split_once(' ')).map(|(_, rest)| rest);
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    of_trait.or(of_type)?.split(|c| !is_name(c)).next().filter(|name| !name.is_empty())
}

/// The items whose lines begin with one of `heads`.
fn items<'a>(lines: impl Iterator<Item = &'a str>, heads: &[&str]) -> Vec<Doc> {
    let mut items = Vec::new();
    let (mut docs, mut attributes) = (Vec::new(), String::new());
    let mut is_open = false;
    for line in lines {
        if let Some(rest) = line.strip_prefix("///") {
            docs.push(rest.strip_prefix(' ').unwrap_or(rest).to_owned());
        } else if is_open || line.starts_with("#[") {
            attributes.push_str(line);
            is_open = !line.ends_with(']');
        } else {
            let rest = heads.iter().find_map(|head| line.strip_prefix(head));
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let name = rest.and_then(|rest| rest.split(|c| !is_name(c)).next());
            if let Some(name) = name.filter(|_| !docs.is_empty()) {
                let (lines, attributes) = (docs.clone(), attributes.clone());
                items.push(Doc { name: name.to_owned(), lines, attributes });
            }
            docs.clear();
            attributes.clear();
        }
    }
    items
}

impl Doc {
    /// All of it.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The opcodes that search finds it by, without `IORING_OP_`.
    pub fn opcodes(&self) -> Vec<&str> {
        let found = self.attributes.split("\"IORING_OP_").skip(1);
        found.filter_map(|rest| rest.split('"').next()).collect()
    }

    /// What stands under the heading `# name`, without blank lines around it.
    pub fn section(&self, name: &str) -> Option<String> {
        let heading = format!("# {name}");
        let at = self.lines.iter().position(|line| *line == heading)?;
        let inside = &self.lines[at + 1..];
        Some(until_heading(inside).trim().to_owned())
    }

    /// What stands before the first heading: the first paragraph, and the rest.
    fn opening(&self) -> (String, String) {
        let opening = until_heading(&self.lines);
        let (first, rest) = opening.split_once("\n\n").unwrap_or((&opening, ""));
        (first.trim().to_owned(), rest.trim().to_owned())
    }

    /// The example's code, without the lines that documentation hides.
    fn example(&self) -> Option<String> {
        let section = self.section("Example")?;
        let (_, rest) = section.split_once("```")?;
        let (_, rest) = rest.split_once('\n')?;
        let (code, _) = rest.split_once("```")?;
        let shown = code.lines().filter(|line| *line != "#" && !line.starts_with("# "));
        Some(shown.collect::<Vec<_>>().join("\n"))
    }

    /// The method that makes it, if its documentation names one: `Pipe::direct`.
    pub fn made_by(&self) -> Option<String> {
        let (first, _) = self.opening();
        let (_, rest) = first.split_once("ade by [`")?;
        rest.split('`').next().map(str::to_owned)
    }

    /// Whether its example makes one of `name`.
    pub fn shows(&self, name: &str) -> bool {
        self.example().is_some_and(|code| code.contains(&format!("{name}::")))
    }

    /// Its entry on the page, with what the method says that makes it. `shown` has its example, if
    /// neither has.
    pub fn entry(
        &self,
        maker: Option<&Self>,
        shown: Option<&str>,
        on_page: &BTreeSet<&str>,
    ) -> String {
        let (first, own) = self.opening();
        let more = maker.map(|maker| without_since(&maker.opening().1).0).unwrap_or_default();
        let rest = [own, more.trim().to_owned()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>();
        let rest = rest.join("\n\n");
        let (first, since) = without_since(&first);
        let mut facts: Vec<String> =
            self.opcodes().iter().map(|opcode| format!("`IORING_OP_{opcode}`")).collect();
        facts.extend(since.map(|since| format!("since Linux {since}")));
        let mut entry = format!("\n### {}\n\n{}", self.name, linked(&first, on_page));
        if !facts.is_empty() {
            entry += &format!(" *{}.*", capital(&facts.join(", ")));
        }
        entry.push('\n');
        if let Some(code) = self.example().or_else(|| maker?.example()) {
            entry += &format!("\n```rust\n{code}\n```\n");
        } else if let Some(shown) = shown {
            let id = shown.to_lowercase();
            entry += &format!("\n*An example* is that of [`{shown}`](#{id}).\n");
        }
        if !rest.is_empty() {
            entry += &format!("\n*What surprises.* {}\n", linked(&rest, on_page));
        }
        for name in ["Completion", "Cancellation", "Errors"] {
            if let Some(section) = self.section(name) {
                entry += &format!("\n*{name}.* {}\n", linked(&section, on_page));
            }
        }
        entry
    }

    /// All of its text up to a heading, as paragraphs.
    pub fn plain(&self, on_page: &BTreeSet<&str>) -> String {
        format!("{}\n", linked(until_heading(&self.lines).trim(), on_page))
    }
}

/// The lines up to a heading that is no part of an example, without definitions of links.
fn until_heading(lines: &[String]) -> String {
    let mut in_code = false;
    let inside = lines.iter().take_while(|line| {
        in_code ^= line.starts_with("```");
        in_code || !line.starts_with("# ")
    });
    let is_definition = |line: &str| line.starts_with('[') && line.contains("]: ");
    let kept = inside.filter(|line| !is_definition(line)).map(String::as_str);
    kept.collect::<Vec<_>>().join("\n")
}

/// The text without its sentence `Since Linux x.y.`, and that release.
fn without_since(text: &str) -> (String, Option<String>) {
    let one_line = text.replace('\n', " ");
    let Some((before, rest)) = one_line.split_once("Since Linux ") else {
        return (text.to_owned(), None);
    };
    let is_release = |c: char| c.is_ascii_digit() || c == '.';
    let end = rest.find(|c| !is_release(c)).unwrap_or(rest.len());
    let Some(release) = rest[..end].strip_suffix('.') else { return (text.to_owned(), None) };
    // The same places in the text with its line breaks, since a break is as long as a space.
    let behind = &text[before.len() + "Since Linux ".len() + end..];
    let text = format!("{}{}", text[..before.len()].trim_end(), behind);
    (text, Some(release.to_owned()))
}

/// With its first letter large.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(letters).collect()
}

/// The text with its links to items of the page as links of the page, and the other links as plain
/// text.
fn linked(text: &str, on_page: &BTreeSet<&str>) -> String {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '[']) {
        whole += &rest[..at];
        rest = &rest[at..];
        if rest.starts_with('`') {
            let ticks = rest.len() - rest.trim_start_matches('`').len();
            let length = rest[ticks..].find(&rest[..ticks]).map_or(rest.len(), |at| at + 2 * ticks);
            whole += &rest[..length];
            rest = &rest[length..];
            continue;
        }
        let Some((label, behind)) = rest[1..].split_once(']') else { break };
        let (target, behind) = match behind.strip_prefix('(').and_then(|it| it.split_once(')')) {
            Some((target, behind)) => (target, behind),
            None => (label, behind),
        };
        let target = target.trim_matches('`');
        let name = target.rsplit("::").next().unwrap_or_default();
        let is_item = target == name || target == format!("crate::op::{name}");
        if is_item && on_page.contains(name) {
            whole += &format!("[{label}](#{})", name.to_lowercase());
        } else {
            whole += label;
        }
        rest = behind;
    }
    whole + rest
}
