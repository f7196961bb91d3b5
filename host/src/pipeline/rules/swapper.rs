//! Where new rules come from while a pipeline runs: requests of `weir pipeline swap`, another config from whoever runs the
//! pipeline, and with `watch = true` edits of the config, its rule files and tables, and the plugins.
//!
//! One thread beside the path of the records. It builds a chain for each task, which may take a while (compiling, `init`),
//! and hands them to the committer. What does not build is answered with the reason, and the old rules stay.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow_schema::SchemaRef;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::Parts;
use super::columns::{self, Columns};
use super::edits::{Edit, Edited};
use super::pending::{Answer, Id, Pending};
use crate::chain::Chain;
use crate::commit::{LogName, Swap, Writer, actor, rules_digest};
use crate::config::{self, PipelineConfig};
use crate::error::{Error, Result};
use crate::pipeline::Host;
use crate::pipeline::Stop;
use crate::pipeline::committer::Prepared;
use crate::pipeline::committer::steps::NewRules;
use crate::store::Store;

/// Between two looks for requests: with the sealing of all tasks an idle pipeline swaps well within a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at watched files. An edit counts once two looks in a row find the same: editors and copies take a
/// moment to write.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at a stop while the committer works on a swap.
const ANSWER_WAIT: Duration = Duration::from_millis(50);

pub struct Swapper {
    host: Host,
    config: PipelineConfig,
    tasks: usize,
    /// Of the rules in force.
    columns: SchemaRef,
    pending: Pending,
    swaps: Sender<Prepared>,
    stop: Stop,
}

impl Swapper {
    /// `stop`: of this thread; it ends with its pipeline.
    pub fn new(
        host: &Host,
        config: &PipelineConfig,
        (tasks, columns): (usize, SchemaRef),
        (store, log): (Arc<dyn Store>, &LogName),
        swaps: Sender<Prepared>,
        stop: Stop,
    ) -> Swapper {
        Swapper {
            host: host.clone(),
            config: config.clone(),
            tasks,
            columns,
            pending: Pending::new(store, log),
            swaps,
            stop,
        }
    }

    /// Until asked to stop. Nothing that goes wrong in here touches the pipeline.
    pub fn run(mut self) -> Result<()> {
        let mut watched = self.config.watch.then(|| Watched::of(&self.config));
        let mut looked = self.host.clock.elapsed();
        while !self.stop.wait(LOOK_EVERY) {
            // A store that is away is the committer's to report.
            for id in self.pending.open().unwrap_or_default() {
                if let Err(error) = self.serve(&id) {
                    tracing::warn!(%error, "a request for a swap was not answered");
                }
            }
            while let Some((edit, answer)) = self.host.edits.take() {
                // Unanswered where the pipeline ends or begins again: whoever asked begins it with that config.
                if let Some(edited) = self.put_edit(&edit) {
                    if matches!(edited, Edited::InForce(_) | Edited::Same) {
                        self.config = edit.config;
                        self.host.edits.is_now(&self.config);
                        watched = self.config.watch.then(|| Watched::of(&self.config));
                    }
                    drop(answer.send(edited));
                }
            }
            let now = self.host.clock.elapsed();
            if let Some(watched) = &mut watched
                && now >= looked + WATCH_EVERY
            {
                looked = now;
                if watched.settled_edit(&self.config) {
                    self.edited(watched);
                }
            }
        }
        Ok(())
    }

    fn serve(&mut self, id: &Id) -> Result<()> {
        let by = Writer::this_process(&*self.host.clock).id;
        if !self.pending.take(id, &by)? {
            return Ok(());
        }
        let Some(mut swap) = self.pending.read(id)? else {
            return Ok(());
        };
        // This process knows best where its config comes from.
        if let Ok(declared) = self.declared(&config::reloaded(&self.config)) {
            swap.declared = Some(rules_digest(&declared.rules()));
        }
        let parts = Parts::in_force(&self.host.plugins, &swap.rules);
        // Whoever asks has looked at the columns.
        let answer = match parts.and_then(|parts| self.put(&parts, swap, None)) {
            Ok(Some(Ok(version))) => Answer::InForce(version),
            Ok(Some(Err(why))) => Answer::Refused(why),
            // The pipeline ends or begins again: the asker finds its request given back.
            Ok(None) => return self.pending.forget(id),
            Err(error) => Answer::Refused(error.to_string()),
        };
        self.pending.tell(id, &answer)
    }

    fn declared(&self, config: &PipelineConfig) -> Result<Parts> {
        Parts::declared(&self.host.plugins, config).map_err(|problems| config::refused(&problems))
    }

    /// Builds, hands over, waits. `None`: the pipeline ended first. `own`: of this process's config, and what it may do
    /// to readers.
    fn put(
        &mut self,
        parts: &Parts,
        swap: Swap,
        own: Option<Readers>,
    ) -> Result<Option<Result<u64, String>>> {
        let chains = (0..self.tasks).map(|_| parts.chain(&self.config));
        let chains: Vec<Chain> = chains.collect::<Result<_>>()?;
        let new = chains.first().map(Chain::output_schema);
        let new = new.unwrap_or_else(|| self.columns.clone());
        let is_own = own.is_some();
        let breaking = match own {
            Some(Readers::Kept { way }) => Columns::between(&self.columns, &new).refusal(&way),
            Some(Readers::Broken) | None => None,
        };
        let (answer, hears) = bounded(1);
        let rules = Box::new(NewRules {
            swap,
            own: is_own,
            breaking,
            chains,
        });
        let prepared = Prepared { rules, answer };
        if self.swaps.send(prepared).is_err() {
            return Ok(None);
        }
        loop {
            match hears.recv_timeout(ANSWER_WAIT) {
                Ok(answer) => {
                    if answer.is_ok() {
                        self.columns = new;
                    }
                    return Ok(Some(answer));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if self.stop.asked() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The rules of another config. `None`: the pipeline ended first.
    fn put_edit(&mut self, edit: &Edit) -> Option<Edited> {
        let readers = match edit.allow_breaking {
            true => Readers::Broken,
            false => Readers::Kept {
                way: columns::WAY_OVER_HTTP.to_owned(),
            },
        };
        let put = self.put_declared(&edit.config, &edit.actor, &edit.reason, readers);
        match put {
            Ok(Put::Same) => Some(Edited::Same),
            Ok(Put::InForce(version)) => Some(Edited::InForce(version)),
            Ok(Put::Refused(why)) => Some(Edited::Refused(why)),
            Ok(Put::Ended) => None,
            Err(error) => Some(Edited::Refused(error.to_string())),
        }
    }

    /// The rules that a config declares, where it declares others than before.
    fn put_declared(
        &mut self,
        config: &PipelineConfig,
        actor: &str,
        reason: &str,
        readers: Readers,
    ) -> Result<Put> {
        let parts = self.declared(config)?;
        let rules = parts.rules();
        let digest = rules_digest(&rules);
        if self.host.declared.last().as_ref() == Some(&digest) {
            return Ok(Put::Same); // touched, not changed; or a key that is no rule
        }
        parts.keep(&self.host.plugins)?;
        let swap = Swap {
            from: 0,
            rules,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            bar: Vec::new(),
            force: false,
            declared: None,
        };
        Ok(match self.put(&parts, swap, Some(readers))? {
            Some(Ok(version)) => {
                self.host.declared.set(&digest);
                Put::InForce(version)
            }
            Some(Err(why)) => Put::Refused(why),
            None => Put::Ended,
        })
    }

    /// Puts an edit in force, or says why not.
    fn edited(&mut self, watched: &Watched) {
        let config = match config::reload(&self.config) {
            Ok(config) => config,
            Err(problems) => return refused(&self.config, &config::refused(&problems)),
        };
        let reason = format!("edited: {}", watched.what);
        let readers = Readers::Kept {
            way: columns::way(&self.config.name),
        };
        match self.put_declared(&config, &actor(), &reason, readers) {
            Ok(Put::Refused(why)) => tracing::warn!(
                pipeline = self.config.name,
                why,
                "an edit was refused, the old rules stay in force"
            ),
            Ok(_) => {}
            Err(error) => refused(&self.config, &error),
        }
    }
}

/// Who reads the table keeps its columns, or somebody said that they may break; else how to say so.
enum Readers {
    Kept { way: String },
    Broken,
}

/// What became of declared rules.
enum Put {
    /// They are what was declared before.
    Same,
    InForce(u64),
    /// By the log.
    Refused(String),
    /// The pipeline ended first.
    Ended,
}

pub(in crate::pipeline) fn refused(config: &PipelineConfig, error: &Error) {
    tracing::warn!(
        pipeline = config.name,
        %error,
        hint = error.hint_text(),
        "an edit was refused, the old rules stay in force"
    );
}

/// A file as far as a look at its directory tells.
type Stamp = Option<(SystemTime, u64)>;

/// Files that decide about the declared rules.
struct Watched {
    stamps: BTreeMap<PathBuf, Stamp>,
    /// Changed since `stamps`, seen once.
    fresh: Option<BTreeMap<PathBuf, Stamp>>,
    /// Names of the files of the last edit.
    what: String,
}

impl Watched {
    fn of(config: &PipelineConfig) -> Watched {
        Watched {
            stamps: stamps(config),
            fresh: None,
            what: String::new(),
        }
    }

    /// True once for each edit, when two looks found the same.
    fn settled_edit(&mut self, config: &PipelineConfig) -> bool {
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

/// Of the config's files, of every file that a transform's key names, of the plugins and of the store's list of them.
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
