//! A golden sample on disk: a config, an input, and the expected output.
//!
//! ```text
//! samples/<case>/config.toml      the transform's own keys; files it names lie beside it
//!                messages.txt     one message a line   ┐
//!                messages/        one message a file   ├ one of them
//!                rows.jsonl       one row a line       ┘ with types.toml: column = "decimal(10,2)"
//!                expected.jsonl   one line for each row, refusal and the counters
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::input::{self, Message};
use super::subject::{Settings, no_samples};
use super::{failed, invalid};
use crate::chain::Table;
use crate::config::{self, Overlay};
use crate::connectors::CATALOG;
use crate::error::Result;

pub const EXPECTED: &str = "expected.jsonl";

#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub dir: PathBuf,
    pub settings: Settings,
    pub table: Table,
    /// Empty where the input is rows.
    pub messages: Vec<Message>,
    /// Lines of `expected.jsonl`; `None`: it does not exist yet.
    pub expected: Option<Vec<String>>,
}

/// Every case below `dir`, in name order; at least one.
pub fn read_all(dir: &Path, plugin: &str) -> Result<Vec<Sample>> {
    let entries = fs::read_dir(dir).map_err(|_| no_samples(dir))?;
    let mut cases: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect();
    cases.sort();
    if cases.is_empty() {
        return Err(no_samples(dir));
    }
    cases.iter().map(|case| read(case, plugin)).collect()
}

fn read(dir: &Path, plugin: &str) -> Result<Sample> {
    let name = dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let config = dir.join("config.toml");
    let settings = match config.is_file() {
        true => Settings::read(&config, plugin)?,
        false => Settings {
            base: dir.to_owned(),
            label: format!("{name} (it has no config.toml)"),
            ..Settings::default()
        },
    };
    let there = |name: &str| dir.join(name).exists();
    let inputs: Vec<&str> = ["messages.txt", "messages", "rows.jsonl"]
        .into_iter()
        .filter(|name| there(name))
        .collect();
    let mut messages = Vec::new();
    let table = match inputs[..] {
        ["rows.jsonl"] => input::rows(&dir.join("rows.jsonl"), &types(&dir.join("types.toml"))?)?,
        [one] => {
            messages = input::messages(&dir.join(one), false)?;
            input::table(&messages)
        }
        _ => {
            let found = if inputs.is_empty() {
                "none".to_owned()
            } else {
                inputs.join(" and ")
            };
            let message = format!("{}: expected one input, found {found}", dir.display());
            return Err(invalid(message).hint("messages.txt, messages/ or rows.jsonl"));
        }
    };
    let expected = match there(EXPECTED) {
        true => Some(input::read_text(&dir.join(EXPECTED))?),
        false => None,
    };
    Ok(Sample {
        name,
        dir: dir.to_owned(),
        settings,
        table,
        messages,
        expected: expected.map(|text| text.lines().map(str::to_owned).collect()),
    })
}

/// Column → type's name; empty where there is no such file.
pub fn types(path: &Path) -> Result<BTreeMap<String, String>> {
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let name = path.display().to_string();
    let (raws, problems) = config::load_raw(&[name], &Overlay::default(), &CATALOG);
    if problems.iter().any(config::Problem::is_error) {
        return Err(config::refused(&problems));
    }
    let entries = raws.iter().flat_map(|(raw, _)| raw.iter());
    Ok(entries
        .map(|(key, entry)| (key.to_owned(), entry.value.typed().to_owned()))
        .collect())
}

impl Sample {
    /// Writes `expected.jsonl`; false: it has this content already.
    pub fn update(&self, lines: &[String]) -> Result<bool> {
        if self.expected.as_deref() == Some(lines) {
            return Ok(false);
        }
        let path = self.dir.join(EXPECTED);
        let text = lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        fs::write(&path, text)
            .map_err(|e| failed(format!("cannot write {}", path.display())).source(e))?;
        Ok(true)
    }
}
