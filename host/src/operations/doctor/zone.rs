//! Zones: whether the store keeps its promises, who owns the tables, and whether the log can be read and is complete.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::commit::{LogName, may_own_table};
use crate::config::{PipelineConfig, ZoneSourceConfig};
use crate::error::Result;
use crate::finding::Finding;
use crate::operations;
use crate::store::{self, Store};

const STORE: &str = "store";
const TABLE: &str = "table";
const LOG: &str = "log";
/// A zone that was not read for so long is probably read by nobody any more: twice the default of `commit.log.retention`.
const STANDS_STILL: Duration = Duration::from_secs(14 * 24 * 3600);
const SOURCE: &str = "source";
const CLOCK: &str = "clock";
const USER: &str = "user";
/// Milliseconds by which the clock of a service or a name node may be off. Its answers tell whole seconds, and travel.
const SKEW_MOST: u64 = 5_000;

/// The zone that a pipeline writes.
pub(super) fn as_sink(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    tell: &mut dyn FnMut(Finding),
) {
    let url = &config.home.at.url;
    let name = LogName::new(&config.name, &config.home.zone);
    let begun = Instant::now();
    let store = match store::open_existing(&config.home.at) {
        Ok(Some(store)) => store,
        Ok(None) => {
            let says = "not there yet; the first start makes it";
            return tell(Finding::pass(STORE, Some(url), says));
        }
        Err(error) => {
            return tell(Finding::failed(STORE, Some(url), &error).took(begun.elapsed()));
        }
    };
    let tables: Vec<String> = config.tables_needed().into_iter().collect();
    // A problem of the whole store is reported once.
    let made = Made::below(store.as_ref(), &name.dir(), &tables);
    let broken = of_store(&store, url, &name, &tables, tell);
    if broken.is_none() {
        clock_of(store.as_ref(), url, &name, tell);
        user_of(store.as_ref(), url, &name, tell);
    }
    drop(made);
    let begun = Instant::now();
    let found = log(&store, &name, clock).took(begun.elapsed());
    let same = |wrong: &str| found.says.starts_with(wrong);
    if !broken.as_deref().is_some_and(same) {
        tell(found);
    }
}

/// The problem of the store, if there is one.
fn of_store(
    store: &Arc<dyn Store>,
    url: &str,
    name: &LogName,
    tables: &[String],
    tell: &mut dyn FnMut(Finding),
) -> Option<String> {
    let begun = Instant::now();
    let broken = match promises(store, name, tables) {
        Ok(says) => {
            tell(Finding::pass(STORE, Some(url), says).took(begun.elapsed()));
            None
        }
        Err(error) => {
            tell(Finding::failed(STORE, Some(url), &error).took(begun.elapsed()));
            Some(error.message().to_owned())
        }
    };
    for table in tables {
        let begun = Instant::now();
        if let Err(error) = may_own_table(store.as_ref(), name, table)
            && broken.as_deref() != Some(error.message())
        {
            tell(Finding::failed(TABLE, Some(table), &error).took(begun.elapsed()));
        }
    }
    broken
}

/// A store that has a clock of its own, after it was asked for something.
fn clock_of(store: &dyn Store, url: &str, name: &LogName, tell: &mut dyn FnMut(Finding)) {
    let found = match store.clock_ahead(&name.dir()) {
        Ok(Some(ahead)) => apart(url, ahead),
        Ok(None) => return,
        Err(error) => Finding::failed(CLOCK, Some(url), &error),
    };
    tell(found);
}

fn user_of(store: &dyn Store, url: &str, name: &LogName, tell: &mut dyn FnMut(Finding)) {
    let found = match store.known_as(&name.dir()) {
        Ok(Some(user)) => Finding::pass(USER, Some(url), format!("known there as {user}")),
        Ok(None) => return,
        Err(error) => Finding::failed(USER, Some(url), &error),
    };
    tell(found);
}

fn apart(url: &str, ahead: i64) -> Finding {
    let off = ahead.unsigned_abs();
    let how = match (off <= SKEW_MOST, ahead > 0) {
        (true, _) => {
            let says = format!(
                "the store's clock and this machine's agree within {} s",
                SKEW_MOST / 1000
            );
            return Finding::pass(CLOCK, Some(url), says);
        }
        (false, true) => "behind",
        (false, false) => "ahead of",
    };
    let says = format!(
        "this machine's clock is {} s {how} the store's",
        off.div_ceil(1000)
    );
    let hint = "set this machine's clock by NTP: services refuse requests that are 15 minutes off, and what killed writers left is told by its age";
    Finding::warn(CLOCK, Some(url), says, hint)
}

/// Reports each step of the probe with its time for the first table; then a summary for each other one.
fn promises(store: &Arc<dyn Store>, name: &LogName, tables: &[String]) -> Result<String> {
    let mut says = Vec::new();
    let mut since = Instant::now();
    for (at, table) in tables.iter().enumerate() {
        store::probe_steps(store, &name.dir(), table, &mut |step| {
            if at == 0 {
                says.push(format!("{step} {}", millis(since.elapsed())));
            }
            since = Instant::now();
        })?;
    }
    let others = match tables.len() {
        0 | 1 => String::new(),
        n => format!("; the same for {n} tables"),
    };
    Ok(format!("{}{others}", says.join(", ")))
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// Directories that the looks at a store make: new ones are removed afterwards, if they are empty.
struct Made<'a> {
    store: &'a dyn Store,
    dirs: Vec<String>,
}

impl Made<'_> {
    fn below<'a>(store: &'a dyn Store, home: &str, tables: &[String]) -> Made<'a> {
        let staging = format!("{home}/staging");
        let deepest = tables.iter().map(String::as_str).chain([staging.as_str()]);
        let mut dirs: Vec<String> = deepest
            .flat_map(|dir| std::iter::successors(Some(dir), |dir| Some(dir.rsplit_once('/')?.0)))
            .map(str::to_owned)
            .collect();
        dirs.sort();
        dirs.dedup();
        // Where they cannot be looked at, the probe says why.
        let dirs = store.absent_dirs(dirs).unwrap_or_default();
        Made { store, dirs }
    }
}

impl Drop for Made<'_> {
    /// The deepest first; a directory that somebody uses by now is not empty and stays.
    fn drop(&mut self) {
        for dir in self.dirs.iter().rev() {
            if let Err(error) = self.store.remove_empty_dir(dir) {
                tracing::debug!(dir, %error, "an empty directory stays");
            }
        }
    }
}

fn log(store: &Arc<dyn Store>, name: &LogName, clock: &Arc<dyn Clock>) -> Finding {
    let at = name.dir();
    let at = Some(at.as_str());
    match there(store, name) {
        Ok(true) => match operations::open(store, name, clock) {
            Ok(log) => {
                let state = log.state();
                let says = format!(
                    "version {}, {} files; read and proved",
                    state.version,
                    state.live.len()
                );
                let keep = i64::try_from(STANDS_STILL.as_micros()).unwrap_or(i64::MAX);
                let still = clock.now_micros().saturating_sub(keep);
                match state.slowest_reader().filter(|(_, since)| *since < still) {
                    Some((reader, since)) => {
                        let says = format!(
                            "{says}; {reader} has not read on since {}, and the log keeps everything since then",
                            operations::utc(since)
                        );
                        let hint = format!(
                            "run the pipeline that reads this zone under that name; if it never comes back: weir zone forget-reader {} {reader}",
                            store.url()
                        );
                        Finding::warn(LOG, at, says, hint)
                    }
                    None => Finding::pass(LOG, at, says),
                }
            }
            Err(error) => Finding::failed(LOG, at, &error),
        },
        Ok(false) => Finding::pass(LOG, at, "not there yet; the first start begins it"),
        Err(error) => Finding::failed(LOG, at, &error),
    }
}

fn there(store: &Arc<dyn Store>, name: &LogName) -> Result<bool> {
    Ok(!store.list(&name.log_dir())?.is_empty())
}

/// The zone that a pipeline reads.
pub(super) fn as_source(
    source: &ZoneSourceConfig,
    clock: &Arc<dyn Clock>,
    tell: &mut dyn FnMut(Finding),
) {
    let name = LogName::new(&source.pipeline, &source.zone);
    let at = Some(source.at.url.as_str());
    let begun = Instant::now();
    let waits = |says: String| {
        let hint = format!(
            "run the pipeline `{}` first: until then there is nothing to read",
            source.pipeline
        );
        Finding::warn(SOURCE, at, says, hint)
    };
    let finding = match store::open_existing(&source.at) {
        Ok(None) => waits("the zone is not there yet".to_owned()),
        Ok(Some(store)) => match there(&store, &name) {
            Ok(true) => log(&store, &name, clock),
            Ok(false) => waits(format!("there is no log {} yet", name.dir())),
            Err(error) => Finding::failed(SOURCE, at, &error),
        },
        Err(error) => Finding::failed(SOURCE, at, &error),
    };
    let finding = Finding {
        look: SOURCE.to_owned(),
        at: at.map(str::to_owned),
        ..finding
    };
    tell(finding.took(begun.elapsed()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;
    use crate::store::{Fault, FaultStore, Script, Verb};

    fn looks(store: &Arc<dyn Store>, url: &str) -> Vec<Finding> {
        let (name, tables) = (LogName::new("p", "z"), ["a".to_owned(), "b".to_owned()]);
        let mut found = Vec::new();
        let made = Made::below(store.as_ref(), &name.dir(), &tables);
        of_store(store, url, &name, &tables, &mut |finding| {
            found.push(finding)
        });
        drop(made);
        found
    }

    #[test]
    fn a_store_that_only_says_so_fails_with_the_remedy() {
        for (url, steps) in [
            ("memory:doctor", ["put-if-absent", "rename"]),
            ("memory+upload:doctor", ["upload", "abort"]),
        ] {
            let honest = store::open_url(url).unwrap();
            let found = looks(&honest, url);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].verdict, Verdict::Pass);
            for step in steps {
                assert!(found[0].says.contains(step), "{found:?}");
            }
            assert!(
                found[0].says.ends_with("the same for 2 tables"),
                "{found:?}"
            );
            assert_eq!(honest.list("").unwrap(), vec![]);

            let script = Script::on(Verb::Create, "", 0, Fault::Lying);
            let lying: Arc<dyn Store> = FaultStore::new(honest, Arc::new(script));
            let found = looks(&lying, url);
            assert_eq!(found[0].verdict, Verdict::Fail, "{found:?}");
            assert!(found[0].hint.as_ref().unwrap().starts_with("use a store"));
        }
    }

    #[test]
    fn clocks_that_differ_are_told_with_the_number() {
        for (ahead, verdict, says) in [
            (0, Verdict::Pass, "agree"),
            (-5_000, Verdict::Pass, "agree"),
            (5_001, Verdict::Warn, "6 s behind the store's"),
            (-3_600_000, Verdict::Warn, "3600 s ahead of the store's"),
        ] {
            let found = apart("s3://lake", ahead);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.says.contains(says), "{found:?}");
        }
    }

    #[test]
    fn nothing_is_left_on_a_disk_not_even_directories() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let url = format!("file:{}", dir.path().display());
        let store = store::open_url(&url).unwrap();
        assert_eq!(looks(&store, &url)[0].verdict, Verdict::Pass);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(dir.path().join("a").is_dir());
    }
}
