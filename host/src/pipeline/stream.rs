//! A pipeline that reads records: tasks, one committer, and a watcher for changes in the source.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::{Sender, unbounded};

use super::committer::Committer;
use super::dead_letters::DeadLetterCopy;
use super::messages::{ToCommitter, ToTask};
use super::rules::change::Changer;
use super::rules::pending::Pending;
use super::start::{self, Ready};
use super::stop::Stop;
use super::task::portion::{self, Portion};
use super::task::{Hold, Task, TaskOptions, Wanted};
use super::{Host, Rest, compact, panicked, retry};
use crate::chain::TransformChain;
use crate::commit::{Log, Open};
use crate::config::{PerTrigger, PipelineConfig, SourceConfig, Tolerance, Trigger};
use crate::connectors;
use crate::error::{Error, Kind, Remedy, Result};
use crate::record::SplitId;
use crate::sink::FILES_SHARE;
use crate::sink::guarded::Guarded;
use crate::source::{
    Change, Connector, Lost, Policy, Position, REFUSED_FOR, ReadLimits, TopicInfo, lost,
};

/// How long the watcher sleeps between two looks at the threads.
const WATCH_WAIT: Duration = Duration::from_millis(50);

/// Runs until asked to stop, or to the end of what is there (`available-now`). An error with remedy Retry asks for
/// another call: for instance, a topic was recreated and must be read as a new one.
pub fn run(host: &Host, config: &PipelineConfig, source: &dyn SourceConfig) -> Result<Rest> {
    let Some(ready) = start::prepare(host, config, source)? else {
        // Nothing is there of which a schema could be inferred: the next run looks again.
        return Ok(Rest::Done);
    };
    let config = &ready.config.clone();
    forget_old_requests(host, &ready);
    let copy = dead_letter_copy(host, config, &ready)?;
    host.report.tasks(ready.assigned.len());
    host.report.started(config, ready.log.state());
    let share = share(host, config, source.per_trigger(), &ready);
    if let Share::None(why) = share {
        host.report.stands(ready.log.state());
        return Ok(why);
    }
    let limited = matches!(share, Share::Up(_));
    let policy = ready.connector.policy();
    let mut threads = Threads::new(host);
    let Actors {
        tasks,
        changer,
        committer,
        watcher,
    } = actors(
        host,
        config,
        (ready, share),
        threads.ends_with_it.clone(),
        copy.as_ref().map(|copy| copy.left.clone()),
    )
    .map_err(|error| left_or(policy, error))?;
    for task in tasks {
        let name = task.options.index.to_string();
        let task = spawn(host, config, &name, move || task.run())?;
        threads.tasks.push(task);
    }
    threads.changer = Some(spawn(host, config, "rules", move || changer.run())?);
    threads.committer = Some(spawn(host, config, "committer", move || committer.run())?);
    if let Some(copy) = copy {
        threads.copy_ends = Some((copy.stop.clone(), config.limits.shutdown_timeout));
        threads.copy = Some(spawn(host, config, "dead-letters", move || copy.run())?);
    }
    let _compacting = compact::begin(host, config)?;
    let watched = watcher.watch(&threads);
    if watched.is_err() {
        host.stop.ask(config.limits.shutdown_timeout);
    }
    let ended = threads.end(watched);
    let ended = ended.map_err(|error| left_or(policy, error));
    ended.map(|()| match limited {
        true => Rest::Limited,
        false => Rest::Done,
    })
}

/// The same error; if it says that a topic is gone, with what the config wants then.
fn left_or(policy: Policy, error: Error) -> Error {
    match lost(&error) {
        Some(Lost::TopicGone(topic)) if policy.leaves_gone() => left_behind(topic),
        Some(Lost::TopicGone(_)) => error.hint(policy.on_gone),
        _ => error,
    }
}

/// What a run takes.
enum Share {
    /// Nothing now.
    None(Rest),
    /// What there is, so many offsets in a commit of one task.
    Whole(Option<u64>),
    /// Up to here.
    Up(BTreeMap<SplitId, i64>),
}

fn share(host: &Host, config: &PipelineConfig, limits: PerTrigger, ready: &Ready) -> Share {
    if host.only_begins {
        return Share::None(Rest::NotDue);
    }
    let PerTrigger { most, least, delay } = limits;
    let tasks = ready.assigned.len() as u64;
    if matches!(config.trigger, Trigger::Continuous | Trigger::AvailableNow) {
        return Share::Whole(most.map(|most| (most / tasks).max(1)));
    }
    let state = ready.log.state();
    let partitions = ready.topics.iter().flat_map(|topic| &topic.partitions);
    let waiting: Vec<(SplitId, i64, i64)> = partitions
        .filter_map(|p| Some((p.split.clone(), state.splits.get(&p.split)?.to, p.high)))
        .collect();
    let behind = |(_, next, end): &(SplitId, i64, i64)| u64::try_from(end - next).unwrap_or(0);
    let behind: u64 = waiting.iter().map(behind).sum();
    let now = host.clock.elapsed();
    let fresh = host.last_run.at().is_some_and(|last| now < last + delay);
    if fresh && least.is_some_and(|least| behind < least) {
        return Share::None(Rest::TooFew);
    }
    host.last_run.is(now);
    match most.and_then(|most| portion::ends(most, &waiting)) {
        Some(ends) => Share::Up(ends),
        None => Share::Whole(None),
    }
}

fn portion_of(share: &Share, positions: &[Position]) -> Portion {
    match share {
        Share::None(_) => Portion::default(),
        Share::Whole(commit) => Portion::new(*commit, None, positions),
        Share::Up(ends) => {
            let own = |p: &Position| Some((p.split.clone(), *ends.get(&p.split)?));
            let own = positions.iter().filter_map(own).collect();
            Portion::new(None, Some(own), positions)
        }
    }
}

/// One of several topics that a pattern finds was deleted, and a gap is wanted: the others are read on.
fn left_behind(topic: &str) -> Error {
    tracing::warn!(
        topic,
        "the topic was deleted; what was not read of it is lost, and the others are read on"
    );
    let message = format!("topic '{topic}' was deleted, the others are read on");
    Error::new(Kind::Conflict, "source.watch", message)
}

/// A process that took a request for a swap and then ended does not answer it: the requester writes the entry.
fn forget_old_requests(host: &Host, ready: &Ready) {
    let now = UNIX_EPOCH + Duration::from_micros(host.clock.now_micros().unsigned_abs());
    if let Err(error) = Pending::new(ready.store.clone(), ready.log.name()).forget_old(now) {
        tracing::debug!(%error, "old requests for swaps stay");
    }
}

/// Where the config names a topic for dead letters. It must be there before the first record is read.
fn dead_letter_copy(
    host: &Host,
    config: &PipelineConfig,
    ready: &Ready,
) -> Result<Option<DeadLetterCopy>> {
    let topic = retry(host, || {
        let topic =
            connectors::dead_letter_topic(config, &ready.store, ready.log.name(), &host.clock)?;
        let Some(mut topic) = topic else {
            return Ok(None);
        };
        topic.stands()?;
        Ok(Some(topic))
    })?;
    Ok(topic.map(|topic| DeadLetterCopy {
        topic,
        view: ready.log.view().clone(),
        stop: Stop::new(host.clock.clone()),
        clock: host.clock.clone(),
        backoff: host.retry,
        looked: None,
        // Nothing expires before it has looked where its topic stands.
        left: Arc::new(AtomicU64::new(0)),
    }))
}

/// What runs, each in its own thread; the watcher runs in the pipeline's thread.
struct Actors<'a> {
    tasks: Vec<Task>,
    changer: Changer,
    committer: Committer,
    watcher: Watcher<'a>,
}

/// `ends_with_it`: the stop of the thread that changes rules.
fn actors<'a>(
    host: &'a Host,
    config: &PipelineConfig,
    (mut ready, share): (Ready, Share),
    ends_with_it: Stop,
    letters_left: Option<Arc<AtomicU64>>,
) -> Result<Actors<'a>> {
    let columns = ready.columns();
    ready.base.set(ready.log.version());
    let (to_committer, hand_ins) = unbounded();
    let (found, finds) = unbounded();
    let (swap, swaps) = unbounded();
    let (wants, wanted) = unbounded();
    let to = (&to_committer, &wants);
    let (tasks, to_tasks) = tasks(host, config, (&mut ready, &share), to)?;
    let Ready {
        store,
        log,
        connector,
        topics,
        acknowledge,
        receiver,
        base,
        assigned,
        ..
    } = ready;
    let changer = Changer::new(
        host,
        config,
        (assigned.len(), columns),
        (store, &log),
        (swap, wanted),
        ends_with_it,
    );
    let committer = Committer {
        archiver: start::archiver(host, config, &log),
        generation: log.state().generation(),
        log,
        base,
        hand_ins,
        tasks: to_tasks,
        owned: assigned
            .iter()
            .map(|p| p.iter().map(|p| p.split.clone()).collect())
            .collect(),
        found: finds,
        swaps,
        receiver,
        acknowledge,
        report: host.report.clone(),
        clock: host.clock.clone(),
        stop: host.stop.clone(),
        backoff: host.retry,
        asking: Default::default(),
        letters_left,
    };
    let watcher = Watcher {
        host,
        connector,
        topics,
        found,
        refused: None,
    };
    Ok(Actors {
        tasks,
        changer,
        committer,
        watcher,
    })
}

/// One task for each share of the partitions, with the channel to it. Moves the chains into the tasks.
fn tasks(
    host: &Host,
    config: &PipelineConfig,
    (ready, share): (&mut Ready, &Share),
    (to_committer, wanted): (&Sender<ToCommitter>, &Sender<Wanted>),
) -> Result<(Vec<Task>, Vec<Sender<ToTask>>)> {
    let memory = config.limits.memory_budget / ready.assigned.len();
    let limits = ReadLimits {
        batch_records: config.limits.batch_rows,
        batch_bytes: config.limits.batch_bytes,
        memory,
    };
    let gaps = ready.connector.policy().gaps;
    let (mut tasks, mut to_tasks) = (Vec::new(), Vec::new());
    for (index, positions) in ready.assigned.iter().enumerate() {
        let source = retry(host, || ready.connector.open(positions, &limits))?;
        let (to_task, messages) = unbounded();
        to_tasks.push(to_task);
        tasks.push(Task {
            options: TaskOptions {
                index,
                available_now: config.trigger != Trigger::Continuous,
                gaps,
                refuse_none: config.errors.tolerance == Tolerance::None,
                memory: memory / FILES_SHARE,
                backoff: host.retry,
            },
            source,
            chain: next_chain(&mut ready.chains)?,
            sink: Box::new(Guarded::new(ready.sink.open()?)),
            committer: to_committer.clone(),
            messages,
            stop: host.stop.clone(),
            report: host.report.clone(),
            clock: host.clock.clone(),
            portion: portion_of(share, positions),
            hold: Hold::new(wanted.clone(), host.retry),
            measured: Default::default(),
        });
    }
    Ok((tasks, to_tasks))
}

/// Every thread of the pipeline. An early exit (a thread that cannot be started, a panic of the watcher) waits for them
/// too: an ending is reported only when nothing of the pipeline runs any more.
struct Threads<'a> {
    host: &'a Host,
    /// The stop of the thread that changes rules.
    ends_with_it: Stop,
    tasks: Vec<JoinHandle<Result<()>>>,
    changer: Option<JoinHandle<Result<()>>>,
    committer: Option<JoinHandle<Result<Log>>>,
    copy: Option<JoinHandle<Result<()>>>,
    /// The stop of `copy`, and how long it may go on when all others have ended.
    copy_ends: Option<(Stop, Duration)>,
}

impl<'a> Threads<'a> {
    fn new(host: &'a Host) -> Threads<'a> {
        Threads {
            host,
            ends_with_it: host.stop.child(),
            tasks: Vec::new(),
            changer: None,
            committer: None,
            copy: None,
            copy_ends: None,
        }
    }

    fn work_is_over(&self) -> bool {
        let committer = self.committer.as_ref();
        committer.is_none_or(JoinHandle::is_finished) || self.tasks.iter().all(|t| t.is_finished())
    }

    /// Waits for all of them and returns what went wrong.
    fn end(mut self, watched: Result<()>) -> Result<()> {
        cause(watched.err(), self.join())
    }

    fn join(&mut self) -> Vec<Error> {
        let mut errors: Vec<Error> = Vec::new();
        for task in self.tasks.drain(..) {
            errors.extend(joined(task).err());
        }
        if let Some(committer) = self.committer.take() {
            match joined(committer) {
                Ok(log) => self.host.report.stands(log.state()),
                Err(error) => errors.push(error),
            }
        }
        self.ends_with_it.ask(Duration::ZERO);
        if let Some(changer) = self.changer.take() {
            errors.extend(joined(changer).err());
        }
        if let Some((stop, grace)) = self.copy_ends.take() {
            let grace = match self.host.stop.asked() {
                true => grace.min(self.host.stop.left()),
                false => grace,
            };
            stop.ask(grace);
        }
        if let Some(copy) = self.copy.take() {
            errors.extend(joined(copy).err());
        }
        errors
    }
}

impl Drop for Threads<'_> {
    fn drop(&mut self) {
        let any = self.committer.is_some() || self.changer.is_some() || self.copy.is_some();
        if any || !self.tasks.is_empty() {
            self.host.stop.ask(Duration::ZERO);
            for error in self.join() {
                tracing::warn!(%error, "ended with the pipeline");
            }
        }
    }
}

/// Chooses the error of the pipeline. The watcher's error comes first, because it explains those of the tasks; then one
/// that a person has to act on; one that only follows from others ("the committer has ended") comes last. The other
/// errors are added as context.
fn cause(watched: Option<Error>, mut others: Vec<Error>) -> Result<()> {
    others.sort_by_key(|error| match (error.kind(), error.remedy()) {
        (Kind::Stopped, _) => 2,
        (_, Remedy::StopPipeline) => 0,
        _ => 1,
    });
    let mut all = watched.into_iter().chain(others);
    let Some(mut first) = all.next() else {
        return Ok(());
    };
    for other in all.filter(|e| e.kind() != Kind::Stopped) {
        if other.kind() != first.kind() {
            first = first.with(
                "also",
                format!("{}: {}", other.kind().code(), other.message()),
            );
        }
    }
    Err(first)
}

fn next_chain(chains: &mut Vec<TransformChain>) -> Result<TransformChain> {
    chains
        .pop()
        .ok_or_else(|| Error::new(Kind::Bug, "pipeline.start", "fewer chains than tasks"))
}

/// Looks at the source now and then, and at the threads all the time.
struct Watcher<'a> {
    host: &'a Host,
    connector: Box<dyn Connector>,
    topics: Vec<TopicInfo>,
    found: Sender<Vec<Open>>,
    /// Since when the source refuses access.
    refused: Option<Duration>,
}

impl Watcher<'_> {
    /// Returns when a thread has ended, or with the error that must end them all.
    fn watch(mut self, threads: &Threads<'_>) -> Result<()> {
        let clock = self.host.clock.as_ref();
        let every = self.connector.changes_every();
        let mut looked = clock.elapsed();
        loop {
            if threads.work_is_over() {
                return Ok(());
            }
            clock.sleep(WATCH_WAIT);
            let due = every.is_some_and(|every| clock.elapsed() >= looked + every);
            if due && !self.host.stop.asked() {
                self.look()?;
                looked = clock.elapsed();
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        let changes = match self.connector.changes(&self.topics) {
            Ok(changes) => changes,
            // The tasks report this themselves.
            Err(error) if error.remedy() == Remedy::Retry => return Ok(()),
            Err(error) if error.kind() == Kind::ConfigInvalid => {
                let now = self.host.clock.elapsed();
                let since = *self.refused.get_or_insert(now);
                return match now >= since + REFUSED_FOR {
                    true => Err(error),
                    false => Ok(()),
                };
            }
            Err(error) => return Err(error),
        };
        self.refused = None;
        for change in changes {
            match change {
                Change::NewPartitions(partitions) => {
                    let opens: Vec<Open> = partitions.iter().map(start::open_at_low).collect();
                    tracing::info!(partitions = opens.len(), "new partitions found");
                    for topic in &mut self.topics {
                        let new = partitions.iter().filter(|p| p.tp.topic == topic.name);
                        topic.partitions.extend(new.cloned());
                    }
                    drop(self.found.send(opens));
                }
                Change::NewTopics(topics) => {
                    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
                    let message = format!("new topics are read from now on: {}", names.join(", "));
                    return Err(Error::new(Kind::Conflict, "source.watch", message));
                }
                Change::Gone { topic } if self.connector.policy().leaves_gone() => {
                    return Err(left_behind(&topic));
                }
                Change::Recreated { was, now } => {
                    if !self.connector.policy().reads_recreated {
                        let policy = self.connector.policy();
                        return Err(start::recreated(policy, &now.name, &was, &now.id));
                    }
                    return Err(Error::new(
                        Kind::SourceUnavailable,
                        "source.watch",
                        format!("topic '{}' was deleted and created again", now.name),
                    ));
                }
                Change::Gone { topic } => {
                    return Err(Error::new(
                        Kind::SourceLost,
                        "source.watch",
                        format!("topic '{topic}' was deleted"),
                    )
                    .hint(self.connector.policy().on_gone));
                }
            }
        }
        Ok(())
    }
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    let thread = (thread.thread().name().map(str::to_owned), thread.join());
    match thread {
        (_, Ok(result)) => result,
        (name, Err(panic)) => {
            Err(panicked(panic.as_ref()).with("thread", name.unwrap_or_default()))
        }
    }
}

/// Starts a thread. If it fails, by error or panic, the whole pipeline is asked to drain and end.
fn spawn<T: Send + 'static>(
    host: &Host,
    config: &PipelineConfig,
    name: &str,
    body: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    let stop = host.stop.clone();
    let grace = config.limits.shutdown_timeout;
    let pipeline = crate::logging::pipeline();
    std::thread::Builder::new()
        .name(format!("{}-{name}", config.name))
        .spawn(move || {
            crate::logging::works_for(pipeline);
            let guard = AskUnlessWell {
                stop,
                grace,
                well: Cell::new(false),
            };
            let result = body();
            guard.well.set(result.is_ok());
            result
        })
        .map_err(|e| {
            Error::new(
                Kind::LimitReached,
                "pipeline.spawn",
                "no thread can be started",
            )
            .source(e)
        })
}

/// Asks on drop, so that a panic has the same effect.
struct AskUnlessWell {
    stop: Stop,
    grace: Duration,
    well: Cell<bool>,
}

impl Drop for AskUnlessWell {
    fn drop(&mut self) {
        if !self.well.get() {
            self.stop.ask(self.grace);
        }
    }
}
