//! Deletes from a plugin store what no log names any more, once a day while pipelines run (`plugin.retention`).
//!
//! Whoever runs a pipeline says in the store which log it writes (`users/`). What any entry of these logs names stays, whatever its age, and
//! so does what was kept a short time ago. Nothing at all is deleted while one of the logs cannot be read, or before the users
//! are known for as long as something that nobody needs may stay: an older version, which does not say what it writes, has run last
//! longer ago than that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;
use crate::commit::{self, Log, LogName};
use crate::config::{Location, PipelineConfig};
use crate::error::{Error, Kind, Result};
use crate::pipeline::{Stop, stopped};
use crate::plugin::{Item, PluginStore};
use crate::store::{self, Store};

const OP: &str = "plugin.collect";

/// Reading logs costs requests, and what is not needed grows slowly.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// Between two looks whether a day is over: a process that is restarted each hour collects too.
const LOOK: Duration = Duration::from_secs(600);
/// Files of one pass, the oldest first.
const DELETED_AT_ONCE: usize = 1_000;

const DIGEST: &str = "sha256:";
const DIGITS: usize = 64;

/// A store, how long its files stay, and the zones that this process knows how to reach.
#[derive(Clone, Debug)]
pub struct Known {
    pub store: PluginStore,
    pub retention: Duration,
    pub zones: Vec<Location>,
}

/// The stores of these pipelines. Of several that share one, the longest `plugin.retention` counts.
pub fn stores_of<'a>(pipelines: impl Iterator<Item = &'a PipelineConfig>) -> Vec<Known> {
    let mut stores: Vec<Known> = Vec::new();
    for config in pipelines {
        let zone = config.home.at.clone();
        let of = |known: &&mut Known| known.store.root() == config.plugin_store;
        match stores.iter_mut().find(of) {
            Some(known) => {
                known.retention = known.retention.max(config.plugin_retention);
                known.zones.push(zone);
            }
            None => stores.push(Known {
                store: PluginStore::at(&config.plugin_store),
                retention: config.plugin_retention,
                zones: vec![zone],
            }),
        }
    }
    stores
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Collecting {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// `known` is asked before each pass.
pub fn begin(
    known: impl Fn() -> Vec<Known> + Send + 'static,
    clock: &Arc<dyn Clock>,
    stop: &Stop,
) -> Result<Collecting> {
    let (clock, stop) = (clock.clone(), stop.child());
    let asked = stop.clone();
    let look = move || {
        while !asked.asked() {
            for known in known() {
                one(&known, &clock, &asked);
            }
            if asked.wait(LOOK) {
                break;
            }
        }
    };
    let thread = std::thread::Builder::new().name("plugin-gc".to_owned());
    let thread = thread
        .spawn(look)
        .map_err(|e| Error::new(Kind::LimitReached, OP, "no thread can be started").source(e))?;
    Ok(Collecting {
        stop,
        thread: Some(thread),
    })
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.stop.ask(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn one(known: &Known, clock: &Arc<dyn Clock>, stop: &Stop) {
    let go_on = || match stop.asked() {
        true => Err(stopped()),
        false => Ok(()),
    };
    let store = known.store.root().display();
    let passed = known.store.is_due(EVERY).and_then(|due| match due {
        true => pass(known, clock, &go_on),
        false => Ok(None),
    });
    match passed {
        Ok(Some(Collected { files: 0, .. }) | None) => {}
        Ok(Some(done)) => tracing::info!(
            store = %store, files = done.files, bytes = done.bytes,
            "what no log names any more was deleted from the plugin store"
        ),
        Err(error) if error.kind() == Kind::Stopped => {}
        Err(error) => tracing::warn!(
            store = %store, code = error.kind().code(), %error,
            "nothing was deleted from the plugin store: not all logs that use it can be read; it is tried again tomorrow"
        ),
    }
}

/// What a pass deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub files: u64,
    pub bytes: u64,
}

/// `None`: it is not known for long enough who uses the store.
pub fn pass(
    known: &Known,
    clock: &Arc<dyn Clock>,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Option<Collected>> {
    let users = known.store.users()?;
    let now = clock.now_micros();
    let retention = i64::try_from(known.retention.as_micros()).unwrap_or(i64::MAX);
    let before = now.saturating_sub(retention);
    if users.iter().all(|user| user.since > before) {
        return Ok(None);
    }
    let mut needed = Needed::of_versions(&known.store)?;
    for user in &users {
        go_on()?;
        let same = |at: &&Location| at.url.trim_end_matches('/') == user.url.trim_end_matches('/');
        let at = known.zones.iter().find(same);
        let at = at.cloned().unwrap_or_else(|| Location::of(&user.url));
        let missing = |why: Error| {
            let message = format!("the log {} in {} cannot be read", user.log(), user.url);
            Error::new(Kind::StoreUnavailable, OP, message)
                .hint("if that zone is gone for good, delete its file below users/ of the plugin store; `weir plugin gc` goes by the zones that you name")
                .source(why)
        };
        let opened = || -> Result<(Arc<dyn Store>, Log)> {
            let gone = || Error::new(Kind::StoreUnavailable, OP, "its directory is not there");
            let store = store::open_existing(&at)?.ok_or_else(gone)?;
            let log = super::open(&store, &user.log(), clock)?;
            Ok((store, log))
        };
        let (store, log) = opened().map_err(missing)?;
        needed.of_log(store.as_ref(), &user.log(), &log, go_on)?;
    }
    needed.follow(&known.store)?;
    let than = UNIX_EPOCH + Duration::from_micros(u64::try_from(before).unwrap_or(0));
    delete(&known.store, &needed, than, go_on).map(Some)
}

fn delete(
    store: &PluginStore,
    needed: &Needed,
    than: SystemTime,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Collected> {
    let mut items = store.items()?;
    items.retain(|item| item.modified <= than && !needed.holds(item));
    items.sort_by_key(|item| item.modified);
    let mut done = Collected::default();
    for item in items.iter().take(DELETED_AT_ONCE) {
        go_on()?;
        if item.remove_if_older(than)? {
            done.files += 1;
            done.bytes += item.bytes;
        }
    }
    Ok(done)
}

/// Digests that stay in a plugin store.
#[derive(Debug, Default)]
pub struct Needed {
    digests: BTreeSet<String>,
}

impl Needed {
    /// Versions that were pushed and not yanked.
    pub fn of_versions(store: &PluginStore) -> Result<Needed> {
        let refs = store.all_refs()?.into_iter().filter(|found| !found.yanked);
        Ok(Needed {
            digests: refs.map(|found| found.pushed.digest).collect(),
        })
    }

    /// Every digest in every entry of a log that is proved whole, and of the rules that its state remembers.
    pub fn of_log(
        &mut self,
        store: &dyn Store,
        name: &LogName,
        log: &Log,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        for version in (0..=log.version()).rev() {
            go_on()?;
            let path = name.entry(version);
            let Some(entry) = store.get(&path)? else {
                let oldest = || commit::oldest_entry(store, name);
                if version < log.state().horizon || version < oldest()? {
                    break;
                }
                let error = Error::new(Kind::LogCorrupt, "plugin.gc", "an entry is missing");
                return Err(error.with("path", &path));
            };
            self.of_text(&String::from_utf8_lossy(&entry));
        }
        let state = log.state();
        let periods = state.periods.iter().map(|period| &period.transforms);
        let open = state.plan.iter().map(|open| &open.plan.rules.transforms);
        for rule in periods.chain(open).flatten() {
            self.add(&rule.component);
            self.add(&rule.config);
        }
        Ok(())
    }

    fn of_text(&mut self, text: &str) {
        for (at, _) in text.match_indices(DIGEST) {
            let digits = text.get(at + DIGEST.len()..at + DIGEST.len() + DIGITS);
            let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
            if let Some(digits) = digits.filter(|digits| digits.bytes().all(hex)) {
                self.digests.insert(format!("{DIGEST}{digits}"));
            }
        }
    }

    pub fn add(&mut self, digest: &str) {
        self.digests.insert(digest.to_owned());
    }

    /// Files and tables of the configs that are needed.
    pub fn follow(&mut self, store: &PluginStore) -> Result<()> {
        for digest in self.digests.clone() {
            if let Some(config) = store.stored_config(&digest)? {
                self.digests.extend(config.files.into_values());
                self.digests.extend(config.tables.into_values());
            }
        }
        Ok(())
    }

    pub fn holds(&self, item: &Item) -> bool {
        let named =
            |digest: &Option<String>| digest.as_ref().is_some_and(|d| self.digests.contains(d));
        named(&item.blob) || named(&item.config)
    }
}
