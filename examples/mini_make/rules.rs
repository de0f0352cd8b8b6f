//! The rules of a file: which target needs which others, and the commands that make it.
//!
//! ```text
//!   # a comment                             a target may need others; a line that begins with a
//!   all: one two                            tab is a command of the targets before it; `@` before
//!   one: Cargo.toml                         a command keeps it from being printed; `.PHONY` names
//!   <tab>@wc -l Cargo.toml > one            targets that are no files
//! ```
//!
//! Leaves to others: variables, patterns and functions, which a real `make` has.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::SystemTime;

/// How one target is made.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// What must be made before.
    pub needs: Vec<String>,
    /// The commands, one after the other.
    pub commands: Vec<String>,
}

/// All rules of a file.
#[derive(Debug, Default)]
pub struct Rules {
    rules: HashMap<String, Rule>,
    /// The target that is made if nobody says which.
    first: Option<String>,
    phony: HashSet<String>,
}

impl Rules {
    /// Reads the text of a file; an error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        let mut targets: Vec<String> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(command) = line.strip_prefix('\t') {
                if targets.is_empty() {
                    return Err(format!("line {number}: a command before the first target"));
                }
                for target in &targets {
                    let rule = rules.rules.entry(target.clone()).or_default();
                    rule.commands.push(command.trim().to_owned());
                }
                continue;
            }
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let Some((names, needs)) = line.split_once(':') else {
                return Err(format!("line {number}: neither `TARGET: NEEDED…` nor a command"));
            };
            let needs: Vec<String> = needs.split_whitespace().map(str::to_owned).collect();
            targets = names.split_whitespace().map(str::to_owned).collect();
            if targets == [".PHONY"] {
                rules.phony.extend(needs);
                targets.clear();
                continue;
            }
            for target in &targets {
                rules.first.get_or_insert_with(|| target.clone());
                let rule = rules.rules.entry(target.clone()).or_default();
                rule.needs.extend(needs.iter().cloned());
            }
        }
        Ok(rules)
    }

    /// The target that is made if nobody says which.
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// The rule of a target; none for a file that is there, and that nothing makes.
    pub fn rule(&self, target: &str) -> Option<&Rule> {
        self.rules.get(target)
    }

    /// All that `goals` need, each after what it needs itself; an error where nothing makes it, or
    /// where it needs itself.
    pub fn order(&self, goals: &[String]) -> Result<Vec<String>, String> {
        let mut order = Vec::new();
        let (mut done, mut path) = (HashSet::new(), Vec::new());
        for goal in goals {
            self.visit(goal, &mut done, &mut path, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        target: &str,
        done: &mut HashSet<String>,
        path: &mut Vec<String>,
        order: &mut Vec<String>,
    ) -> Result<(), String> {
        if done.contains(target) {
            return Ok(());
        }
        if path.iter().any(|before| before == target) {
            return Err(format!("{target} needs itself, by way of {}", path.join(", ")));
        }
        let Some(rule) = self.rules.get(target) else {
            if fs::exists(target).unwrap_or(false) {
                done.insert(target.to_owned());
                return Ok(());
            }
            let by = path.last().map(|by| format!(", which {by} needs")).unwrap_or_default();
            return Err(format!("no rule makes {target}{by}"));
        };
        path.push(target.to_owned());
        for need in &rule.needs {
            self.visit(need, done, path, order)?;
        }
        path.pop();
        done.insert(target.to_owned());
        order.push(target.to_owned());
        Ok(())
    }

    /// Whether the file of `target` is missing, or older than one that it needs.
    pub fn is_stale(&self, target: &str) -> bool {
        let made = |name: &str| -> Option<SystemTime> {
            let is_file = !self.phony.contains(name);
            is_file.then(|| fs::metadata(name).and_then(|it| it.modified()).ok()).flatten()
        };
        let Some(when) = made(target) else { return true };
        let needs = self.rules.get(target).map(|rule| &rule.needs[..]).unwrap_or_default();
        needs.iter().any(|need| made(need).is_none_or(|its| its > when))
    }
}
