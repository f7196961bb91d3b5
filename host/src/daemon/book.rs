//! The daemon's pipelines: what the journal says of each, and the unit that runs it.
//!
//! A change is checked, then journalled, then done. Changes of one pipeline come one after another; those of different
//! pipelines wait for each other only while the journal is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::disk_space::Room;
use super::guard::{self, Act, Acts, Alarm, Guarding, Orders};
use super::jobs::{self, JobRunner, Pool};
use super::journal::{Change, Journal, Recorded};
use super::listeners::Live;
use super::reach::{self, Origin};
use super::unit::{Runner, Unit, UnitContext, UnitSnapshot, UnitTarget};
use super::views::{Asker, Known, Views};
use super::{Actor, Health, Info, Job, Readers, Refused, Standing, Status, Target};
use crate::clock::Clock;
use crate::commit::View;
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::reach::Bounds;
use crate::config::worker::WorkerConfig;
use crate::config::{self, PipelineConfig, Problem};
use crate::connect::ConnectorKind;
use crate::connectors::CATALOG;
use crate::error::{self, Error, Result};
use crate::lock::lock;
use crate::logging;
use crate::operations::PAGE_BYTES;
use crate::operations::guard::{ACTOR, in_force, roll_back};
use crate::pipeline::Stop;
use crate::plugin::{Places, Plugins};
use crate::telemetry::Meters;
use crate::telemetry::metrics::{self, Shown};
use crate::telemetry::recent::Query;
use crate::telemetry::{self, Tally};

/// Name → file, config.
type Files = BTreeMap<String, (String, BTreeMap<String, String>)>;

/// Extra wait after the grace of a shutdown, until threads that gave up have ended.
const LAST_WAIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Below `data.dir`: positions of file connectors.
pub(super) const FILES: &str = "files";
/// Logs of connectors that read files.
pub(super) const HOMES: &str = "lines";

/// Every call blocks for a few seconds at most. Pipelines end when [`Supervisor::shut_down`] is called.
#[derive(Debug)]
pub struct Supervisor {
    pub(super) worker: WorkerConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meters: Arc<Meters>,
    pub(super) pool: Arc<Pool>,
    /// What configs may use of this machine.
    pub(super) bounds: Arc<Bounds>,
    gear: UnitContext,
    address: Mutex<String>,
    started: AtomicBool,
    views: Views,
    pub(super) book: Mutex<Registry>,
    room: Room,
    orders: Orders,
}

/// A page of a pipeline's history.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Changes {
    /// The oldest first.
    pub changes: Vec<Change>,
    /// Older ones were left out.
    pub more: bool,
    /// The `skip` that gives the page of those.
    pub next: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Registry {
    pub journal: Journal,
    pub entries: BTreeMap<String, Arc<Entry>>,
    /// Deleted, and not yet drained.
    pub leaving: Vec<Arc<Entry>>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Held while somebody changes the pipeline.
    pub changes: Mutex<()>,
    pub record: Mutex<Record>,
    pub unit: Unit,
    pub live: Arc<Live>,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub config: BTreeMap<String, String>,
    /// Where the config came from.
    pub origin: Origin,
    pub target: Target,
    /// The job, or the problems of a config that was good when it was recorded.
    pub job: Result<Arc<Job>, Vec<Problem>>,
    pub deleted: bool,
}

impl Entry {
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Sets the config of a change by REST.
    pub fn is_now(&self, config: &BTreeMap<String, String>, job: &Arc<Job>) -> Record {
        let mut record = lock(&self.record);
        record.config.clone_from(config);
        record.origin = Origin::Rest;
        record.job = Ok(job.clone());
        record.clone()
    }

    pub fn wanted(record: &Record) -> UnitTarget {
        let told = |problems: &Vec<Problem>| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            lines.join("\n")
        };
        UnitTarget {
            target: record.target,
            job: record.job.as_ref().map(Arc::clone).map_err(told),
        }
    }
}

impl Supervisor {
    /// Takes the directory and starts the pipelines that should run. An error says who holds the directory, or what is
    /// wrong in it.
    pub fn open(
        worker: &WorkerConfig,
        clock: Arc<dyn Clock>,
        shown: Arc<dyn telemetry::Report>,
    ) -> Result<Arc<Supervisor>> {
        let pool = Arc::new(Pool::default());
        let runner = Arc::new(JobRunner {
            clock: clock.clone(),
            pool: pool.clone(),
            state_dir: worker.data_dir.join(FILES),
        });
        Supervisor::open_with(worker, clock, shown, pool, runner)
    }

    pub(super) fn open_with(
        worker: &WorkerConfig,
        clock: Arc<dyn Clock>,
        shown: Arc<dyn telemetry::Report>,
        pool: Arc<Pool>,
        runner: Arc<dyn Runner>,
    ) -> Result<Arc<Supervisor>> {
        let address = advertised(worker, None);
        let (journal, stands) = Journal::open(&worker.data_dir, &address)?;
        let (orders, given) = guard::orders();
        let supervisor = Supervisor {
            worker: worker.clone(),
            gear: UnitContext {
                stop: Stop::new(clock.clone()),
                clock: clock.clone(),
                restart: worker.restart,
                runner,
            },
            meters: Meters::new(shown, clock.clone()),
            clock,
            pool,
            bounds: reach::bounds(worker),
            address: Mutex::new(address),
            started: AtomicBool::new(false),
            views: Views::default(),
            room: Room::default(),
            orders,
            book: Mutex::new(Registry {
                journal,
                entries: BTreeMap::new(),
                leaving: Vec::new(),
            }),
        };
        let files = supervisor.files()?;
        for (name, mut recorded) in stands {
            // A journal of an earlier version does not have the origin.
            if files
                .get(&name)
                .is_some_and(|(_, config)| *config == recorded.config)
            {
                recorded.origin = Origin::Operator;
            }
            let entry = supervisor.entry(&name, &recorded)?;
            lock(&supervisor.book).entries.insert(name, entry);
        }
        // A pipeline that somebody deleted must not begin again because its file is still there.
        let named: BTreeSet<String> = files.keys().cloned().collect();
        lock(&supervisor.book).journal.settle(named);
        supervisor.first_time(files)?;
        supervisor.started.store(true, Ordering::SeqCst);
        let supervisor = Arc::new(supervisor);
        let weak = Arc::downgrade(&supervisor);
        guard::begin(given, move || weak.upgrade())?;
        Ok(supervisor)
    }

    /// `pipelines`: name → file and config.
    fn files(&self) -> Result<Files> {
        // As typed: classes of Kafka Connect are translated later, as with a config over HTTP.
        let overlay = config::Overlay::default();
        let (raws, problems) = config::load_pipelines(&self.worker.pipelines, &overlay, &CATALOG);
        if problems.iter().any(Problem::is_error) {
            return Err(config::refused(&problems));
        }
        let of = |raw: &config::Raw| {
            let config = raw.canonical();
            let name = config.get("name").cloned().unwrap_or_default();
            (name, (raw.file.to_string(), config))
        };
        Ok(raws.iter().map(|(raw, _)| of(raw)).collect())
    }

    /// Those whose names the journal has never known.
    fn first_time(&self, files: Files) -> Result<()> {
        let by = Actor(crate::commit::actor());
        for (name, (file, config)) in files {
            if lock(&self.book).journal.knows(&name) {
                continue;
            }
            let who = (Origin::Operator, Readers::Kept);
            let created = self.create_as(&name, config, Target::Running, who, &by);
            if let Err(refused) = created {
                return Err(refused.into_error().with("file", file));
            }
        }
        Ok(())
    }

    pub(super) fn entry(&self, name: &str, recorded: &Recorded) -> Result<Arc<Entry>> {
        let record = Record {
            config: recorded.config.clone(),
            origin: recorded.origin,
            target: recorded.target,
            job: jobs::job(
                &self.worker,
                name,
                &recorded.config,
                &recorded.origin.reach(&self.bounds),
            )
            .map(Arc::new),
            deleted: false,
        };
        let live: Arc<Live> = Arc::default();
        if let Some(why) = &recorded.why {
            live.alarm.tell(Some(format!("{why}; paused")));
        }
        let orders = self.orders.clone();
        let (shown, clock) = (self.meters.clone(), self.clock.clone());
        let (owned, wanted) = (name.to_owned(), Entry::wanted(&record));
        let heard_live = live.clone();
        let report = move |heard| -> Arc<dyn crate::pipeline::Report> {
            Arc::new(super::listeners::FanOut {
                first: heard,
                tally: Tally::new(&owned, shown.clone(), clock.clone()),
                live: heard_live.clone(),
                guarding: Guarding::new(orders.clone(), clock.clone()),
            })
        };
        Ok(Arc::new(Entry {
            name: name.to_owned(),
            changes: Mutex::new(()),
            record: Mutex::new(record),
            unit: Unit::start(name, self.gear.clone(), wanted, report)?,
            live,
        }))
    }

    // ------------------------------------------------------------- looking

    pub fn worker(&self) -> &WorkerConfig {
        &self.worker
    }

    /// `host:port` as others reach it.
    pub fn worker_id(&self) -> String {
        lock(&self.address).clone()
    }

    /// The listener's real address, if the config left the port open.
    pub fn listens_on(&self, address: SocketAddr) -> Result<()> {
        let address = advertised(&self.worker, Some(address));
        lock(&self.address).clone_from(&address);
        lock(&self.book).journal.say_who(&address)
    }

    pub fn names(&self) -> Vec<String> {
        lock(&self.book).entries.keys().cloned().collect()
    }

    pub(super) fn find(&self, name: &str) -> Result<Arc<Entry>, Refused> {
        let found = lock(&self.book).entries.get(name).cloned();
        found.ok_or_else(|| Refused::NotFound(format!("Connector {name} not found")))
    }

    pub fn info(&self, name: &str) -> Result<Info, Refused> {
        let entry = self.find(name)?;
        Ok(info(&entry.name, &entry.record(), &entry.unit.seen()))
    }

    pub fn status(&self, name: &str) -> Result<Status, Refused> {
        let entry = self.find(name)?;
        let status = status(&entry.name, &entry.record(), &entry.unit.seen());
        let alarm = entry.live.log().and_then(|log| alarm_of(&log));
        let alarm = alarm.or_else(|| entry.live.alarm.told());
        Ok(Status { alarm, ..status })
    }

    pub fn topics(&self, name: &str) -> Vec<String> {
        let topics = self
            .find(name)
            .map(|e| lock(&e.live.topics).iter().cloned().collect());
        topics.unwrap_or_default()
    }

    pub fn reset_topics(&self, name: &str) {
        if let Ok(entry) = self.find(name) {
            lock(&entry.live.topics).clear();
        }
    }

    /// Up to `most` changes, or fewer if they exceed [`PAGE_BYTES`]: the newest ones after `skip`. Also for a deleted
    /// pipeline, until it is forgotten.
    pub fn history(&self, name: &str, skip: usize, most: usize) -> Result<Changes, Refused> {
        let page = lock(&self.book)
            .journal
            .page(name, skip, most, PAGE_BYTES as u64);
        let page = page.ok_or_else(|| Refused::NotFound(format!("Connector {name} not found")))?;
        let changes = page.changes().map_err(Refused::Failed)?;
        Ok(Changes {
            changes,
            more: page.next.is_some(),
            next: page.next,
        })
    }

    /// What runs under this name.
    pub fn pipeline(&self, name: &str) -> Result<Arc<PipelineConfig>, Refused> {
        let job = self.find(name)?.record().job.map_err(Refused::Invalid)?;
        reach::still_within(&job).map_err(Refused::Failed)?;
        let config = jobs::pipeline_of(&job).cloned().map(Arc::new);
        config.ok_or_else(|| Refused::Bad(format!("{name} is no pipeline but a file connector")))
    }

    /// The commit log of a pipeline, for queries. `None`: it has not begun yet.
    pub fn log_of(&self, name: &str, asker: &Asker) -> Result<Option<Known>, Refused> {
        let config = self.pipeline(name)?;
        let running = self.find(name)?.live.log();
        self.views
            .known(&config.name, &config.home, running, (asker, &self.clock))
    }

    /// Number of log entries that were read for such queries since the daemon began.
    pub fn log_entries_read(&self) -> u64 {
        self.views.entries_read()
    }

    /// The worker's own plugin places.
    pub fn plugins(&self) -> Result<Plugins> {
        self.pool.at(Places {
            path: self.worker.plugin_path.clone(),
            store: self.worker.plugin_store.clone(),
            cache: self.worker.plugin_cache.clone(),
        })
    }

    /// The places of one pipeline's config.
    pub fn plugins_of(&self, config: &PipelineConfig) -> Result<Plugins> {
        self.pool.of(config)
    }

    pub fn health(&self) -> Health {
        if !self.started.load(Ordering::SeqCst) {
            return Health::Starting;
        }
        if let Some(why) = lock(&self.book).journal.broken() {
            return Health::Unhealthy(why.to_owned());
        }
        if let Some(why) = self.room.wanting(&self.worker.data_dir, &*self.clock) {
            return Health::Unhealthy(why);
        }
        let entries: Vec<Arc<Entry>> = lock(&self.book).entries.values().cloned().collect();
        let alarms = entries
            .iter()
            .filter_map(|entry| entry.live.log()?.alarmed());
        match alarms.into_iter().next() {
            Some(why) => Health::Unhealthy(why),
            None => Health::Healthy,
        }
    }

    fn is_void(&self, pipeline: &str, generation: u64) -> bool {
        let config = self.pipeline(pipeline).map_err(Refused::into_error);
        let in_force = config.and_then(|config| in_force(&config, &self.clock));
        guard::is_void(pipeline, generation, in_force)
    }

    /// What a pipeline does and did since the process began, with its newest commits.
    pub fn query(&self, name: &str, limit: usize) -> Result<Query, Refused> {
        let entry = self.find(name)?;
        let query = self.meters.query(&entry.name, limit);
        let query = entry.live.behind(query);
        let seen = entry.unit.seen();
        // What cannot begin has told nobody but the unit.
        Ok(match (seen.standing, &query.exception, seen.trace) {
            (Standing::Failed, None, Some(trace)) => query.failed(trace),
            _ => query,
        })
    }

    /// Prometheus' text, as of now.
    pub fn metrics(&self) -> String {
        let entries: Vec<Arc<Entry>> = lock(&self.book).entries.values().cloned().collect();
        let shown = entries.iter().map(|entry| {
            let (record, seen) = (entry.record(), entry.unit.seen());
            let class = record.config.get(CONNECTOR_CLASS);
            let mut meter = self.meters.of(&entry.name);
            meter.lag = entry.live.lag().or(meter.lag);
            let state = |standing: Standing| standing.word().to_lowercase();
            let log = entry.live.log();
            let log = log.and_then(|view| view.read(metrics::left_by_age));
            let (left, leaving) = log.unwrap_or_default();
            let undeleted = entry.live.log().and_then(|view| view.undeleted());
            let alarm = entry.live.log().and_then(|view| alarm_of(&view));
            Shown {
                name: entry.name.clone(),
                class: class.map_or(OUR_CLASS, String::as_str).to_owned(),
                kind: kind(&record).word(),
                state: state(seen.standing),
                target: record.target.word().to_lowercase(),
                tasks: seen
                    .task_states()
                    .iter()
                    .map(|t| state(t.standing))
                    .collect(),
                restarts: seen.restarts,
                failures: seen.failures,
                next_run: seen.next_run,
                meter,
                left,
                leaving,
                alarm: alarm.is_some() || entry.live.alarm.told().is_some(),
                acts: entry.live.alarm.acts(),
                partitions: entry.live.partition_lags(),
                undeleted: undeleted.map_or(0, |(files, _)| files),
            }
        });
        metrics::text(&shown.collect::<Vec<_>>(), self.clock.elapsed())
    }

    pub fn set_level(&self, logger: &str, level: &str) -> Result<Vec<String>, Refused> {
        logging::set_level(logger, level, self.clock.now_micros() / 1000).map_err(Refused::NotFound)
    }

    /// Loggers with a level of their own, and when it was set, milliseconds since 1970 UTC.
    pub fn levels(&self) -> BTreeMap<String, (String, Option<i64>)> {
        logging::levels()
    }

    /// All problems of a config by itself, without regard to other pipelines. Changes nothing.
    pub fn validate(&self, config: &BTreeMap<String, String>) -> Vec<Problem> {
        let name = config.get("name").map_or("", String::as_str);
        // An unchanged config of the operator keeps its own reach.
        let record = self.find(name).ok().map(|entry| entry.record());
        let same = record.filter(|record| record.config == *config);
        let origin = same.map_or(Origin::Rest, |record| record.origin);
        match self.checked_alone(name, config, origin) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        }
    }

    // ----------------------------------------------------------------- end

    /// Drains all pipelines. False: the time passed before all had ended.
    pub fn shut_down(&self, grace: Duration) -> bool {
        self.gear.stop.ask(grace);
        let entries: Vec<Arc<Entry>> = {
            let book = lock(&self.book);
            let all = book.entries.values().chain(&book.leaving);
            all.cloned().collect()
        };
        for entry in &entries {
            entry.unit.quit(grace);
        }
        let clock = &self.gear.clock;
        let all = || entries.iter().all(|entry| entry.unit.has_ended());
        let late = || self.gear.stop.overdue();
        while !all() && !late() {
            clock.sleep(LOOK_EVERY);
        }
        let in_time = all() && !late();
        let until = clock.elapsed() + LAST_WAIT;
        while !all() && clock.elapsed() < until {
            clock.sleep(LOOK_EVERY);
        }
        in_time
    }
}

impl Acts for Supervisor {
    fn pause(&self, pipeline: &str, generation: u64, why: &str) -> Result<Act> {
        let by = Actor(ACTOR.to_owned());
        self.pause_unless(pipeline, why, &by, &|| self.is_void(pipeline, generation))
            .map_err(Refused::into_error)
    }

    fn roll_back(&self, pipeline: &str, generation: u64, why: &str) -> Result<Act> {
        let entry = self.find(pipeline).map_err(Refused::into_error)?;
        let target = entry.record().target;
        if target != Target::Running {
            return Ok(Act::At(target));
        }
        let config = self.pipeline(pipeline).map_err(Refused::into_error)?;
        let running = self.rule_changes(&config.name);
        let plugins = self.plugins_of(&config)?;
        let order = (generation, why);
        let version = roll_back((config.as_ref(), plugins), &self.clock, running, order)?;
        Ok(version.map_or(Act::OtherRules, Act::Done))
    }

    fn alarm(&self, pipeline: &str, tell: &dyn Fn(&Alarm)) {
        if let Ok(entry) = self.find(pipeline) {
            tell(&entry.live.alarm);
        }
    }
}

fn advertised(worker: &WorkerConfig, got: Option<SocketAddr>) -> String {
    let first = worker.rest.listen.first();
    match (&worker.rest.advertised, first, got) {
        (Some(advertised), _, _) => advertised.clone(),
        (None, Some(listen), Some(got)) if !listen.host.is_empty() => {
            format!("{}:{}", listen.host, got.port())
        }
        (None, _, Some(got)) => got.to_string(),
        (None, Some(listen), None) => listen.to_string(),
        (None, None, None) => String::new(),
    }
}

fn kind(record: &Record) -> ConnectorKind {
    match &record.job {
        Ok(job) => job.kind(),
        Err(_) => ConnectorKind::Unknown,
    }
}

pub(super) fn info(name: &str, record: &Record, seen: &UnitSnapshot) -> Info {
    Info {
        name: name.to_owned(),
        kind: kind(record),
        config: record.config.clone(),
        target: record.target,
        tasks: seen.tasks,
    }
}

pub(super) fn status(name: &str, record: &Record, seen: &UnitSnapshot) -> Status {
    Status {
        name: name.to_owned(),
        kind: kind(record),
        standing: seen.standing,
        trace: seen.trace.clone(),
        tasks: seen.task_states(),
        next_run: seen.next_run,
        alarm: None,
    }
}

/// What the log of a pipeline that goes on would have a person look at.
fn alarm_of(log: &View) -> Option<String> {
    let undeleted = |(files, why): (u64, String)| {
        format!(
            "{files} files that expired cannot be deleted; until they are, the log does not get shorter: {why}"
        )
    };
    log.alarmed().or_else(|| log.undeleted().map(undeleted))
}

impl Refused {
    /// For callers that have no request to answer.
    pub fn into_error(self) -> Error {
        let new = |message: String| Error::new(error::Kind::ConfigInvalid, "daemon", message);
        match self {
            Refused::Failed(error) => error,
            Refused::Invalid(problems) => config::refused(&problems),
            Refused::NotFound(m)
            | Refused::Exists(m)
            | Refused::Bad(m)
            | Refused::Conflict(m)
            | Refused::Busy(m) => new(m),
        }
    }
}
