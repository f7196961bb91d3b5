//! `weir explain CODE`: the section of `docs/errors.md` or, for dead letters, of `docs/refusals.md`, which are built in.

use clap::Args;

use super::{Exit, say, say_lines, table};
use crate::config::nearest::nearest;
use crate::error::{Error, Kind, Result};

const ERRORS: &str = include_str!("../../../docs/errors.md");
const REFUSALS: &str = include_str!("../../../docs/refusals.md");

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// A code as it stands in error[code] or in a dead letter; all codes where none is given
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
    let sections = [errors, refusals].concat();
    let plain = code
        .trim_start_matches("error[")
        .trim_start_matches("warning[");
    let plain = plain.trim_end_matches(']');
    match sections.iter().find(|(known, _)| *known == plain) {
        Some((known, text)) => {
            say_lines(format!("{known}\n\n{}", text.trim()));
            Ok(Exit::Ok)
        }
        None => {
            let near = nearest(plain, sections.iter().map(|(known, _)| *known));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "`weir explain` lists all codes; a plugin that is not Weir's explains its own"
                        .to_owned()
                }
            };
            let message = format!("there is no code `{plain}`");
            Err(Error::new(Kind::ConfigInvalid, "explain", message).hint(hint))
        }
    }
}

fn list(what: &str, sections: &[(&str, &str)]) {
    let mut rows = vec![vec![what.to_owned(), "MEANS".to_owned()]];
    rows.extend(sections.iter().map(|(code, text)| {
        let first = text.lines().find(|line| !line.trim().is_empty());
        vec![(*code).to_owned(), first.unwrap_or_default().to_owned()]
    }));
    table(&rows);
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
