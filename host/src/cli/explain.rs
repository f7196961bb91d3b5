//! `weir explain CODE`: the section of `docs/errors.md` or, for dead letters, of `docs/refusals.md`, which are built in.

use clap::Args;

use super::{Exit, say, say_lines, table};
use crate::config::{keys, worker};
use crate::connectors::CATALOG;
use crate::error::{Error, Kind, Result};
use crate::nearest::nearest;
use crate::telemetry::on_stdout;

const ERRORS: &str = include_str!("../../../docs/errors.md");
const REFUSALS: &str = include_str!("../../../docs/refusals.md");

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// A code as in error[code] or in a dead letter, or a config key; without one, all codes are listed
    code: Option<String>,
}

pub(super) fn explain(args: &ExplainArgs) -> Result<Exit> {
    let (errors, refusals) = (sections(ERRORS), sections(REFUSALS));
    let Some(code) = &args.code else {
        list("ERROR", &errors);
        say("");
        list("DEAD LETTER", &refusals);
        return Ok(Exit::Ok);
    };
    let plain = code
        .trim_start_matches("error[")
        .trim_start_matches("warning[");
    let plain = plain.trim_end_matches(']');
    let of = |sections: &[(&'static str, &'static str)]| {
        let named = heading(plain);
        sections.iter().find(|(known, _)| *known == named).copied()
    };
    // A code such as `bad_type` has a meaning in configs and another one in dead letters: both are shown.
    match (of(&errors), of(&refusals)) {
        (None, None) => {}
        (Some((code, text)), None) | (None, Some((code, text))) => {
            say_lines(on_stdout(&format!("{code}\n\n{}", prose(text))));
            return Ok(Exit::Ok);
        }
        (Some((code, error)), Some((_, refusal))) => {
            let (error, refusal) = (prose(error), prose(refusal));
            say_lines(on_stdout(&format!(
                "{code}, in a config\n\n{error}\n\n{code}, in a dead letter\n\n{refusal}"
            )));
            return Ok(Exit::Ok);
        }
    }
    if let Some(text) = key(plain) {
        say_lines(on_stdout(&text));
        return Ok(Exit::Ok);
    }
    let all = errors.iter().chain(&refusals).map(|(known, _)| *known);
    let keys = CATALOG.keys().map(|def| def.name);
    let hint = match nearest(plain, all.chain(keys)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`weir explain` lists all codes; a plugin that is not Weir's explains its own"
            .to_owned(),
    };
    let message = format!("there is no code and no key `{plain}`");
    Err(Error::new(Kind::ConfigInvalid, "explain", message).hint(hint))
}

/// A key of a pipeline's config, or of the daemon's: type, default, what it does.
fn key(name: &str) -> Option<String> {
    let default = |default: keys::Default| match default {
        keys::Default::Required(what) => format!("required: {what}"),
        keys::Default::Is(value) => format!("default: {value}"),
        keys::Default::Derived(how) => format!("default: {how}"),
        keys::Default::Unset => "not set by default".to_owned(),
    };
    let told = |of: &str, shape: String, given: keys::Default, doc: &str| {
        format!(
            "{name}, a key of {of}\n\n{shape}; {}\n\n{doc}",
            default(given)
        )
    };
    let pipelines = CATALOG.keys().find(|def| def.name == name);
    let pipelines =
        pipelines.map(|def| told("a pipeline", def.shape.describe(), def.default, def.doc));
    let workers = worker::keys::find(name);
    let workers = workers.map(|def| told("the daemon", def.shape.describe(), def.default, def.doc));
    match (pipelines, workers) {
        (Some(one), Some(other)) => Some(format!("{one}\n\n{other}")),
        (one, other) => one.or(other),
    }
}

/// Codes of dead letters that Weir and the shipped plugins give.
pub(super) fn refusals() -> Vec<&'static str> {
    let all = sections(REFUSALS).into_iter();
    all.map(|(code, _)| code).collect()
}

/// The heading under which a code is explained: all statuses of an API (`http_422`) have one.
pub(super) fn heading(code: &str) -> &str {
    const STATUS_DIGITS: usize = 3;
    match code.strip_prefix("http_") {
        Some(status)
            if status.len() == STATUS_DIGITS && status.bytes().all(|b| b.is_ascii_digit()) =>
        {
            "http_<status>"
        }
        _ => code,
    }
}

fn list(what: &str, sections: &[(&str, &str)]) {
    let mut rows = vec![vec![what.to_owned(), "MEANS".to_owned()]];
    rows.extend(sections.iter().map(|(code, text)| {
        let text = prose(text);
        let first = text.lines().next().unwrap_or_default();
        let sentence = first
            .split_once(". ")
            .map_or(first, |(sentence, _)| sentence);
        vec![
            (*code).to_owned(),
            sentence.trim_end_matches('.').to_owned(),
        ]
    }));
    table(&rows);
}

/// A section for a terminal: a paragraph is one line, and there are no italics. Tables, lists and commands stay.
fn prose(section: &str) -> String {
    let shown = |block: &str| {
        let kept = ["|", "    ", "- ", "```"]
            .iter()
            .any(|mark| block.starts_with(mark));
        match kept {
            true => block.to_owned(),
            false => block.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    };
    let blocks: Vec<String> = section.trim().split("\n\n").map(shown).collect();
    let text = blocks.join("\n\n");
    text.replace("*Likely cause.*", "Likely cause.")
        .replace("*What to do.*", "What to do.")
}

/// Code → text, for each heading "### `code`" of the page.
fn sections(page: &'static str) -> Vec<(&'static str, &'static str)> {
    page.split("\n### `")
        .skip(1)
        .filter_map(|section| {
            let (code, text) = section.split_once('`')?;
            let end = text.find("\n## ").unwrap_or(text.len());
            Some((code, text.get(..end)?.trim_start()))
        })
        .collect()
}
