//! `new`: a crate that builds, passes its tests and runs before a line of it is changed.

use std::fs;
use std::path::{Path, PathBuf};

use super::sdk::{self, of_workspace, put};
use super::{failed, invalid};
use crate::error::Result;
use crate::plugin::MAX_NAME;

const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    (
        ".cargo/config.toml",
        include_str!("template/config.toml.txt"),
    ),
    (".gitignore", include_str!("template/gitignore.txt")),
    ("README.md", include_str!("template/README.md.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("examples/native.rs", include_str!("template/native.rs.txt")),
    (
        "samples/first/config.toml",
        include_str!("template/sample.toml.txt"),
    ),
    (
        "samples/first/messages.txt",
        include_str!("template/messages.txt"),
    ),
    (
        "samples/first/expected.jsonl",
        include_str!("template/expected.jsonl.txt"),
    ),
];

/// Names that Rust or cargo keep for themselves: a crate of that name does not build.
const TAKEN: &[&str] = &[
    "as",
    "async",
    "await",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "native",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "unsafe",
    "use",
    "weir-sdk",
    "where",
    "while",
    "yield",
];

/// Makes `<parent>/<name>`, which must not be there; the files written, in order.
pub fn create(name: &str, parent: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    check_name(name)?;
    let dir = parent.join(name);
    if dir.symlink_metadata().is_ok() {
        let message = format!("{} is there already", dir.display());
        return Err(invalid(message).hint("take another name, or --dir ELSEWHERE"));
    }
    fs::create_dir_all(parent)
        .and_then(|()| fs::create_dir(&dir))
        .map_err(|e| failed(format!("cannot make {}", dir.display())).source(e))?;
    let mut written = Vec::new();
    for (path, text) in FILES {
        let text = text
            .replace("{{name}}", name)
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{rust}}", of_workspace("rust-version"));
        put(&dir.join(path), &text)?;
        written.push(PathBuf::from(path));
    }
    put(&dir.join("Cargo.lock"), sdk::LOCK)?;
    sdk::write(&dir.join(sdk::FOLDER))?;
    Ok((dir, written))
}

/// What is both a plugin's name and a crate's.
fn check_name(name: &str) -> Result<()> {
    let hint = "small letters, digits and -, beginning with a letter, as in order-lines";
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || name.len() > MAX_NAME || !name.chars().all(plain) || name.ends_with('-') {
        return Err(invalid(format!("`{name}` is not a name for a plugin")).hint(hint));
    }
    if TAKEN.contains(&name) {
        let message = format!("`{name}` is a name that Rust keeps for itself");
        return Err(invalid(message).hint(format!("{name}-rows, for instance")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_plugins_and_crates() {
        for good in ["decade", "order-lines", "x2"] {
            check_name(good).expect(good);
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in [
            "", "2x", "-x", "x-", "Decade", "a_b", "a/b", "..", "a b", "test", "self", "weir-sdk",
            &long,
        ] {
            check_name(bad).expect_err(bad);
        }
    }

    #[test]
    fn nothing_that_is_there_is_touched() {
        let parent = tempfile::tempdir().expect("tempdir");
        let (dir, _) = create("decade", parent.path()).expect("made");
        let lib = fs::read_to_string(dir.join("src/lib.rs")).expect("lib.rs");
        assert!(lib.starts_with("//! `decade`") && !lib.contains("{{"));
        fs::write(dir.join("src/lib.rs"), "mine").expect("write");
        create("decade", parent.path()).expect_err("there already");
        assert_eq!(
            fs::read_to_string(dir.join("src/lib.rs")).expect("lib.rs"),
            "mine"
        );
        let nowhere = parent.path().join("a/b");
        create("decade", &nowhere).expect("parents are made");
    }
}
