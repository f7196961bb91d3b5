//! The files that decide about the rules that a config declares: one of the feeders of [`super::change`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::config::{self, PipelineConfig};

/// Time between two looks at watched files. An edit counts once two looks in a row find the same: editors and copies
/// take a moment to write.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// What the file system says of a file: time and size.
type Stamp = Option<(SystemTime, u64)>;

/// Files that decide about the declared rules.
#[derive(Debug)]
pub struct Watched {
    /// Time of the last look.
    looked: Duration,
    stamps: BTreeMap<PathBuf, Stamp>,
    /// Stamps that differ from `stamps` and were seen once.
    fresh: Option<BTreeMap<PathBuf, Stamp>>,
    /// Names of the files of the last edit.
    what: String,
}

impl Watched {
    /// `now`: the time of the pipeline's clock.
    pub fn of(config: &PipelineConfig, now: Duration) -> Watched {
        Watched {
            looked: now,
            stamps: stamps(config),
            fresh: None,
            what: String::new(),
        }
    }

    /// The names of the edited files, once for each edit, after two looks found the same.
    pub fn edited(&mut self, config: &PipelineConfig, now: Duration) -> Option<&str> {
        if now < self.looked + WATCH_EVERY {
            return None;
        }
        self.looked = now;
        self.settled(config).then_some(self.what.as_str())
    }

    fn settled(&mut self, config: &PipelineConfig) -> bool {
        let now = stamps(&config::reloaded(config));
        if now == self.stamps {
            self.fresh = None;
            return false;
        }
        if self.fresh.as_ref() != Some(&now) {
            self.fresh = Some(now);
            return false;
        }
        let changed = now
            .iter()
            .filter(|(path, stamp)| self.stamps.get(*path) != Some(*stamp));
        let changed: Vec<String> = changed
            .map(|(path, _)| path.display().to_string())
            .collect();
        self.what = changed.join(", ");
        self.stamps = now;
        self.fresh = None;
        true
    }
}

/// Stamps of the config's files, of every file that a transform's key names, of the plugins, and of the plugin store's
/// list.
fn stamps(config: &PipelineConfig) -> BTreeMap<PathBuf, Stamp> {
    let mut paths: Vec<PathBuf> = config
        .origin
        .iter()
        .flat_map(|o| &o.files)
        .map(PathBuf::from)
        .collect();
    for transform in &config.transforms {
        let name = &transform.plugin.name;
        paths.push(config.plugin_path.join(format!("{name}.wasm")));
        paths.push(config.plugin_store.join("refs").join(name));
        let named = transform
            .config
            .values()
            .filter_map(|text| text.resolve().ok());
        paths.extend(named.map(PathBuf::from).filter(|path| path.is_file()));
    }
    let stamp = |path: &PathBuf| {
        let about = std::fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    };
    paths
        .into_iter()
        .map(|path| (path.clone(), stamp(&path)))
        .collect()
}
