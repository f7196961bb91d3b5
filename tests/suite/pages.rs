//! The documentation pages: every link leads to an existing file and heading, and every test that a page names exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::check::root;

/// Every page of the repository's own, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/adr", "docs/plugins"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("folder");
        let files = entries.map(|entry| entry.expect("entry").path());
        for path in files.filter(|path| path.extension().is_some_and(|e| e == "md")) {
            let text = std::fs::read_to_string(&path).expect("page");
            found.push((path.canonicalize().expect("a path"), text));
        }
    }
    assert!(found.len() > 30, "pages are found");
    found
}

fn shown(path: &Path) -> String {
    let below = path.strip_prefix(root()).unwrap_or(path);
    below.display().to_string()
}

/// A page without its blocks of code, where brackets are no links and `#` is no heading.
fn prose(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What stands between `](` and `)`.
fn links(prose: &str) -> Vec<&str> {
    let rests = prose.split("](").skip(1);
    rests
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// The name that a web page gives a heading: lower case, blanks become hyphens, other punctuation goes.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let name = kept.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    name.collect()
}

fn headings(prose: &str) -> Vec<String> {
    let lines = prose.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let pages: BTreeMap<PathBuf, String> = pages()
        .into_iter()
        .map(|(path, text)| (path, prose(&text)))
        .collect();
    let (mut wrong, mut followed) = (Vec::new(), 0);
    for (page, text) in &pages {
        for link in links(text).into_iter().filter(|link| !link.contains(':')) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.parent().expect("a folder");
            let target = match file {
                "" => page.clone(),
                file => std::path::absolute(folder.join(file)).expect("a path"),
            };
            followed += 1;
            let Ok(target) = target.canonicalize() else {
                wrong.push(format!("{}: {link}: there is no such file", shown(page)));
                continue;
            };
            let known = || {
                pages
                    .get(&target)
                    .is_some_and(|text| headings(text).iter().any(|h| h == heading))
            };
            if !heading.is_empty() && !known() {
                wrong.push(format!("{}: {link}: there is no such heading", shown(page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(followed > 100, "{followed} links");
}

/// `kill::fifty_kills_lose_nothing…`: a module of this suite and the beginning of a test's name, or `…` for any.
#[test]
fn every_test_that_a_page_names_is_there() {
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (page, text) in pages() {
        for quoted in text.split('`').skip(1).step_by(2) {
            // With a third name it is a test of the library.
            let Some((module, test)) = quoted
                .split_once("::")
                .filter(|(_, test)| !test.contains("::"))
            else {
                continue;
            };
            let file = root().join("tests/suite").join(format!("{module}.rs"));
            let Ok(source) = std::fs::read_to_string(file) else {
                continue;
            };
            found += 1;
            let there = match test.strip_suffix('…') {
                Some(begins) => source.contains(&format!("fn {begins}")),
                None => source.contains(&format!("fn {test}(")),
            };
            if !there {
                wrong.push(format!("{}: {quoted}", shown(&page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(found > 50, "{found} tests are named");
}

#[test]
fn links_and_headings_are_read_as_a_web_page_reads_them() {
    let text = "# A `b`, c_d: E!\nsee [x](y.md#z) and [w](#q)\n```\n# no [k](l)\n```\n";
    let prose = prose(text);
    assert_eq!(headings(&prose), ["a-b-c_d-e"]);
    assert_eq!(links(&prose), ["y.md#z", "#q"]);
}
