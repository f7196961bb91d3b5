//! The guard of `errors.max.*` at work: a commit tells it what was refused, and a thread of its own does what it decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::clock::Clock;
use crate::commit::{Committed, State};
use crate::config::PipelineConfig;
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::operations::guard::{Guard, Settled, Verdict};
use crate::pipeline::Shown;
use crate::telemetry::ledger_of;

/// Orders that wait for the thread. A pipeline gives one, and then no other until its rules change; more are lost, and said.
const WAITING: usize = 1024;

/// Something that is to be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub pipeline: String,
    pub what: Verdict,
}

pub type Orders = Sender<Order>;

pub fn orders() -> (Orders, Receiver<Order>) {
    bounded(WAITING)
}

/// What a person should look at, and how often the guard acted.
#[derive(Debug, Default)]
pub struct Alarm {
    told: Mutex<Option<String>>,
    acts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Alarm {
    pub fn told(&self) -> Option<String> {
        lock(&self.told).clone()
    }

    pub fn tell(&self, words: Option<String>) {
        *lock(&self.told) = words;
    }

    /// By what was done, since the process began.
    pub fn acts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.acts).clone()
    }

    pub fn acted(&self, what: &'static str) {
        *lock(&self.acts).entry(what).or_default() += 1;
    }
}

/// One pipeline's guard.
#[derive(Debug)]
pub struct Guarding {
    guard: Mutex<Option<Guard>>,
    orders: Orders,
    clock: Arc<dyn Clock>,
    /// Records with a dead letter, of the commit that is reported next.
    noted: Mutex<u64>,
}

impl Guarding {
    pub fn new(orders: Orders, clock: Arc<dyn Clock>) -> Guarding {
        Guarding {
            guard: Mutex::default(),
            orders,
            clock,
            noted: Mutex::default(),
        }
    }

    /// The window begins anew.
    pub fn started(&self, config: &PipelineConfig, alarm: &Alarm) {
        *lock(&self.guard) = config.errors.max.map(Guard::new);
        alarm.tell(None);
    }

    pub fn shown(&self, shown: &Shown) {
        *lock(&self.noted) = shown.notes.refused_records;
    }

    /// Never waits.
    pub fn committed(&self, pipeline: &str, committed: &Committed, state: &State, alarm: &Alarm) {
        let mut guard = lock(&self.guard);
        let (Some(guard), Some(rules)) = (guard.as_mut(), &committed.entry.rules) else {
            return;
        };
        let records = ledger_of(committed).records;
        let noted = std::mem::take(&mut *lock(&self.noted));
        let settled = Settled {
            generation: rules.generation,
            records: records.read,
            // What an HTTP API refused is in the ledger only.
            refused: noted.max(records.refused).max(records.refused_in_part),
            at: self.clock.elapsed(),
            now: self.clock.now_micros(),
        };
        let Some(verdict) = guard.committed(&settled, state) else {
            return;
        };
        let version = committed.version;
        match &verdict {
            Verdict::Over => {
                alarm.tell(None);
                tracing::info!(
                    pipeline,
                    version,
                    "no more records are refused than errors.max allows"
                );
            }
            Verdict::Warn(why) => {
                alarm.tell(Some(why.clone()));
                alarm.acted("warn");
                tracing::warn!(
                    pipeline,
                    version,
                    action = "warn",
                    "too many records are refused: {why}"
                );
            }
            Verdict::Pause(why) => {
                alarm.tell(Some(format!("{why}; it is being paused")));
                tracing::error!(
                    pipeline,
                    version,
                    action = "pause",
                    "too many records are refused: {why}"
                );
            }
            Verdict::RollBack(why) => {
                alarm.tell(Some(format!("{why}; going back to the rules before")));
                tracing::error!(
                    pipeline,
                    version,
                    action = "rollback",
                    "too many records are refused: {why}"
                );
            }
        }
        if let Verdict::Pause(_) | Verdict::RollBack(_) = verdict {
            let order = Order {
                pipeline: pipeline.to_owned(),
                what: verdict,
            };
            if let Err(TrySendError::Full(_)) = self.orders.try_send(order) {
                tracing::error!(
                    pipeline,
                    "the guard has too much to do: nothing is done about it"
                );
            }
        }
    }
}

/// Whoever can pause a pipeline and change its rules.
pub trait Acts {
    fn pause(&self, pipeline: &str, why: &str) -> Result<()>;
    /// The generation that it went back to, and the version of the swap.
    fn roll_back(&self, pipeline: &str, why: &str) -> Result<u64>;
    fn alarm(&self, pipeline: &str, tell: &dyn Fn(&Alarm));
}

/// Does what was decided; where rules cannot be taken back, the pipeline is paused.
pub fn carry_out(order: &Order, by: &impl Acts) {
    let pipeline = order.pipeline.as_str();
    match &order.what {
        Verdict::Over | Verdict::Warn(_) => {}
        Verdict::Pause(why) => pause(pipeline, why, by),
        Verdict::RollBack(why) => match by.roll_back(pipeline, why) {
            Ok(version) => {
                let words =
                    format!("{why}; the rules before are in force again after version {version}");
                by.alarm(pipeline, &|alarm| {
                    alarm.acted("rollback");
                    alarm.tell(Some(words.clone()));
                });
                tracing::warn!(pipeline, version, "{words}");
            }
            Err(error) => {
                let why = format!(
                    "{why}; the rules before cannot be put in force: {}",
                    error.one_line()
                );
                pause(pipeline, &why, by);
            }
        },
    }
}

fn pause(pipeline: &str, why: &str, by: &impl Acts) {
    let words = match by.pause(pipeline, why) {
        Ok(()) => format!("{why}; paused"),
        Err(error) => {
            tracing::error!(pipeline, %error, "it cannot be paused");
            format!("{why}; it cannot be paused: {}", error.one_line())
        }
    };
    by.alarm(pipeline, &|alarm| {
        alarm.acted("pause");
        alarm.tell(Some(words.clone()));
    });
}

/// A thread that does what is ordered, as long as `acts` gives somebody who can.
pub fn begin<A: Acts>(
    orders: Receiver<Order>,
    acts: impl Fn() -> Option<Arc<A>> + Send + 'static,
) -> Result<()> {
    let body = move || {
        while let Ok(order) = orders.recv() {
            let Some(by) = acts() else {
                return;
            };
            carry_out(&order, by.as_ref());
        }
    };
    let thread = std::thread::Builder::new().name("guard".to_owned());
    let begun = thread.spawn(body).map(drop);
    begun.map_err(|e| Error::new(Kind::LimitReached, "guard", "no thread can be started").source(e))
}
