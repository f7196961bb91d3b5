//! One road for a change of rules: whoever wants it, it becomes a [`RuleChange`], and one thread puts it in force.
//!
//! ```text
//! this process (a swap or another config over HTTP)  RuleChanges::put ─┐
//! another process, through the store                       pending.rs ─┼→ RuleChange ─ Changer: a chain for each task ─→
//! a watched file was edited                                  watch.rs ─┘   committer: tasks flush, one entry ─→ Asker
//! ```
//! The thread is beside the path of the records: to build chains (compile, `init`) may take a while. What does not build is
//! answered with the reason, and the old rules stay. Nothing that goes wrong in here touches the pipeline.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_schema::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Parts;
use super::columns::{self, Columns};
use super::pending::{Answer, Id, Pending};
use super::watch::Watched;
use crate::chain::TransformChain;
use crate::commit::{LogName, Swap, Writer, actor, rules_digest};
use crate::config::{self, PipelineConfig};
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::pipeline::committer::Prepared;
use crate::pipeline::committer::steps::NewRules;
use crate::pipeline::{Host, Stop};
use crate::store::Store;

/// Between two looks for changes: with the sealing of all tasks an idle pipeline swaps well within a second. The store is asked
/// less often where it says so.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at a stop while the committer works on a change.
const ANSWER_WAIT: Duration = Duration::from_millis(50);
/// For the pipeline to take a change of its process: it looks every `LOOK_EVERY`, and is away while the pipeline begins.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// From there on: plugins compiled and started, every task sealed, the entry written. Longer only where the store is away.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// What is wanted, and who is answered.
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
    /// These rules instead of those that `from` names. Whoever asks has looked at the columns.
    Swap(Swap),
    /// All that a config declares.
    Config(Edit),
}

/// A config that differs in its transforms alone.
#[derive(Clone, Debug)]
pub struct Edit {
    config: PipelineConfig,
    actor: String,
    reason: String,
    readers: Readers,
}

impl Edit {
    /// `allow_breaking`: also where columns go or change their type.
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
    /// No column goes or changes its type; `way`: how to say that it may.
    Kept {
        way: String,
    },
    Broken,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// By this version of the log.
    InForce(u64),
    /// It declares what was declared before.
    Same,
    /// Nothing was written; why.
    Refused(String),
}

/// Who is answered.
#[derive(Debug)]
enum Asker {
    Process(Sender<Changed>),
    Request(Id),
    /// Nobody asked; a refusal is a warning.
    Watch,
}

/// From this process to one run of a pipeline. Nothing waits in between: a change is taken or it is not.
#[derive(Clone, Debug)]
pub struct RuleChanges {
    asks: Sender<(What, Sender<Changed>)>,
    taken: Receiver<(What, Sender<Changed>)>,
    /// The config that is followed by now; `None`: the first.
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
    /// `None`: nobody took it, or the pipeline ended before it was done, or it took longer than `wait`. To write the entry,
    /// or to begin the pipeline anew with that config, is always safe: the log knows what is in force.
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

    /// The config that is followed by now.
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
    /// Of the rules in force.
    columns: SchemaRef,
    pending: Pending,
    /// When requests of other processes are looked for again.
    next_look: Duration,
    watched: Option<Watched>,
    to_committer: Sender<Prepared>,
    stop: Stop,
}

impl Changer {
    /// `stop`: of this thread; it ends with its pipeline.
    pub fn new(
        host: &Host,
        config: &PipelineConfig,
        (tasks, columns): (usize, SchemaRef),
        (store, log): (Arc<dyn Store>, &LogName),
        to_committer: Sender<Prepared>,
        stop: Stop,
    ) -> Changer {
        let mut changer = Changer {
            host: host.clone(),
            config: config.clone(),
            tasks,
            columns,
            pending: Pending::new(store, log),
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

    /// Until asked to stop.
    pub fn run(mut self) -> Result<()> {
        while !self.stop.wait(LOOK_EVERY) {
            while let Some(change) = self.next() {
                self.apply(change);
            }
        }
        Ok(())
    }

    /// The next change that anybody wants.
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
        // A store that is away is the committer's to report.
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

    /// Unanswered where the pipeline ends or begins again: whoever asked writes the entry, or begins the pipeline anew.
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

    /// Into the store, for the process that asked; without an answer it finds its request given back.
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

    /// The rules that a config declares, where it declares others than before.
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

    /// Builds, hands over, waits. `None`: the pipeline ended first. `own`: of a config of this process, and what it may do to
    /// readers.
    fn put(&mut self, parts: &Parts, swap: Swap, own: Option<&Readers>) -> Result<Option<Changed>> {
        let chains = (0..self.tasks).map(|_| parts.chain(&self.config));
        let chains: Vec<TransformChain> = chains.collect::<Result<_>>()?;
        let new = chains.first().map(TransformChain::output_schema);
        let new = new.unwrap_or_else(|| self.columns.clone());
        let breaking = match own {
            Some(Readers::Kept { way }) => Columns::between(&self.columns, &new).refusal(way),
            Some(Readers::Broken) | None => None,
        };
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
