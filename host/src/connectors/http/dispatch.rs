//! Batches on their way: so many at a time, in the order that was asked for, each until it is taken or refused.
//!
//! A batch that the API does not take now is tried again, with waits that double; `Retry-After` and the rate hold for all
//! requests together. Nothing is given up but by key: while the API is away the batches wait, and the pipeline says so.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::client::{Client, Reply};
use super::deliver::Outgoing;
use super::statuses::Verdict;
use super::{Exhausted, HttpSinkConfig, Order, Waits};
use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use crate::lock::lock;
use crate::sink::Patience;

const OP: &str = "http.deliver";
/// How soon a stop is heard while requests are on their way.
const LOOK: Duration = Duration::from_millis(100);
/// Hex digits of a body's digest in a key.
const DIGEST: usize = 16;
/// Another request with this key is on its way: most often our own, before a crash or a time limit. It is waited for until the
/// deadline, however many tries that takes.
const IN_PROGRESS: u16 = 409;
/// Code of rows whose tries are used up without an answer.
const NO_ANSWER: &str = "http_no_answer";

/// One planned batch.
#[derive(Clone, Debug)]
pub struct Job {
    pub lane: usize,
    pub plan: String,
    pub number: usize,
    pub rows: Range<usize>,
}

/// Rows of a lane that the API refused for good.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub lane: usize,
    pub rows: Range<usize>,
    pub code: String,
    pub message: String,
}

pub struct Dispatcher {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    engine: Arc<Engine>,
}

struct Engine {
    client: Client,
    patience: Arc<dyn Patience>,
    /// No request begins before.
    not_before: Mutex<Option<Instant>>,
    /// When the next request may begin, by the rate.
    slot: Mutex<Option<Instant>>,
    /// The pipeline was told that the API is away.
    away: AtomicBool,
}

/// What became of a body.
enum Settled {
    Taken,
    /// `of_rows`: the answer is about the rows; a half of them may be taken.
    Refused {
        code: String,
        message: String,
        of_rows: bool,
    },
}

/// How often and how long a body was tried, until it is settled or that is too much.
struct Round {
    sent: u64,
    /// Requests whose answer was no 409.
    tries: u64,
    begun: Instant,
    /// When the first 409 came.
    in_progress: Option<Instant>,
    /// Times in a row that a reference could not be resolved.
    unsent: u64,
}

impl Round {
    fn new() -> Round {
        Round {
            sent: 0,
            tries: 0,
            begun: Instant::now(),
            in_progress: None,
            unsent: 0,
        }
    }

    /// This time does not count.
    fn put_off(&mut self, time: Duration) {
        self.begun += time;
        self.in_progress = self.in_progress.map(|since| since + time);
    }

    /// After an answer, or none. A 409 has the whole deadline from the first one on, and uses up no tries: what was tried before it
    /// says nothing of the request that is on its way.
    fn is_over(&mut self, in_progress: bool, wait: Duration, waits: &Waits) -> bool {
        if in_progress {
            let since = self.in_progress.get_or_insert_with(Instant::now);
            return since.elapsed() + wait > waits.deadline;
        }
        self.tries += 1;
        self.tries >= waits.tries || self.begun.elapsed() + wait > waits.deadline
    }
}

impl Dispatcher {
    pub fn new(client: Client, patience: Arc<dyn Patience>) -> Result<Dispatcher> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http-sink")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| {
            Error::new(
                Kind::LimitReached,
                "http.connect",
                "no thread can be started",
            )
            .source(e)
        })?;
        Ok(Dispatcher {
            runtime: Some(runtime),
            engine: Arc::new(Engine {
                client,
                patience,
                not_before: Mutex::default(),
                slot: Mutex::default(),
                away: AtomicBool::new(false),
            }),
        })
    }

    /// Until each job is settled; the rows that were refused.
    pub fn send(&self, outgoing: &Arc<Outgoing>, jobs: Vec<Job>) -> Result<Vec<Refusal>> {
        let runtime = self.runtime.as_ref();
        let runtime = runtime.ok_or_else(|| Error::new(Kind::Bug, OP, "no runtime"))?;
        runtime.block_on(all(&self.engine, outgoing, jobs))
    }
}

/// Without waiting for a name that is being looked up: that takes as long as the resolver likes.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

async fn all(
    engine: &Arc<Engine>,
    outgoing: &Arc<Outgoing>,
    jobs: Vec<Job>,
) -> Result<Vec<Refusal>> {
    let config = engine.client.config();
    let mut queue = Queue::new(&config.order, outgoing, &jobs);
    let mut running = JoinSet::new();
    let mut refusals = Vec::new();
    loop {
        while running.len() < config.in_flight
            && let Some(at) = queue.next()
        {
            let (engine, outgoing, job) = (engine.clone(), outgoing.clone(), jobs[at].clone());
            running.spawn(async move {
                let rows = job.rows.clone();
                (
                    at,
                    engine.deliver(&outgoing, &job, rows, String::new()).await,
                )
            });
        }
        if running.is_empty() {
            return Ok(refusals);
        }
        match timeout(LOOK, running.join_next()).await {
            Ok(Some(Ok((at, settled)))) => {
                let refused = settled?;
                if let (Some(first), true) = (refused.first(), outgoing.shared.refusing.none) {
                    return Err(refused_batch(first));
                }
                refusals.extend(refused);
                queue.done(at);
            }
            Ok(Some(Err(error))) => {
                return Err(Error::new(Kind::Bug, OP, "a request panicked").source(error));
            }
            Ok(None) | Err(_) => {}
        }
        let away = engine.away.load(Ordering::SeqCst);
        if engine.patience.stop_overdue() || away && engine.patience.stop_asked() {
            let message =
                "stopped before the API took all batches; they are sent again, under the same keys";
            return Err(Error::new(Kind::Conflict, OP, message));
        }
    }
}

impl Engine {
    /// A batch, or with `path` a part of one that was refused whole.
    async fn deliver(
        &self,
        outgoing: &Outgoing,
        job: &Job,
        rows: Range<usize>,
        path: String,
    ) -> Result<Vec<Refusal>> {
        let body = Bytes::from(outgoing.body(job.lane, rows.clone()));
        let key = key(job, &path, &body);
        let (code, message, of_rows) = match self.until_settled(body, &key).await? {
            Settled::Taken => return Ok(Vec::new()),
            Settled::Refused {
                code,
                message,
                of_rows,
            } => (code, message, of_rows),
        };
        if of_rows && rows.len() > 1 && self.client.config().bisect {
            let middle = rows.start + rows.len() / 2;
            let mut refused = Vec::new();
            for (part, rows) in [("a", rows.start..middle), ("b", middle..rows.end)] {
                let path = format!("{path}{part}");
                refused.extend(Box::pin(self.deliver(outgoing, job, rows, path)).await?);
            }
            return Ok(refused);
        }
        let message = match rows.len() {
            1 => format!("{message} [key {key}]"),
            n => format!("{message} [one of {n} rows under key {key}]"),
        };
        Ok(vec![Refusal {
            lane: job.lane,
            rows,
            code,
            message,
        }])
    }

    async fn until_settled(&self, body: Bytes, key: &str) -> Result<Settled> {
        let HttpSinkConfig {
            waits,
            exhausted,
            verdicts,
            ..
        } = self.client.config();
        let mut round = Round::new();
        loop {
            // What the API asks for, and the rate, are no part of the batch's own time.
            round.put_off(self.may_begin().await);
            let (status, after, error) = match self.client.send(body.clone(), key).await? {
                Reply::Answer(answer) => match verdicts.of(answer.status) {
                    Verdict::Taken => {
                        self.works();
                        return Ok(Settled::Taken);
                    }
                    Verdict::Letters => {
                        self.works();
                        return Ok(refused(answer.status, answer.told()));
                    }
                    Verdict::Stop => return Err(answer.stops()),
                    Verdict::Again => (Some(answer.status), answer.retry_after, answer.passes()),
                },
                Reply::None { error, after } => (None, after, error),
                Reply::Unsent(error) => {
                    self.unsent(&error, &mut round).await;
                    continue;
                }
            };
            (round.sent, round.unsent) = (round.sent + 1, 0);
            let tries = round.sent;
            let mut wait = wait_after(tries, waits.first, waits.max);
            if let Some(after) = after {
                self.pause(after.min(waits.retry_after_max));
            }
            let in_progress = status == Some(IN_PROGRESS);
            if round.is_over(in_progress, wait, waits) {
                if in_progress {
                    return Ok(not_ended(&error));
                }
                match exhausted {
                    Exhausted::Stop => return Err(gave_up(&error, tries)),
                    Exhausted::Letters => {
                        return Ok(Settled::Refused {
                            code: status.map_or(NO_ANSWER.to_owned(), code),
                            message: format!("after {tries} tries: {}", error.message()),
                            of_rows: false,
                        });
                    }
                    Exhausted::Wait => {
                        self.waits(&error);
                        wait = wait.max(waits.max);
                        round = Round::new();
                    }
                }
            }
            tracing::debug!(
                key,
                tries,
                wait_ms = wait.as_millis(),
                error = error.message(),
                "a batch is sent again"
            );
            sleep(wait).await;
        }
    }

    /// A reference cannot be resolved: that is no try, whatever becomes of a batch whose tries are used up.
    async fn unsent(&self, error: &Error, round: &mut Round) {
        round.unsent += 1;
        // A file that is being replaced is there at the next look.
        if round.unsent > 1 {
            self.waits(error);
        }
        let waits = self.client.config().waits;
        let wait = wait_after(round.unsent, waits.first, waits.max);
        sleep(wait).await;
        round.put_off(wait);
    }

    /// Waits for `Retry-After` and the rate; how long.
    async fn may_begin(&self) -> Duration {
        let came = Instant::now();
        loop {
            let until = *lock(&self.not_before);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => break,
            }
        }
        let per_second = self.client.config().waits.per_second;
        let Some(nanos) = 1_000_000_000_u64.checked_div(per_second) else {
            return came.elapsed();
        };
        let now = Instant::now();
        let at = {
            let mut slot = lock(&self.slot);
            let at = slot.map_or(now, |slot| slot.max(now));
            *slot = Some(at + Duration::from_nanos(nanos));
            at
        };
        sleep_until(at).await;
        came.elapsed()
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut not_before = lock(&self.not_before);
        *not_before = Some(not_before.map_or(until, |before| before.max(until)));
    }

    fn waits(&self, error: &Error) {
        if !self.away.swap(true, Ordering::SeqCst) {
            self.patience.waiting(error);
        }
    }

    fn works(&self) {
        if self.away.swap(false, Ordering::SeqCst) {
            self.patience.resumed();
        }
    }
}

/// Doubles with each try; between a half of it and all.
fn wait_after(tries: u64, first: Duration, max: Duration) -> Duration {
    let waits = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = Backoff::new(first, max).wait_after(waits);
    wait.mul_f64(SmallRng::from_os_rng().random_range(0.5..=1.0))
}

/// `<plan>-<number>[part]-<digest of the body>`: a key never stands for two bodies.
fn key(job: &Job, path: &str, body: &[u8]) -> String {
    let mut digest = hex(&Sha256::digest(body));
    digest.truncate(DIGEST);
    format!("{}-{}{path}-{digest}", job.plan, job.number)
}

fn code(status: u16) -> String {
    format!("http_{status}")
}

fn refused(status: u16, message: String) -> Settled {
    Settled::Refused {
        code: code(status),
        message,
        of_rows: true,
    }
}

/// Our earlier request may have been taken meanwhile: no part of it goes under another key.
fn not_ended(error: &Error) -> Settled {
    Settled::Refused {
        code: code(IN_PROGRESS),
        message: error.message().to_owned(),
        of_rows: false,
    }
}

fn gave_up(error: &Error, tries: u64) -> Error {
    let message = format!(
        "the API did not take a batch in {tries} tries: {}",
        error.message()
    );
    Error::new(Kind::SinkRefused, OP, message).hint(
        "what is committed was delivered; the next start sends the rest. sink.http.on.exhausted = \"wait\" goes on by itself",
    )
}

fn refused_batch(refusal: &Refusal) -> Error {
    let message = "the API refused rows and errors.tolerance is none";
    Error::new(Kind::RecordRefused, OP, message)
        .with("code", &refusal.code)
        .with("rows", refusal.rows.len())
        .with("reason", &refusal.message)
        .hint("errors.tolerance = \"all\" sends refused rows to the dead letters")
}

// === impl Queue ===

/// Which job may begin, so that the order holds.
struct Queue {
    jobs: Vec<Waiting>,
    /// All before it are done.
    from: usize,
    order: Kept,
}

struct Waiting {
    lane: usize,
    keys: HashSet<u64>,
    state: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waits,
    Runs,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    None,
    Lane,
    Key,
}

impl Queue {
    fn new(order: &Order, outgoing: &Outgoing, jobs: &[Job]) -> Queue {
        let order = match order {
            Order::None => Kept::None,
            Order::Partition => Kept::Lane,
            Order::Key(_) => Kept::Key,
        };
        let keys = |job: &Job| match order {
            Kept::Key => {
                let rows = outgoing.rows(job.lane, job.rows.clone()).iter();
                rows.map(|row| row.key).collect()
            }
            Kept::None | Kept::Lane => HashSet::new(),
        };
        let jobs = jobs.iter().map(|job| Waiting {
            lane: job.lane,
            keys: keys(job),
            state: Progress::Waits,
        });
        Queue {
            jobs: jobs.collect(),
            from: 0,
            order,
        }
    }

    fn next(&mut self) -> Option<usize> {
        let found = (self.from..self.jobs.len()).find(|at| {
            let waits = self
                .jobs
                .get(*at)
                .is_some_and(|job| job.state == Progress::Waits);
            waits && self.may_begin(*at)
        })?;
        self.jobs[found].state = Progress::Runs;
        Some(found)
    }

    /// Nothing before it that it must follow is under way or waits.
    fn may_begin(&self, at: usize) -> bool {
        let job = &self.jobs[at];
        let before = self.jobs[self.from..at].iter();
        let mut open = before.filter(|b| b.lane == job.lane && b.state != Progress::Done);
        match self.order {
            Kept::None => true,
            Kept::Lane => open.next().is_none(),
            Kept::Key => open.all(|b| b.keys.is_disjoint(&job.keys)),
        }
    }

    fn done(&mut self, at: usize) {
        self.jobs[at].state = Progress::Done;
        let is_done = |job: &Waiting| job.state == Progress::Done;
        while self.jobs.get(self.from).is_some_and(is_done) {
            self.from += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::api_for_tests::{api, config};
    use super::*;

    fn queue(order: Kept, jobs: &[(usize, &[u64])]) -> Queue {
        let jobs = jobs.iter().map(|(lane, keys)| Waiting {
            lane: *lane,
            keys: keys.iter().copied().collect(),
            state: Progress::Waits,
        });
        Queue {
            jobs: jobs.collect(),
            from: 0,
            order,
        }
    }

    fn all(queue: &mut Queue) -> Vec<usize> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    /// Puts the file back when it is told that something is waited for.
    #[derive(Debug)]
    struct PutsBack(PathBuf, Mutex<Vec<String>>);

    impl Patience for PutsBack {
        fn waiting(&self, error: &Error) {
            lock(&self.1).push(error.to_string());
            std::fs::write(&self.0, "token=hunter22").unwrap();
        }
        fn resumed(&self) {
            lock(&self.1).push("resumed".to_owned());
        }
        fn stop_asked(&self) -> bool {
            false
        }
        fn stop_overdue(&self) -> bool {
            false
        }
    }

    /// Whatever becomes of a batch whose tries are used up: nothing was sent, so no row is given up.
    #[test]
    fn a_secret_that_is_not_there_for_a_while_is_no_try() {
        for exhausted in ["dead-letters", "stop", "wait"] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("secrets");
            std::fs::write(&file, "token=hunter22").unwrap();
            let token = format!("${{file:{}:token}}", file.display());
            let config = config(
                &api(vec![(200, String::new()); 2]),
                &[
                    ("sink.http.auth", "bearer"),
                    ("sink.http.bearer.token", &token),
                    ("sink.http.tries", "1"),
                    ("sink.http.on.exhausted", exhausted),
                ],
            );
            let patience = Arc::new(PutsBack(file.clone(), Mutex::default()));
            let client = Client::new(config).unwrap();
            let dispatcher = Dispatcher::new(client, patience.clone()).unwrap();
            let send = || {
                let runtime = dispatcher.runtime.as_ref().unwrap();
                let settled = dispatcher.engine.until_settled(Bytes::from("[]"), "k");
                runtime.block_on(settled).unwrap()
            };
            assert!(matches!(send(), Settled::Taken));
            std::fs::remove_file(&file).unwrap();
            assert!(matches!(send(), Settled::Taken), "{exhausted}");
            let told = lock(&patience.1).clone();
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(told[0].contains("secrets file") && told[1] == "resumed");
        }
    }

    #[test]
    fn a_409_has_the_whole_deadline_from_the_first_one_on() {
        let second = Duration::from_secs(1);
        let config = config(
            "http://127.0.0.1:1/",
            &[("sink.http.tries", "3"), ("sink.http.deadline", "60s")],
        );
        let (waits, now) = (config.waits, Instant::now());
        let mut round = Round {
            begun: now.checked_sub(59 * second).unwrap(),
            ..Round::new()
        };
        assert!(!round.is_over(false, second / 2, &waits));
        for _ in 0..5 {
            assert!(!round.is_over(true, second, &waits), "seen a moment ago");
        }
        // They use up no tries of the others either.
        assert!(!round.is_over(false, second / 2, &waits));
        assert!(round.is_over(false, second / 2, &waits), "the third try");
        round.in_progress = now.checked_sub(60 * second);
        assert!(round.is_over(true, second, &waits));
        round.put_off(30 * second);
        assert!(!round.is_over(true, second, &waits));
    }

    #[test]
    fn waits_double_up_to_the_longest_and_a_half_of_each_is_random() {
        let ms = Duration::from_millis;
        for (tries, full) in [(1, 40), (2, 80), (3, 160), (4, 160), (u64::MAX, 160)] {
            let waits: Vec<Duration> = (0..50)
                .map(|_| wait_after(tries, ms(40), ms(160)))
                .collect();
            let inside = |wait: &Duration| (ms(full) / 2..=ms(full)).contains(wait);
            assert!(waits.iter().all(inside), "{tries}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
        }
    }

    #[test]
    fn only_what_must_follow_waits() {
        let jobs: &[(usize, &[u64])] =
            &[(0, &[1, 2]), (0, &[3]), (0, &[2, 3]), (1, &[1]), (0, &[3])];
        assert_eq!(all(&mut queue(Kept::None, jobs)), [0, 1, 2, 3, 4]);
        let mut lanes = queue(Kept::Lane, jobs);
        assert_eq!(all(&mut lanes), [0, 3]);
        lanes.done(3);
        assert!(all(&mut lanes).is_empty());
        lanes.done(0);
        assert_eq!(all(&mut lanes), [1]);
        let mut keys = queue(Kept::Key, jobs);
        assert_eq!(all(&mut keys), [0, 1, 3]);
        keys.done(1);
        assert!(all(&mut keys).is_empty(), "2 waits for 0, and 4 for 2");
        keys.done(0);
        assert_eq!(all(&mut keys), [2]);
        keys.done(2);
        assert_eq!(all(&mut keys), [4]);
    }
}
