//! The one way to change rules: every request becomes a [`RuleChange`], and one thread puts it in force.
//!
//! ```text
//! this process (a swap or another config over HTTP)  RuleChanges::put ─┐
//! another process, through the store                       pending.rs ─┼→ RuleChange ─ Changer: a chain for each task ─→
//! a watched file was edited                                  watch.rs ─┘   committer: tasks flush, one entry ─→ Asker
//! ```
//! The thread is apart from the path of records, because building chains (compile, `init`) may take a while. If a chain
//! cannot be built, the answer is the reason, and the old rules stay. No failure in here affects the pipeline.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_schema::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Parts;
use super::columns::{self, Columns};
use super::converters;
use super::pending::{Answer, Id, Pending};
use super::watch::Watched;
use crate::chain::{NewSchema, TransformChain};
use crate::commit::{Log, LogName, Rule, Swap, Writer, actor, rules_digest};
use crate::config::{self, PipelineConfig};
use crate::error::{Error, Remedy, Result};
use crate::lock::lock;
use crate::pipeline::committer::Prepared;
use crate::pipeline::committer::steps::NewRules;
use crate::pipeline::start;
use crate::pipeline::task::{LeftOut, Wanted};
use crate::pipeline::{Host, Stop};
use crate::store::{self, Store};

/// Time between two looks for changes: including the sealing of all tasks, an idle pipeline swaps well within a second.
/// Some stores are asked less often (`news_every`).
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a stop is checked while the committer works on a change.
const ANSWER_WAIT: Duration = Duration::from_millis(50);
/// Time for the pipeline to take a change from its own process: the thread looks every `LOOK_EVERY`, and does not run
/// while the pipeline begins.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// Time from there on: plugins are compiled and started, every task seals, the entry is written. It takes longer only
/// if the store is away.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// What is requested, and who gets the answer.
#[derive(Debug)]
struct RuleChange {
    what: What,
    asker: Asker,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one of a pipeline, moved a few times"
)]
enum What {
    /// These rules instead of those that `replaces` names. The requester has checked the columns.
    Swap(Swap),
    /// All rules that a config declares.
    Config(Edit),
}

/// A config that differs only in its transforms.
#[derive(Clone, Debug)]
pub struct Edit {
    config: PipelineConfig,
    actor: String,
    reason: String,
    readers: Readers,
}

impl Edit {
    /// `allow_breaking`: accept it even if columns go or change their type.
    pub fn over_http(config: &PipelineConfig, actor: &str, allow_breaking: bool) -> Edit {
        Edit {
            config: config.clone(),
            actor: actor.to_owned(),
            reason: "another config".to_owned(),
            readers: match allow_breaking {
                true => Readers::Broken,
                false => Readers::Kept {
                    way: columns::WAY_OVER_HTTP.to_owned(),
                },
            },
        }
    }
}

/// What a change may do to the readers of the table.
#[derive(Clone, Debug)]
enum Readers {
    /// No column may go or change its type; `way`: how a person can allow it, for the message.
    Kept {
        way: String,
    },
    Broken,
}

/// The result of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// In force by this version of the log.
    InForce(u64),
    /// The config declares the same rules as before.
    Same,
    /// Nothing was written, for this reason.
    Refused(String),
}

/// Who gets the answer.
#[derive(Debug)]
enum Asker {
    Process(Sender<Changed>),
    Request(Id),
    /// Nobody waits for an answer; a refusal becomes a warning.
    Watch,
}

/// Sends changes from this process to one run of a pipeline. They are not queued: a change is taken at once or not at
/// all.
#[derive(Clone, Debug)]
pub struct RuleChanges {
    asks: Sender<(What, Sender<Changed>)>,
    taken: Receiver<(What, Sender<Changed>)>,
    /// The config in use now; `None`: still the first.
    now: Arc<Mutex<Option<PipelineConfig>>>,
}

impl Default for RuleChanges {
    fn default() -> RuleChanges {
        let (asks, taken) = bounded(0);
        RuleChanges {
            asks,
            taken,
            now: Arc::default(),
        }
    }
}

impl RuleChanges {
    /// `None`: nobody took it, or the pipeline ended before it was done, or it took longer than `wait`. The caller may
    /// then safely write the entry itself, or begin the pipeline again with that config: the log knows what is in
    /// force.
    pub fn put_swap(&self, swap: &Swap, wait: Duration) -> Option<Changed> {
        self.put(What::Swap(swap.clone()), wait)
    }

    /// As [`put_swap`](RuleChanges::put_swap).
    pub fn put_config(&self, edit: Edit) -> Option<Changed> {
        self.put(What::Config(edit), DONE_WITHIN)
    }

    fn put(&self, what: What, wait: Duration) -> Option<Changed> {
        let (answer, answered) = bounded(1);
        self.asks.send_timeout((what, answer), TAKEN_WITHIN).ok()?;
        answered.recv_timeout(wait).ok()
    }

    fn is_now(&self, config: &PipelineConfig) {
        *lock(&self.now) = Some(config.clone());
    }

    /// The config in use now.
    pub(in crate::pipeline) fn or(&self, first: &PipelineConfig) -> PipelineConfig {
        lock(&self.now).clone().unwrap_or_else(|| first.clone())
    }
}

/// One thread of a running pipeline: takes changes and puts them in force, one after the other.
#[derive(Debug)]
pub struct Changer {
    host: Host,
    config: PipelineConfig,
    tasks: usize,
    /// The columns of the rules in force.
    columns: SchemaRef,
    pending: Pending,
    store: Arc<dyn Store>,
    /// The rules in force, and their digest.
    rules: Vec<Rule>,
    in_force: String,
    /// No config declares them.
    by_hand: bool,
    /// Tasks that need rules for a newer schema.
    wanted: Receiver<Wanted>,
    /// When requests of other processes are looked for again.
    next_look: Duration,
    watched: Option<Watched>,
    to_committer: Sender<Prepared>,
    stop: Stop,
}

impl Changer {
    /// `stop`: the stop of this thread, which ends with its pipeline.
    pub fn new(
        host: &Host,
        config: &PipelineConfig,
        (tasks, columns): (usize, SchemaRef),
        (store, log): (Arc<dyn Store>, &Log),
        (to_committer, wanted): (Sender<Prepared>, Receiver<Wanted>),
        stop: Stop,
    ) -> Changer {
        let mut changer = Changer {
            host: host.clone(),
            config: config.clone(),
            tasks,
            columns,
            pending: Pending::new(store.clone(), log.name()),
            store,
            in_force: rules_digest(&log.state().rules.transforms),
            by_hand: rules_digest(&log.state().rules.transforms) != log.state().declared,
            rules: log.state().rules.transforms.clone(),
            wanted,
            next_look: Duration::ZERO,
            watched: None,
            to_committer,
            stop,
        };
        changer.watch();
        changer
    }

    fn watch(&mut self) {
        let now = self.host.clock.elapsed();
        let watched = || Watched::of(&self.config, now);
        self.watched = self.config.watch.then(watched);
    }

    /// Runs until asked to stop.
    pub fn run(mut self) -> Result<()> {
        while !self.stop.wait(LOOK_EVERY) {
            while let Some(change) = self.next() {
                self.apply(change);
            }
            while let Ok(wanted) = self.wanted.try_recv() {
                self.follow(&wanted);
            }
        }
        Ok(())
    }

    /// Puts the new fields of a schema in force. If that cannot be, the task is told, and reads on without them; if they are in force
    /// already, it finds out by itself.
    fn follow(&mut self, Wanted { new, answer }: &Wanted) {
        let why = match self.followed(new) {
            Ok(None) => return,
            Ok(Some(why)) => why,
            Err(error) if error.remedy() == Remedy::Retry => return, // the task asks again
            Err(error) => error.one_line(),
        };
        tracing::warn!(
            pipeline = self.config.name,
            schema = new.name,
            why,
            "new fields of a schema are left out"
        );
        drop(answer.send(LeftOut));
    }

    /// `Some`: why they are left out.
    fn followed(&mut self, new: &NewSchema) -> Result<Option<String>> {
        if !self.declares_what_is_in_force()? {
            let why = "a swap or rollback by hand is in force; weir pipeline swap NAME --reload puts the config's rules in force again";
            return Ok(Some(why.to_owned()));
        }
        let Some(followed) = converters::followed(self.store.as_ref(), &self.config, new)? else {
            // Kept before, and perhaps not in force yet.
            let config = converters::completed_anew(self.store.as_ref(), &self.config)?;
            return self.put_schema(config, new, &[]);
        };
        let parts = self.declared(&followed.config)?;
        let columns = parts.chain(&followed.config)?.output_schema();
        let way = columns::way(&self.config.name);
        if let Some(refusal) = Columns::between(&self.columns, &columns).refusal(&way) {
            return Err(refusal);
        }
        let now = self.host.clock.now_micros();
        let config = converters::keep_followed(self.store.as_ref(), &followed, new, now)?;
        self.put_schema(config, new, &followed.names)
    }

    /// Also where another process of this pipeline followed a schema: its rules are those of this config then, with another schema.
    fn declares_what_is_in_force(&self) -> Result<bool> {
        if self.host.declared.last().as_ref() == Some(&self.in_force) {
            return Ok(true);
        }
        if self.by_hand {
            return Ok(false);
        }
        let parts = Parts::in_force(&self.host.plugins, &self.rules)?;
        let Some(schema) = parts.iter().find_map(|part| part.schema()) else {
            return Ok(false);
        };
        let declared = self.declared(&converters::with(&self.config, schema))?;
        let declares = rules_digest(&declared.rules()) == self.in_force;
        if declares {
            self.host.declared.set(&self.in_force);
        }
        Ok(declares)
    }

    fn put_schema(
        &mut self,
        config: PipelineConfig,
        new: &NewSchema,
        names: &[String],
    ) -> Result<Option<String>> {
        let edit = Edit {
            actor: actor(),
            reason: format!("{} has new fields: {}", new.name, names.join(", ")),
            readers: Readers::Kept {
                way: columns::way(&config.name),
            },
            config,
        };
        match self.put_config(&edit)? {
            Some(Changed::InForce(version)) => {
                self.config = edit.config;
                self.host.changes.is_now(&self.config);
                tracing::info!(
                    pipeline = self.config.name,
                    version,
                    reason = edit.reason,
                    "schema followed"
                );
                Ok(None)
            }
            Some(Changed::Refused(why)) => Ok(Some(why)),
            Some(Changed::Same) | None => Ok(None),
        }
    }

    /// The next change from any of the three feeders.
    fn next(&mut self) -> Option<RuleChange> {
        if let Ok((what, answer)) = self.host.changes.taken.try_recv() {
            let asker = Asker::Process(answer);
            return Some(RuleChange { what, asker });
        }
        self.requested().or_else(|| self.edited())
    }

    fn requested(&mut self) -> Option<RuleChange> {
        let now = self.host.clock.elapsed();
        if now < self.next_look {
            return None;
        }
        self.next_look = now.saturating_add(self.pending.look_every());
        // The committer reports a store that is away.
        for id in self.pending.open().unwrap_or_default() {
            let by = Writer::this_process(&*self.host.clock).id;
            let taken = self.pending.take(&id, &by).and_then(|taken| match taken {
                true => self.pending.read(&id),
                false => Ok(None),
            });
            match taken {
                Ok(Some(swap)) => {
                    let (what, asker) = (What::Swap(swap), Asker::Request(id));
                    return Some(RuleChange { what, asker });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a request for a swap was not answered");
                }
            }
        }
        None
    }

    fn edited(&mut self) -> Option<RuleChange> {
        let now = self.host.clock.elapsed();
        let what = self.watched.as_mut()?.edited(&self.config, now)?;
        let reason = format!("edited: {what}");
        match config::reload(&self.config) {
            Ok(config) => Some(RuleChange {
                what: What::Config(Edit {
                    config,
                    actor: actor(),
                    reason,
                    readers: Readers::Kept {
                        way: columns::way(&self.config.name),
                    },
                }),
                asker: Asker::Watch,
            }),
            Err(problems) => {
                refused(&self.config, &config::refused(&problems));
                None
            }
        }
    }

    /// There is no answer if the pipeline ends or begins again: the requester then writes the entry, or begins the
    /// pipeline again.
    fn apply(&mut self, RuleChange { what, asker }: RuleChange) {
        let changed = match &what {
            What::Swap(swap) => self.put_swap(swap.clone()),
            What::Config(edit) => self.put_config(edit),
        };
        match (asker, changed) {
            (Asker::Process(answer), Ok(Some(changed))) => {
                if let (What::Config(edit), Changed::InForce(_) | Changed::Same) = (what, &changed)
                {
                    self.config = edit.config;
                    self.host.changes.is_now(&self.config);
                    self.watch();
                }
                drop(answer.send(changed));
            }
            (Asker::Process(answer), Err(error)) => {
                drop(answer.send(Changed::Refused(error.to_string())));
            }
            (Asker::Request(id), changed) => self.answer(&id, changed),
            (Asker::Watch, Ok(Some(Changed::Refused(why)))) => tracing::warn!(
                pipeline = self.config.name,
                why,
                "an edit was refused, the old rules stay in force"
            ),
            (Asker::Watch, Err(error)) => refused(&self.config, &error),
            (Asker::Process(_) | Asker::Watch, Ok(_)) => {}
        }
    }

    /// Writes the answer to the store for the process that asked. If there is none, the request is given back.
    fn answer(&self, id: &Id, changed: Result<Option<Changed>>) {
        let told = match changed {
            Ok(Some(Changed::InForce(version))) => self.pending.tell(id, &Answer::InForce(version)),
            Ok(Some(Changed::Refused(why))) => self.pending.tell(id, &Answer::Refused(why)),
            Err(error) => self.pending.tell(id, &Answer::Refused(error.to_string())),
            Ok(Some(Changed::Same) | None) => self.pending.forget(id),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "a request for a swap was not answered");
        }
    }

    fn put_swap(&mut self, mut swap: Swap) -> Result<Option<Changed>> {
        // This process knows best where its config comes from.
        if let Ok(declared) = self.declared(&config::reloaded(&self.config)) {
            swap.declared = Some(rules_digest(&declared.rules()));
        }
        let parts = Parts::in_force(&self.host.plugins, &swap.transforms)?;
        self.put(&parts, swap, None)
    }

    /// Puts the rules of a config in force, if they differ from those before.
    fn put_config(&mut self, edit: &Edit) -> Result<Option<Changed>> {
        let parts = self.declared(&edit.config)?;
        let rules = parts.rules();
        let digest = rules_digest(&rules);
        if self.host.declared.last().as_ref() == Some(&digest) {
            return Ok(Some(Changed::Same)); // touched, not changed; or a key that is no rule
        }
        parts.keep(&self.host.plugins)?;
        let swap = Swap {
            replaces: 0,
            transforms: rules,
            actor: edit.actor.clone(),
            reason: edit.reason.clone(),
            block: Vec::new(),
            force: false,
            declared: None,
        };
        let changed = self.put(&parts, swap, Some(&edit.readers))?;
        if matches!(changed, Some(Changed::InForce(_))) {
            self.host.declared.set(&digest);
        }
        Ok(changed)
    }

    fn declared(&self, config: &PipelineConfig) -> Result<Parts> {
        Parts::declared(&self.host.plugins, config).map_err(|problems| config::refused(&problems))
    }

    /// Builds the chains, sends them to the committer, waits for the answer. `None`: the pipeline ended first. `own`:
    /// set for a config of this process; says what it may do to readers.
    fn put(&mut self, parts: &Parts, swap: Swap, own: Option<&Readers>) -> Result<Option<Changed>> {
        let digest = rules_digest(&swap.transforms);
        let transforms = swap.transforms.clone();
        let by_hand = swap
            .declared
            .as_ref()
            .is_some_and(|declared| *declared != digest);
        let chains = (0..self.tasks).map(|_| parts.chain(&self.config));
        let chains: Vec<TransformChain> = chains.collect::<Result<_>>()?;
        let new = chains.first().map(TransformChain::output_schema);
        let new = new.unwrap_or_else(|| self.columns.clone());
        let breaking = match own {
            Some(Readers::Kept { way }) => Columns::between(&self.columns, &new).refusal(way),
            Some(Readers::Broken) | None => None,
        };
        // Whoever empties the plugin store looks into this log from now on.
        if let Some(home) = store::open_existing(&self.config.home.at)? {
            let log = LogName::new(&self.config.name, &self.config.home.zone);
            start::keep_rules_at(&self.host, home.url(), &log);
        }
        let (answer, answered) = bounded(1);
        let rules = Box::new(NewRules {
            swap,
            own: own.is_some(),
            breaking,
            chains,
        });
        if self.to_committer.send(Prepared { rules, answer }).is_err() {
            return Ok(None);
        }
        loop {
            match answered.recv_timeout(ANSWER_WAIT) {
                Ok(Ok(version)) => {
                    self.columns = new;
                    self.in_force = digest;
                    self.rules = transforms;
                    self.by_hand = by_hand;
                    return Ok(Some(Changed::InForce(version)));
                }
                Ok(Err(why)) => return Ok(Some(Changed::Refused(why))),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if self.stop.asked() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

pub(super) fn refused(config: &PipelineConfig, error: &Error) {
    tracing::warn!(
        pipeline = config.name,
        %error,
        hint = error.hint_text(),
        "an edit was refused, the old rules stay in force"
    );
}
