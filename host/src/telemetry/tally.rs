//! Turns reports of one pipeline's run into the events of [`super::events`]: counts, sums and times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::events::{
    CommitReport, Durations, Failure, Reading, Report, Resting, SpanReport, Started, Stopped,
    Swapped, Waiting,
};
use super::query::Output;
use super::words::plural;
use crate::chain::Ledger;
use crate::clock::Clock;
use crate::commit::{Committed, Entry, Kind as EntryKind, Role, Rule, State};
use crate::config::PipelineConfig;
use crate::error::{Error, Kind};
use crate::hash::uuid;
use crate::lock::lock;
use crate::pipeline::{self, Ending, Left, Rest, Shown, Stages};
use crate::record::SplitId;
use crate::sink::Gathered;
use crate::source::End;

/// The pipeline calls it; it calls a [`Report`].
#[derive(Debug)]
pub struct Tally {
    to: Arc<dyn Report>,
    clock: Arc<dyn Clock>,
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    pipeline: String,
    source: String,
    sink: String,
    /// Since the first beginning of this run.
    start: Option<Duration>,
    last: Duration,
    version: u64,
    commits: u64,
    ledger: Ledger,
    files: u64,
    bytes: u64,
    /// Sum over all tasks since the last commit; they run in parallel, so it may exceed the wall time.
    stages: Stages,
    /// Per task.
    lag: BTreeMap<usize, Option<u64>>,
    /// Per task: read, and not known to be committed.
    gathered: BTreeMap<usize, Gathered>,
    waiting_since: Option<Duration>,
    waiting_for: &'static str,
    tasks: usize,
    /// Per task that has ended by itself.
    left: BTreeMap<usize, Left>,
    /// Of the log, and of this run.
    id: String,
    run_id: String,
    /// Where partitions end, as their sources last said.
    ends: BTreeMap<SplitId, i64>,
    /// Of the commit that is reported next.
    shown: Shown,
}

impl Tally {
    pub fn new(pipeline: &str, to: Arc<dyn Report>, clock: Arc<dyn Clock>) -> Tally {
        let sums = Sums {
            pipeline: pipeline.to_owned(),
            ..Sums::default()
        };
        Tally {
            to,
            clock,
            sums: Mutex::new(sums),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        lock(&self.sums)
    }

    fn stop(&self, why: impl FnOnce(&Sums) -> String, failure: Option<Failure>) {
        let mut sums = self.lock();
        let next = Sums {
            pipeline: sums.pipeline.clone(),
            version: sums.version,
            ..Sums::default()
        };
        let sums = std::mem::replace(&mut *sums, next);
        let stopped = Stopped {
            why: why(&sums),
            failure,
            version: sums.version,
            commits: sums.commits,
            ledger: sums.ledger,
            files: sums.files,
            bytes: sums.bytes,
            elapsed: sums.start.map_or(Duration::ZERO, |start| {
                self.clock.elapsed().saturating_sub(start)
            }),
            lag: sums.left_lag(),
            id: sums.id,
            run_id: sums.run_id,
            pipeline: sums.pipeline,
        };
        self.to.stopped(&stopped);
    }
}

impl Sums {
    /// Unknown if it is unknown for one task.
    fn total_lag(&self) -> Option<u64> {
        if self.lag.is_empty() {
            None
        } else {
            self.lag.values().copied().sum()
        }
    }

    /// Records that all tasks left; unknown if one of them could not say.
    fn left_lag(&self) -> Option<u64> {
        match self.left.len() {
            0 => None,
            told if told < self.tasks => None,
            _ => self.left.values().map(|left| left.lag).sum(),
        }
    }

    /// Describes a good ending.
    fn words(&self) -> String {
        let uncommitted: u64 = self.left.values().map(|left| left.uncommitted).sum();
        let mut words = match (uncommitted, self.left_lag()) {
            // How much waits is not known before it is read, as in a file.
            (0, None) if self.left.values().any(|left| left.lag.is_none()) => {
                "what was read is committed".to_owned()
            }
            (0, None | Some(0)) => "all committed".to_owned(),
            (0, Some(lag)) => {
                let left = plural(lag, "record");
                format!("what was read is committed, {left} waiting")
            }
            (n, _) => format!(
                "not all is committed: the next start reads {} again",
                plural(n, "record")
            ),
        };
        if self.waiting_since.is_some() {
            words.push_str(&format!("; it was waiting for {}", self.waiting_for));
        }
        words
    }
}

impl pipeline::Report for Tally {
    fn tasks(&self, count: usize) {
        self.lock().tasks = count;
    }

    fn started(&self, config: &PipelineConfig, state: &State) {
        let now = self.clock.elapsed();
        let mut sums = self.lock();
        if sums.start.is_none() {
            sums.run_id = uuid(&format!("{:032x}", u128::from(ulid::Ulid::generate())));
        }
        sums.id = state.id();
        sums.pipeline.clone_from(&config.name);
        sums.source = config.source_description();
        sums.sink = config.sink_description();
        sums.start.get_or_insert(now);
        sums.last = now;
        sums.version = state.version;
        sums.stages = Stages::default();
        sums.waiting_since = None;
        sums.left.clear();
        let started = Started {
            pipeline: config.name.clone(),
            source: sums.source.clone(),
            sink: sums.sink.clone(),
            tasks: config.tasks_max,
            version: state.version,
            rules: named(&state.rules.transforms),
            lag: sums.total_lag(),
            id: sums.id.clone(),
            run_id: sums.run_id.clone(),
            recent: config.progress.recent,
        };
        drop(sums);
        self.to.started(&started);
    }

    /// `took`: from the first file made durable to the last one published.
    fn committed(&self, committed: &Committed, state: &State, took: Duration) {
        let now = self.clock.elapsed();
        let entry = &committed.entry;
        let mut sums = self.lock();
        let stages = std::mem::take(&mut sums.stages);
        let Shown { notes, publish } = std::mem::take(&mut sums.shown);
        let durations = Durations {
            read: stages.read,
            transform: stages.transform,
            write: stages.write,
            seal: stages.seal,
            commit: took,
        };
        let report = CommitReport {
            pipeline: sums.pipeline.clone(),
            id: sums.id.clone(),
            run_id: sums.run_id.clone(),
            version: committed.version,
            kind: kind_name(entry.kind),
            time: entry.time,
            spans: spans(committed, state, &sums.ends),
            ledger: ledger_of(committed),
            counters: entry.counters.clone(),
            files: entry.add.iter().filter(|f| f.role != Role::Keys).count() as u64,
            bytes: entry.add.iter().map(|f| f.bytes).sum(),
            durations,
            since_last: now.saturating_sub(sums.last),
            lag: sums.total_lag(),
            source: sums.source.clone(),
            sink: sums.sink.clone(),
            outputs: outputs(&committed.entry),
            generation: entry.rules.as_ref().map(|rules| rules.generation),
            rules: entry
                .rules
                .as_ref()
                .map_or_else(Vec::new, |rules| rules.transforms.clone()),
            times: notes.times,
            refusals: notes.refusals,
            visible: self.clock.now_micros(),
            publish,
        };
        sums.last = now;
        sums.version = committed.version;
        sums.commits += 1;
        sums.ledger.add(&report.ledger);
        sums.files += report.files;
        sums.bytes += report.bytes;
        drop(sums);
        self.to.committed(&report);
    }

    fn swapped(&self, committed: &Committed) {
        let Some(swap) = &committed.entry.swap else {
            return;
        };
        let mut sums = self.lock();
        sums.version = committed.version;
        let pipeline = sums.pipeline.clone();
        drop(sums);
        self.to.swapped(&Swapped {
            pipeline,
            version: committed.version,
            replaces: swap.replaces,
            rules: swap.transforms.iter().map(ToString::to_string).collect(),
            actor: swap.actor.clone(),
            reason: swap.reason.clone(),
        });
    }

    fn gathered(&self, task: usize, gathered: Gathered) {
        let mut sums = self.lock();
        sums.gathered.insert(task, gathered);
        let open = sums.gathered.values();
        let (uncommitted, due) = open.fold((0, None), |(records, due), task| {
            let sooner = due.into_iter().chain(task.due).min();
            (records + task.records, sooner)
        });
        let reading = Reading {
            pipeline: sums.pipeline.clone(),
            read: sums.ledger.records.read + uncommitted,
            uncommitted,
            due,
            since_last: self.clock.elapsed().saturating_sub(sums.last),
            lag: sums.total_lag(),
        };
        drop(sums);
        self.to.reading(&reading);
    }

    fn resting(&self, why: Rest, next: Duration) {
        let pipeline = self.lock().pipeline.clone();
        let micros = i64::try_from(next.as_micros()).unwrap_or(i64::MAX);
        self.to.resting(&Resting {
            pipeline,
            why,
            next,
            at: self.clock.now_micros().saturating_add(micros),
        });
    }

    fn waiting(&self, error: &Error) {
        let on = match error.kind() {
            Kind::SourceUnavailable => "the source",
            Kind::StoreUnavailable => "the store",
            Kind::SinkUnavailable => "the sink",
            kind => kind.code(),
        };
        let mut sums = self.lock();
        sums.waiting_since = Some(self.clock.elapsed());
        sums.waiting_for = on;
        let pipeline = sums.pipeline.clone();
        drop(sums);
        let error = Some(error);
        self.to.waiting(&pipeline, &Waiting { on, error });
    }

    fn resumed(&self) {
        let mut sums = self.lock();
        let since = sums.waiting_since.take();
        let pipeline = sums.pipeline.clone();
        drop(sums);
        let now = self.clock.elapsed();
        let after = now.saturating_sub(since.unwrap_or(now));
        self.to.resumed(&pipeline, after);
    }

    fn left(&self, task: usize, left: Left) {
        self.lock().left.insert(task, left);
    }

    fn stands(&self, state: &State) {
        self.lock().version = state.version;
    }

    fn ended(&self, ending: &Ending<'_>) {
        match ending {
            Ending::Well { because: None } => self.stop(Sums::words, None),
            Ending::Well {
                because: Some(because),
            } => {
                let words = |sums: &Sums| format!("drained, because {because}: {}", sums.words());
                self.stop(words, None);
            }
            Ending::NotBegun { because } => {
                self.stop(|_| format!("not begun, because {because} failed"), None);
            }
            Ending::Failed(error) => {
                let failure = Failure {
                    error: error.one_line(),
                    hint: error.hint_text().map(str::to_owned),
                };
                self.stop(|_| error.kind().code().to_owned(), Some(failure));
            }
        }
    }

    fn stages(&self, _: usize, stages: Stages) {
        let sums = &mut self.lock().stages;
        sums.read += stages.read;
        sums.transform += stages.transform;
        sums.write += stages.write;
        sums.seal += stages.seal;
    }

    fn lag(&self, task: usize, lag: Option<u64>) {
        self.lock().lag.insert(task, lag);
    }

    fn shown(&self, shown: Shown) {
        self.lock().shown = shown;
    }

    fn ends(&self, _: usize, ends: &[End]) {
        let mut sums = self.lock();
        for end in ends {
            match sums.ends.get_mut(&end.split) {
                Some(next) => *next = end.next,
                None => drop(sums.ends.insert(end.split.clone(), end.next)),
            }
        }
    }
}

fn named(rules: &[Rule]) -> Vec<String> {
    let name = |rule: &Rule| format!("{}={}@{}", rule.transform, rule.plugin, rule.version);
    rules.iter().map(name).collect()
}

/// An entry's kind as it stands in the log.
pub fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Init => "init",
        EntryKind::Open => "open",
        EntryKind::Data => "data",
        EntryKind::Gap => "gap",
        EntryKind::Swap => "swap",
        EntryKind::Rewind => "rewind",
        EntryKind::Gc => "gc",
        EntryKind::Reader => "reader",
        EntryKind::Plan => "plan",
        EntryKind::Batch => "batch",
        EntryKind::Void => "void",
        EntryKind::Horizon => "horizon",
        EntryKind::Expire => "expire",
        EntryKind::Archived => "archived",
        EntryKind::Forget => "forget",
        EntryKind::Compact => "compact",
    }
}

/// Sum of the entry's spans.
pub fn ledger_of(committed: &Committed) -> Ledger {
    let mut sum = Ledger::default();
    for span in &committed.entry.spans {
        sum.add(&Ledger {
            records: span.records,
            rows: span.rows,
            dead_letters: span.dead_letters,
        });
    }
    sum
}

fn spans(committed: &Committed, state: &State, ends: &BTreeMap<SplitId, i64>) -> Vec<SpanReport> {
    let spans = committed.entry.spans.iter().map(|span| {
        let split = state.splits.get(&span.split);
        let topic = split.map_or_else(|| span.split.to_string(), |c| c.topic.clone());
        let partition = split.map_or(0, |c| c.partition);
        SpanReport {
            // It ends no lower than what was read of it.
            latest: ends.get(&span.split).map(|next| (*next).max(span.to)),
            topic,
            partition,
            from: span.from,
            to: span.to,
            records: span.records.read,
            lost: span.lost,
        }
    });
    spans.collect()
}

/// What the entry gave, without key sidecars.
fn outputs(entry: &Entry) -> Vec<Output> {
    let files = entry.add.iter().filter(|f| f.role != Role::Keys);
    let files = files.map(|file| Output {
        path: file.path.clone(),
        rows: file.rows,
        bytes: file.bytes,
        digest: Some(file.digest.clone()),
    });
    let taken = entry.deliver.iter().map(|delivery| Output {
        path: delivery.target.clone(),
        rows: delivery.rows,
        bytes: 0,
        digest: None,
    });
    files.chain(taken).collect()
}
