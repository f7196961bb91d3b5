//! `weir run --metrics` and `--ui`: what is shown of pipelines that no daemon keeps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::{Committed, State};
use crate::config::PipelineConfig;
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::daemon::guard::{self, Act, Acts, Alarm, Guarding, Orders};
use crate::daemon::{Asker, FanOut, Known, Live, Refused, Standing, Target, Views, Watched};
use crate::error::{Error, Kind, Result};
use crate::instant;
use crate::lock::lock;
use crate::operations::guard::{in_force, roll_back};
use crate::operations::status;
use crate::pipeline::{Ending, Report, Rest, Stages, Stop};
use crate::plugin::{Places, Plugins};
use crate::telemetry::metrics::{self, Shown};
use crate::telemetry::recent::Query;
use crate::telemetry::{self, Meters, Tally};
use crate::text::printable_lines;

/// How long the end of a process waits for the guard: a rollback may have to build rules.
const SETTLES: Duration = Duration::from_secs(30);
/// The same where `shutdown.timeout` is over: a pause takes less.
const SETTLES_SOON: Duration = Duration::from_secs(1);

/// The pipelines of this process.
#[derive(Debug)]
pub struct Board {
    meters: Arc<Meters>,
    clock: Arc<dyn Clock>,
    of: BTreeMap<String, One>,
    views: Views,
    orders: Orders,
    stop: Stop,
    /// The guard of `errors.max` paused a pipeline: the process ends, and a person has to act.
    paused: AtomicBool,
}

#[derive(Debug)]
struct One {
    class: String,
    config: Arc<PipelineConfig>,
    seen: Arc<Seen>,
    live: Arc<Live>,
}

impl Board {
    pub fn new(
        pipelines: &[PipelineConfig],
        shown: Arc<dyn telemetry::Report>,
        clock: &Arc<dyn Clock>,
        stop: &Stop,
    ) -> Result<Arc<Board>> {
        let (orders, given) = guard::orders();
        let one = |config: &PipelineConfig| {
            let class = config.raw.get(CONNECTOR_CLASS);
            let one = One {
                class: class
                    .map_or(OUR_CLASS, |entry| entry.value.typed())
                    .to_owned(),
                seen: Arc::new(Seen {
                    clock: Arc::clone(clock),
                    now: Mutex::default(),
                }),
                live: Arc::default(),
                config: Arc::new(config.clone()),
            };
            (config.name.clone(), one)
        };
        let board = Arc::new(Board {
            meters: Meters::new(shown, Arc::clone(clock)),
            clock: Arc::clone(clock),
            of: pipelines.iter().map(one).collect(),
            views: Views::default(),
            orders,
            stop: stop.clone(),
            paused: AtomicBool::new(false),
        });
        if pipelines.iter().any(|config| config.errors.max.is_some()) {
            let weak = Arc::downgrade(&board);
            guard::begin(given, move || weak.upgrade())?;
        }
        Ok(board)
    }

    /// What the guard decided about the last commits is done before the process ends, so that its exit code knows of it.
    pub fn settle(&self) {
        let guarded = self.of.values().any(|one| one.config.errors.max.is_some());
        let most = match self.stop.asked() {
            true => self.stop.left().clamp(SETTLES_SOON, SETTLES),
            false => SETTLES,
        };
        if guarded && !guard::settle(&self.orders, most) {
            tracing::error!("the guard is not done with what it decided: it is given up");
        }
    }

    pub fn has_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Who hears of this pipeline.
    pub fn report(&self, config: &PipelineConfig) -> Arc<dyn Report> {
        let to = Arc::clone(&self.meters);
        let tally = Tally::new(&config.name, to, Arc::clone(&self.clock));
        match self.of.get(&config.name) {
            Some(one) => Arc::new(FanOut {
                first: Arc::<Seen>::clone(&one.seen),
                tally,
                live: Arc::clone(&one.live),
                guarding: Guarding::new(self.orders.clone(), Arc::clone(&self.clock)),
            }),
            None => Arc::new(tally),
        }
    }

    /// The text of a scrape, as of now.
    pub fn text(&self) -> String {
        let shown = self.of.iter().map(|(name, one)| {
            let now = lock(&one.seen.now).clone();
            let mut meter = self.meters.of(name);
            meter.lag = one.live.lag().or(meter.lag);
            let log = one.live.log();
            let undeleted = log.as_ref().and_then(|view| view.undeleted());
            let log = log.and_then(|view| view.read(metrics::left_by_age));
            let (left, leaving) = log.unwrap_or_default();
            let state = now.standing.word().to_lowercase();
            Shown {
                name: name.clone(),
                class: one.class.clone(),
                kind: "sink",
                tasks: vec![state.clone(); now.tasks],
                state,
                target: Standing::Running.word().to_lowercase(),
                restarts: 0,
                failures: u64::from(now.standing == Standing::Failed),
                next_run: now.next_run,
                meter,
                left,
                leaving,
                alarm: undeleted.is_some() || one.live.alarm.told().is_some(),
                acts: one.live.alarm.acts(),
                partitions: one.live.partition_lags(),
                undeleted: undeleted.map_or(0, |(files, _)| files),
            }
        });
        metrics::text(&shown.collect::<Vec<_>>(), self.clock.elapsed())
    }
}

impl Board {
    fn one(&self, name: &str) -> Result<&One, Refused> {
        let missing = || Refused::NotFound(format!("this run has no pipeline {name}"));
        self.of.get(name).ok_or_else(missing)
    }
}

impl Board {
    fn guarded(&self, name: &str) -> Result<&One> {
        let none = || Error::new(Kind::Bug, "guard", "it is no pipeline of this process");
        self.of.get(name).ok_or_else(none)
    }
}

impl Watched for Board {
    fn pipelines(&self) -> Vec<String> {
        self.of.keys().cloned().collect()
    }

    fn standing(&self, name: &str) -> Result<status::Pipeline, Refused> {
        let one = self.one(name)?;
        let now = lock(&one.seen.now).clone();
        let state = now.standing.word().to_owned();
        let task = |id| status::Task {
            id,
            state: state.clone(),
            trace: now.trace.clone(),
        };
        let log = one.live.log();
        Ok(status::Pipeline {
            name: name.to_owned(),
            r#type: "sink".to_owned(),
            target: Target::Running.word().to_owned(),
            tasks: (0..now.tasks).map(task).collect(),
            next_run: now.next_run.map(|at| instant::utc(at, 0)),
            trace: now.trace.clone(),
            alarm: (log.and_then(|log| log.alarmed())).or_else(|| one.live.alarm.told()),
            log: None,
            live: one.live.shown(),
            state,
        })
    }

    fn config(&self, name: &str) -> Result<Arc<PipelineConfig>, Refused> {
        Ok(Arc::clone(&self.one(name)?.config))
    }

    fn log_of(&self, name: &str, asker: &Asker) -> Result<Option<Known>, Refused> {
        let one = self.one(name)?;
        let (home, running) = (&one.config.home, one.live.log());
        self.views.known(name, home, running, (asker, &self.clock))
    }

    fn query(&self, name: &str, limit: usize) -> Result<Query, Refused> {
        let live = &self.one(name)?.live;
        Ok(live.behind(self.meters.query(name, limit)))
    }

    fn metrics(&self) -> String {
        self.text()
    }
}

impl Acts for Board {
    /// Without a daemon there is nobody to bring it back: the process drains and ends.
    fn pause(&self, pipeline: &str, generation: u64, _: &str) -> Result<Act> {
        let one = self.guarded(pipeline)?;
        let now = in_force(&one.config, &self.clock);
        if guard::is_void(pipeline, generation, now) {
            return Ok(Act::OtherRules);
        }
        self.paused.store(true, Ordering::SeqCst);
        let why = format!("errors.max paused {pipeline}");
        self.stop
            .ask_because(one.config.limits.shutdown_timeout, why);
        Ok(Act::Done(0))
    }

    fn roll_back(&self, pipeline: &str, generation: u64, why: &str) -> Result<Act> {
        let config = self.guarded(pipeline)?.config.as_ref();
        let plugins = Plugins::open(Places::of(config))?;
        let version = roll_back((config, plugins), &self.clock, None, (generation, why))?;
        Ok(version.map_or(Act::OtherRules, Act::Done))
    }

    fn alarm(&self, pipeline: &str, tell: &dyn Fn(&Alarm)) {
        if let Some(one) = self.of.get(pipeline) {
            tell(&one.live.alarm);
        }
    }
}

#[derive(Clone, Debug)]
struct Now {
    standing: Standing,
    tasks: usize,
    /// Microseconds since 1970 UTC.
    next_run: Option<i64>,
    trace: Option<String>,
}

impl Default for Now {
    fn default() -> Now {
        Now {
            standing: Standing::Unassigned,
            tasks: 0,
            next_run: None,
            trace: None,
        }
    }
}

#[derive(Debug)]
struct Seen {
    clock: Arc<dyn Clock>,
    now: Mutex<Now>,
}

impl Report for Seen {
    fn tasks(&self, count: usize) {
        lock(&self.now).tasks = count;
    }

    fn started(&self, _: &PipelineConfig, _: &State) {
        let mut now = lock(&self.now);
        now.standing = Standing::Running;
        now.tasks = now.tasks.max(1);
        now.next_run = None;
    }

    fn resting(&self, why: Rest, next: Duration) {
        let next = i64::try_from(next.as_micros()).unwrap_or(i64::MAX);
        let at = self.clock.now_micros().saturating_add(next);
        lock(&self.now).next_run = (why != Rest::NothingYet).then_some(at);
    }

    fn looks(&self) {
        lock(&self.now).next_run = None;
    }

    fn ended(&self, ending: &Ending<'_>) {
        let mut now = lock(&self.now);
        now.next_run = None;
        now.trace = match ending {
            Ending::Failed(error) => Some(printable_lines(&error.trace()).into_owned()),
            Ending::Well { .. } | Ending::NotBegun { .. } => None,
        };
        now.standing = match ending {
            Ending::Failed(_) => Standing::Failed,
            Ending::Well { .. } | Ending::NotBegun { .. } => Standing::Stopped,
        };
    }

    // The tally hears these.
    fn committed(&self, _: &Committed, _: &State, _: Duration) {}
    fn swapped(&self, _: &Committed) {}
    fn lag(&self, _: usize, _: Option<u64>) {}
    fn stages(&self, _: usize, _: Stages) {}
    fn waiting(&self, _: &Error) {}
    fn resumed(&self) {}
}
