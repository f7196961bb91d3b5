//! The table of keys as Markdown: the generated part of `docs/config.md`.

use std::fmt::Write;

use super::connector::Catalog;
use super::keys::{Default, GROUPS, Group, Importance, Scope};

pub const BEGIN: &str =
    "<!-- keys: begin (written by `UPDATE=1 cargo test`, from the tables of keys) -->";
pub const END: &str = "<!-- keys: end -->";

/// One table per group.
pub fn markdown(catalog: &Catalog) -> String {
    let mut out = String::new();
    for (group, title) in GROUPS {
        let _unfailing = write!(
            out,
            "\n### {title}\n\n| Key | Type | Default | Importance | |\n|---|---|---|---|---|\n"
        );
        // These keys exist twice; they are shown once.
        let twice = |name: &str| *group == Group::Store && name.starts_with("source.");
        let of_group = catalog.keys().filter(|def| def.group == *group);
        for def in of_group.filter(|def| !twice(def.name)) {
            let default = match def.default {
                Default::Required(_) => "**required**".to_owned(),
                Default::Is(value) => format!("`{value}`"),
                Default::Derived(how) => how.to_owned(),
                Default::Unset => "not set".to_owned(),
            };
            let importance = match def.importance {
                Importance::High => "high",
                Importance::Medium => "medium",
                Importance::Low => "low",
            };
            let scope = match def.scope {
                Scope::Always => String::new(),
                Scope::Records => "*Sources of records.* ".to_owned(),
                Scope::Source(name) => format!("*`{name}` source.* "),
                Scope::Sink(name) => format!("*`{name}` sink.* "),
                Scope::Sources(names) => format!("*`{}` source.* ", names.join("` or `")),
            };
            let _unfailing = writeln!(
                out,
                "| `{}` | {} | {default} | {importance} | {scope}{} |",
                def.name,
                def.shape.describe(),
                def.doc
            );
        }
    }
    out
}

/// `page` with its generated part replaced; `None`: the marks are missing.
pub fn refresh(page: &str, catalog: &Catalog) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{}\n{END}{tail}", markdown(catalog)))
}
