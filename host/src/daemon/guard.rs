//! The guard of `errors.max.*` at work: a commit tells it what was refused, and a thread of its own does what it decides.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::Target;
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
    /// The rules that it is about. Others may be in force when it is carried out: then it is void.
    pub generation: u64,
    pub what: Verdict,
}

/// What the guard's thread gets.
#[derive(Debug)]
pub enum Given {
    Order(Order),
    /// Answered when all that came before it is done.
    Question(Sender<()>),
}

pub type Orders = Sender<Given>;

pub fn orders() -> (Orders, Receiver<Given>) {
    bounded(WAITING)
}

/// What a person should look at, and how often the guard acted.
#[derive(Debug, Default)]
pub struct Alarm {
    told: Mutex<Option<String>>,
    acts: Mutex<BTreeMap<&'static str, u64>>,
    /// What was ordered could not be done.
    undone: AtomicBool,
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
            refused: noted.max(records.refused_at_least()).min(records.read),
            at: self.clock.elapsed(),
            now: self.clock.now_micros(),
        };
        if alarm.undone.swap(false, Ordering::SeqCst) {
            guard.again();
        }
        let Some(verdict) = guard.committed(&settled, state) else {
            return;
        };
        tell(pipeline, committed.version, &verdict, alarm);
        if let Verdict::Pause(_) | Verdict::RollBack(_) = verdict {
            let order = Order {
                pipeline: pipeline.to_owned(),
                generation: rules.generation,
                what: verdict,
            };
            if let Err(TrySendError::Full(_)) = self.orders.try_send(Given::Order(order)) {
                guard.again();
                tracing::error!(
                    pipeline,
                    "the guard has too much to do: it is decided anew at the next commit"
                );
            }
        }
    }
}

fn tell(pipeline: &str, version: u64, verdict: &Verdict, alarm: &Alarm) {
    match verdict {
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
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Paused, or other rules are in force after this version.
    Done(u64),
    /// The order is void: other rules are in force already. Nothing was done.
    OtherRules,
    /// A person paused or stopped it already. Nothing was done.
    At(Target),
}

/// Whoever can pause a pipeline and change its rules. Both look at what holds now, before anything is done.
pub trait Acts {
    fn pause(&self, pipeline: &str, generation: u64, why: &str) -> Result<Act>;
    fn roll_back(&self, pipeline: &str, generation: u64, why: &str) -> Result<Act>;
    fn alarm(&self, pipeline: &str, tell: &dyn Fn(&Alarm));
}

/// Whether rules of `generation` were replaced. Where the log cannot be read, they count as in force: a pause too much does no harm.
pub fn is_void(pipeline: &str, generation: u64, in_force: Result<Option<u64>>) -> bool {
    match in_force {
        Ok(now) => now.is_some_and(|now| now != generation),
        Err(error) => {
            tracing::warn!(pipeline, %error, "it is not known whether other rules are in force already");
            false
        }
    }
}

/// Does what was decided; where rules cannot be taken back, the pipeline is paused.
pub fn carry_out(order: &Order, by: &impl Acts) {
    let (pipeline, generation) = (order.pipeline.as_str(), order.generation);
    match &order.what {
        Verdict::Over | Verdict::Warn(_) => {}
        Verdict::Pause(why) => pause(pipeline, generation, why, by),
        Verdict::RollBack(why) => match by.roll_back(pipeline, generation, why) {
            Ok(Act::Done(version)) => {
                let words =
                    format!("{why}; the rules before are in force again after version {version}");
                tracing::warn!(pipeline, version, "{words}");
                by.alarm(pipeline, &|alarm| {
                    alarm.acted("rollback");
                    alarm.tell(Some(words.clone()));
                });
            }
            Ok(nothing) => leave(pipeline, nothing, why, by),
            Err(error) => {
                let why = format!(
                    "{why}; the rules before cannot be put in force: {}",
                    error.one_line()
                );
                pause(pipeline, generation, &why, by);
            }
        },
    }
}

fn pause(pipeline: &str, generation: u64, why: &str, by: &impl Acts) {
    let words = match by.pause(pipeline, generation, why) {
        Ok(Act::Done(_)) => format!("{why}; paused"),
        Ok(nothing) => return leave(pipeline, nothing, why, by),
        Err(error) => {
            tracing::error!(pipeline, %error, "it cannot be paused: that is tried again at the next commit");
            let words = format!("{why}; it cannot be paused: {}", error.one_line());
            return by.alarm(pipeline, &|alarm| {
                alarm.undone.store(true, Ordering::SeqCst);
                alarm.tell(Some(words.clone()));
            });
        }
    };
    by.alarm(pipeline, &|alarm| {
        alarm.acted("pause");
        alarm.tell(Some(words.clone()));
    });
}

/// Somebody was faster. What is no longer so is no alarm.
fn leave(pipeline: &str, found: Act, why: &str, by: &impl Acts) {
    let (stays, words) = match found {
        Act::Done(_) => return,
        Act::OtherRules => (None, "other rules are in force already".to_owned()),
        Act::At(target) => {
            let words = format!("its target is {} already", target.word());
            (Some(format!("{why}; {words}")), words)
        }
    };
    tracing::info!(pipeline, "{words}: nothing is done about {why}");
    by.alarm(pipeline, &|alarm| alarm.tell(stays.clone()));
}

/// A thread that does what is ordered, as long as `acts` gives somebody who can.
pub fn begin<A: Acts>(
    orders: Receiver<Given>,
    acts: impl Fn() -> Option<Arc<A>> + Send + 'static,
) -> Result<()> {
    let body = move || {
        while let Ok(given) = orders.recv() {
            let Some(by) = acts() else {
                return;
            };
            match given {
                Given::Order(order) => carry_out(&order, by.as_ref()),
                Given::Question(answer) => drop(answer.send(())),
            }
        }
    };
    let thread = std::thread::Builder::new().name("guard".to_owned());
    let begun = thread.spawn(body).map(drop);
    begun.map_err(|e| Error::new(Kind::LimitReached, "guard", "no thread can be started").source(e))
}

/// Waits at most `most` until all that was ordered is done; whether it is.
pub fn settle(orders: &Orders, most: Duration) -> bool {
    let (answer, answered) = bounded(1);
    let asked = orders.send_timeout(Given::Question(answer), most);
    asked.is_ok() && answered.recv_timeout(most).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds what it is told to find, and keeps what it was asked.
    #[derive(Default)]
    struct Finds {
        pauses: Option<Act>,
        goes_back: Option<Act>,
        asked: Mutex<Vec<String>>,
        alarm: Alarm,
    }

    impl Finds {
        fn ask(&self, what: &str, generation: u64, act: Option<Act>) -> Result<Act> {
            lock(&self.asked).push(format!("{what} {generation}"));
            act.ok_or_else(|| Error::new(Kind::ConfigInvalid, "test", "no"))
        }
    }

    impl Acts for Finds {
        fn pause(&self, _: &str, generation: u64, _: &str) -> Result<Act> {
            self.ask("pause", generation, self.pauses)
        }

        fn roll_back(&self, _: &str, generation: u64, _: &str) -> Result<Act> {
            self.ask("rollback", generation, self.goes_back)
        }

        fn alarm(&self, _: &str, tell: &dyn Fn(&Alarm)) {
            tell(&self.alarm);
        }
    }

    /// What was asked, the alarm afterwards, what counts as done.
    fn done(what: Verdict, finds: Finds) -> (Vec<String>, Option<String>, Vec<&'static str>) {
        finds.alarm.tell(Some("at work".to_owned()));
        let order = Order {
            pipeline: "p".to_owned(),
            generation: 7,
            what,
        };
        carry_out(&order, &finds);
        let acts = finds.alarm.acts().into_keys().collect();
        let asked = lock(&finds.asked).clone();
        (asked, finds.alarm.told(), acts)
    }

    #[test]
    fn where_somebody_was_faster_nothing_is_done() {
        let (back, pause) = (
            || Verdict::RollBack("bad".to_owned()),
            || Verdict::Pause("bad".to_owned()),
        );
        let finds = |pauses, goes_back| Finds {
            pauses,
            goes_back,
            ..Finds::default()
        };
        let told = |asked: &[&str], alarm: Option<&str>, acts: &[&'static str]| {
            let asked = asked.iter().map(ToString::to_string).collect::<Vec<_>>();
            (asked, alarm.map(str::to_owned), acts.to_vec())
        };
        let (others, stopped) = (Some(Act::OtherRules), Some(Act::At(Target::Stopped)));
        let stays = Some("bad; its target is STOPPED already");
        for (what, finds, expected) in [
            (pause(), finds(others, None), told(&["pause 7"], None, &[])),
            (
                pause(),
                finds(stopped, None),
                told(&["pause 7"], stays, &[]),
            ),
            (
                back(),
                finds(None, others),
                told(&["rollback 7"], None, &[]),
            ),
            (
                back(),
                finds(None, stopped),
                told(&["rollback 7"], stays, &[]),
            ),
            // It cannot go back, and is overtaken before the pause.
            (
                back(),
                finds(others, None),
                told(&["rollback 7", "pause 7"], None, &[]),
            ),
        ] {
            assert_eq!(done(what, finds), expected);
        }
        let (_, alarm, acts) = done(back(), finds(Some(Act::Done(0)), None));
        assert_eq!(acts, ["pause"]);
        assert_eq!(
            alarm.as_deref(),
            Some("bad; the rules before cannot be put in force: no; paused")
        );
    }

    #[test]
    fn what_cannot_be_done_is_decided_anew() {
        let finds = Finds::default();
        let order = Order {
            pipeline: "p".to_owned(),
            generation: 7,
            what: Verdict::Pause("bad".to_owned()),
        };
        carry_out(&order, &finds);
        assert_eq!(
            finds.alarm.told().as_deref(),
            Some("bad; it cannot be paused: no")
        );
        assert!(finds.alarm.acts().is_empty(), "nothing was done");
        assert!(finds.alarm.undone.load(Ordering::SeqCst));
    }

    #[test]
    fn an_end_waits_for_what_was_ordered() {
        let finds = Arc::new(Finds {
            pauses: Some(Act::Done(0)),
            ..Finds::default()
        });
        let (orders, given) = orders();
        for generation in 0..50 {
            let order = Order {
                pipeline: "p".to_owned(),
                generation,
                what: Verdict::Pause("bad".to_owned()),
            };
            orders.send(Given::Order(order)).expect("room");
        }
        let by = Arc::clone(&finds);
        begin(given, move || Some(Arc::clone(&by))).expect("a thread");
        assert!(settle(&orders, Duration::from_secs(10)));
        assert_eq!(lock(&finds.asked).len(), 50);
        let (orders, nobody) = super::orders();
        drop(nobody);
        assert!(!settle(&orders, Duration::from_secs(10)));
    }

    #[test]
    fn rules_count_as_in_force_unless_the_log_says_otherwise() {
        let unread = Err(Error::new(Kind::StoreUnavailable, "test", "away"));
        let found = [Ok(Some(7)), Ok(Some(8)), Ok(None), unread];
        assert_eq!(
            found.map(|found| is_void("p", 7, found)),
            [false, true, false, false]
        );
    }
}
