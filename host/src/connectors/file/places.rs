//! The places of a file source: which directory it opens, which of the names below it are hidden, and that files which are
//! taken away are those of no zone.

use std::sync::Arc;

use super::{Clean, FileConfig};
use crate::config::reach::{Denied, SYSTEM};
use crate::error::{Error, Kind, Result};
use crate::store::{self, Location, Store};

const OP: &str = "file.list";

/// As Spark and Hadoop take names: `_day=1` is a partition's directory.
pub(super) fn is_hidden(part: &str) -> bool {
    (part.starts_with('_') && !part.contains('='))
        || part.starts_with('.')
        || part.ends_with("._COPYING_")
}

/// Directories at the beginning of a pattern that are plain names.
pub(super) fn literal(pattern: &str) -> String {
    let mut parts: Vec<&str> = pattern.split('/').collect();
    // The last one is a file's.
    parts.pop();
    let plain = parts
        .into_iter()
        .take_while(|part| !part.is_empty() && !part.contains(WILD));
    plain.collect::<Vec<_>>().join("/")
}

/// The path that a pattern stands for, if it is one: a character in brackets is itself.
pub(super) fn plain(pattern: &str) -> Option<String> {
    let mut path = String::new();
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match next {
            '[' => {
                let one = rest.next().filter(|one| !['!', '^', '/'].contains(one))?;
                rest.next().filter(|end| *end == ']')?;
                path.push(one);
            }
            ',' => path.push(','),
            other if WILD.contains(&other) => return None,
            other => path.push(other),
        }
    }
    Some(path)
}

/// In a part of a pattern: it is no plain name.
pub(super) const WILD: [char; 8] = ['*', '?', '[', ']', '{', '}', '\\', ','];

pub(super) fn open_input(config: &FileConfig) -> Result<Arc<dyn Store>> {
    let missing = |message: &str, hint: String| {
        Error::new(Kind::ConfigInvalid, "file.connect", message)
            .with("key", "source.url")
            .with("url", &config.at.url)
            .hint(hint)
    };
    if let Some(path) = store::directory_of(&config.at.url).filter(|path| path.is_file()) {
        let dir = path
            .parent()
            .map_or_else(String::new, |dir| dir.display().to_string());
        let dir = if dir.is_empty() { "." } else { &dir };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(missing(
            "it is a file, and a directory of files is expected",
            format!("write source.url = \"file:{dir}\" and source.path = \"{name}\""),
        ));
    }
    match store::open_existing(&config.at)? {
        Some(store) => within_reach(config, store.as_ref()).map(|()| store),
        None => Err(missing(
            "there is no such directory",
            "make it, or name another one; a relative path begins in the working directory"
                .to_owned(),
        )),
    }
}

/// Held against the directory that was opened, because its name may have become a link since the config was looked at.
fn within_reach(config: &FileConfig, store: &dyn Store) -> Result<()> {
    let Some(root) = store::directory_of(store.url()) else {
        return Ok(());
    };
    let denied = |denied: Denied| denied.into_error("file.connect");
    let reach = &config.reach;
    if let Some(path) = plain(&config.path).filter(|_| config.follows) {
        return reach.path(&root.join(path)).map(drop).map_err(denied);
    }
    reach.tree(&root).map_err(denied)?;
    match &config.clean {
        Clean::Off => Ok(()),
        Clean::Delete => reach.target_tree(&root).map(drop).map_err(denied),
        Clean::Archive(dir) => {
            reach.target_tree(&root).map_err(denied)?;
            reach.target_tree(&root.join(dir)).map(drop).map_err(denied)
        }
    }
}

/// A file that was opened by its name, which may have become a link since.
pub(super) fn may_be_read(config: &FileConfig, store: &dyn Store, path: &str) -> Result<()> {
    match store::directory_of(store.url()) {
        Some(root) => {
            let reached = config.reach.path(&root.join(path));
            reached
                .map(drop)
                .map_err(|denied| denied.into_error("file.read"))
        }
        None => Ok(()),
    }
}

/// Where files are taken away: a path that belongs to a zone.
pub(super) fn is_zone(config: &FileConfig, path: &str) -> Error {
    Error::new(
        Kind::ConfigInvalid,
        OP,
        "source.clean.source would take away files of a zone: its log lies here",
    )
    .with("store", &config.at.url)
    .with("path", path)
    .hint("take source.clean.source out, or read a directory that holds no zone and lies in none")
}

/// Where files are taken away: neither the directories that are read nor the archive hold a zone or lie in one.
pub(super) fn holds_no_zone(config: &FileConfig, input: &dyn Store, below: &str) -> Result<()> {
    let archive = match &config.clean {
        Clean::Off => return Ok(()),
        Clean::Delete => "",
        Clean::Archive(dir) => dir.as_str(),
    };
    let root = store::directory_of(input.url());
    let mut above = root.iter().flat_map(|root| root.ancestors().skip(1));
    if let Some(zone) = above.find(|dir| dir.join(SYSTEM).is_dir()) {
        return Err(is_zone(config, &zone.join(SYSTEM).display().to_string()));
    }
    if let Some((top, path)) = config.at.top()
        && let Some(zone) = zone_above(&top, &path)?
    {
        return Err(is_zone(config, &zone));
    }
    let mut logs = vec![SYSTEM.to_owned()];
    for path in [below, archive] {
        let mut dir = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            dir.push_str(part);
            dir.push('/');
            logs.push(format!("{dir}{SYSTEM}"));
        }
    }
    logs.sort();
    logs.dedup();
    for log in logs {
        if holds_files(input, &log)? {
            return Err(is_zone(config, &log));
        }
    }
    Ok(())
}

fn holds_files(store: &dyn Store, dir: &str) -> Result<bool> {
    let mut holds = false;
    let walked = store.inputs().walk(dir, &mut |found| {
        holds = true;
        // The first one is enough.
        Err(Error::new(Kind::Bug, OP, "a file was found").with("path", found.path))
    });
    match holds {
        true => Ok(true),
        false => walked.map(|()| false),
    }
}

/// The log of a zone in a directory or prefix above a path of a store. Where that cannot be seen, because rights end at the
/// source, it is said, and the source is read: such rights are right.
fn zone_above(top: &Location, path: &str) -> Result<Option<String>> {
    let mut denied = None;
    let mut seen = |seen: Result<bool>| match seen {
        Err(error) if error.kind() == Kind::ConfigInvalid => {
            denied.get_or_insert(error);
            Ok(false)
        }
        seen => seen,
    };
    let opened = store::open_existing(top);
    let store = match opened {
        Ok(store) => store,
        Err(error) => seen(Err(error)).map(|_| None)?,
    };
    let ends = path.match_indices('/').map(|(at, _)| at + 1);
    let dirs = std::iter::once(0).chain(ends);
    for end in dirs.filter(|_| store.is_some()) {
        let log = format!("{}{SYSTEM}", path.get(..end).unwrap_or_default());
        let holds = store
            .as_ref()
            .map_or(Ok(false), |store| holds_files(store.as_ref(), &log));
        if seen(holds)? {
            return Ok(Some(format!("{}/{log}", top.url)));
        }
    }
    if let Some(error) = denied {
        tracing::warn!(store = top.url, %error, "whether source.url lies in a zone cannot be seen with these rights: source.clean.source takes its files away");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_are_named_are_listed() {
        for (pattern, below) in [
            ("**", ""),
            ("*.json", ""),
            ("in/2026/*.json", "in/2026"),
            ("in/{a,b}/c/x", "in"),
            ("a/b", "a"),
        ] {
            assert_eq!(literal(pattern), below, "{pattern}");
        }
    }

    #[test]
    fn a_zone_above_is_found_at_each_height() {
        let top = Location::of("memory:zone-above");
        let store = store::open(&top).expect("opened");
        let above = |path: &str| zone_above(&top, path).expect("asked");
        assert_eq!(above("lake/raw/orders"), None);
        // In the source itself, or beside it: others look there.
        for log in ["lake/raw/orders", "lake/raw/other", "lake/rawer"] {
            let log = format!("{log}/_system/p/z/log/1.json");
            store.create(&log, b"{}").expect("made");
            assert_eq!(above("lake/raw/orders"), None, "{log}");
        }
        for dir in ["lake/raw/", "lake/", ""] {
            let log = format!("{dir}_system/p/z/log/1.json");
            store.create(&log, b"{}").expect("made");
            let found = above("lake/raw/orders");
            let wanted = format!("memory:zone-above/{dir}_system");
            assert_eq!(found.as_deref(), Some(wanted.as_str()));
            store.delete(&log).expect("gone");
        }
    }

    #[test]
    fn hidden_names_are_spark_s() {
        for (name, hidden) in [
            ("_SUCCESS", true),
            (".crc", true),
            ("_day=1", false),
            ("a._COPYING_", true),
            ("a_b.json", false),
        ] {
            assert_eq!(is_hidden(name), hidden, "{name}");
        }
    }
}
