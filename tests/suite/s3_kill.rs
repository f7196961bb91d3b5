//! The whole program, Apache Kafka and a real S3 server: processes are killed, the server is killed, the network
//! damages requests. Nothing is lost or doubled, and a reader that lists the bucket sees only committed rows, each
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir::clock::SystemClock;
use weir::config::Publish;
use weir::sample::Tally;
use weir::store;

use crate::brokers::{Broker, DEADLINE, kafka, until, within};
use crate::kill::{ABORT_AT, Estate, SEED, kill, logs_agree, produce};
use crate::listed::{
    self, Steps, ended_at_steps, finish, killed_while_listed, log_totals, never_above_the_log,
    still_runs,
};
use crate::object_servers::{Server, azure, own_s3, s3};
use crate::proxy::{Asked, ERROR_INSIDE, Fault, INTERNAL, Proxy, SLOW_DOWN, TOO_MANY, Verb};
use crate::zone_reader::ZoneReader;

/// Each step takes two starts. `any_store` has each step of a file's life on this server.
const STEPS: Steps = Steps {
    lanes: 4,
    every: 13,
};
/// Runs through a bad network, side by side.
const LANES: u64 = 4;

/// Zones in a new bucket, for a topic of its own.
fn estate(broker: &Broker, server: &Server, name: &str) -> Estate {
    let mut estate = Estate::new(broker, name);
    estate.bucket = Some(server.at(&server.bucket(name), "lake"));
    estate
}

/// Where the bucket and its prefix are, for a client of S3.
fn place(estate: &Estate) -> (String, String) {
    let at = estate.bucket.as_ref().unwrap();
    let below = at.url.strip_prefix("s3://").unwrap().to_owned();
    (at.options.endpoint.clone().unwrap(), below)
}

fn reader(estate: &Estate) -> Option<ZoneReader> {
    let (endpoint, below) = place(estate);
    listed::reader(&endpoint, &below)
}

/// No upload is open either.
fn nothing_is_open(estate: &Estate, server: &Server) {
    let (_, below) = place(estate);
    let bucket = below.split('/').next().unwrap_or_default();
    let parts = server.parts(bucket);
    assert!(parts.is_empty(), "{parts:?}");
}

fn settled(estate: &Estate, server: &Server, produced: &Tally, reader: &mut ZoneReader) {
    listed::settled(estate, produced, reader);
    nothing_is_open(estate, server);
}

#[test]
fn fifty_kills_on_s3_lose_nothing_and_double_nothing() {
    let (Some(broker), Some(server)) = (kafka(), s3()) else {
        return;
    };
    let estate = estate(broker, server, "kill-books-s3");
    let Some(mut reader) = reader(&estate) else {
        return;
    };
    let produced = killed_while_listed(&estate, &mut reader);
    settled(&estate, server, &produced, &mut reader);
}

#[test]
fn an_end_at_durable_steps_on_s3_loses_nothing_and_doubles_nothing() {
    let (Some(broker), Some(server)) = (kafka(), s3()) else {
        return;
    };
    let first = Estate::new(broker, "step-books-s3");
    let produced = produce(&first, Some(300), Arc::default()).join().unwrap();
    let fresh = || {
        let mut estate = first.again();
        estate.bucket = Some(server.at(&server.bucket("steps"), "lake"));
        let reader = reader(&estate)?;
        Some((estate, reader))
    };
    let also = |estate: &Estate| nothing_is_open(estate, server);
    let Some(steps) = ended_at_steps(STEPS, &produced, &fresh, &also) else {
        return;
    };
    assert!(steps > 100, "only {steps} steps: is the variable heard?");
    println!("{steps} steps");
}

/// How often a fault comes, out of a hundred requests that it fits, and how often in a run.
const FAULTY_PERCENT: u32 = 12;
const FAULTS_MAX: u32 = 10;
const DELAY: Duration = Duration::from_millis(300);

/// A fault, and the requests that it fits.
type Trouble = (Fault, fn(&Asked) -> bool);

fn any(_: &Asked) -> bool {
    true
}

fn has_body(asked: &Asked) -> bool {
    matches!(
        asked.verb,
        Verb::Create | Verb::Put | Verb::Part | Verb::Complete
    )
}

fn is_answered(asked: &Asked) -> bool {
    matches!(
        asked.verb,
        Verb::Get | Verb::List | Verb::Begin | Verb::Complete
    )
}

fn may_fail_inside(asked: &Asked) -> bool {
    matches!(asked.verb, Verb::Complete | Verb::Copy)
}

const TROUBLES: [Trouble; 13] = [
    (Fault::Delay(DELAY), any),
    (Fault::LostRequest, any),
    (Fault::ResetInBody, has_body),
    (Fault::LostReply, any),
    (Fault::CutReply, is_answered),
    (Fault::Refused(SLOW_DOWN), any),
    (Fault::Refused(INTERNAL), any),
    (Fault::Refused(TOO_MANY), any),
    (Fault::Refused(ERROR_INSIDE), may_fail_inside),
    (Fault::DoneBut(SLOW_DOWN), any),
    (Fault::DoneBut(INTERNAL), any),
    (Fault::DoneBut(TOO_MANY), any),
    (Fault::DoneBut(ERROR_INSIDE), may_fail_inside),
];

/// These faults come by a die of this seed, ten times at most.
fn troubled(proxy: &Proxy, troubles: Vec<Trouble>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut left = FAULTS_MAX;
    proxy.decide(move |asked| {
        let (fault, fits) = troubles[rng.random_range(0..troubles.len())];
        let often =
            fits(asked) && (rng.random_range(0..100) < FAULTY_PERCENT || may_fail_inside(asked));
        if left == 0 || !often {
            return Fault::None;
        }
        left -= 1;
        fault
    });
}

/// Each kind of fault in a run of its own, then all kinds in one; both pipelines end with the right rows.
#[test]
fn whatever_the_network_does_the_rows_are_right() {
    let (Some(broker), Some(server)) = (kafka(), s3()) else {
        return;
    };
    let first = Estate::new(broker, "network-books");
    let produced = produce(&first, Some(300), Arc::default()).join().unwrap();
    let mut runs: Vec<Vec<Trouble>> = TROUBLES.iter().map(|trouble| vec![*trouble]).collect();
    runs.push(TROUBLES.to_vec());
    let runs = std::sync::Mutex::new(runs.into_iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let next = runs.lock().unwrap().next();
                    let Some((seed, troubles)) = next else { return };
                    through_trouble(&first, server, &produced, troubles, seed as u64);
                }
            });
        }
    });
}

fn through_trouble(
    first: &Estate,
    server: &Server,
    produced: &Tally,
    troubles: Vec<Trouble>,
    seed: u64,
) {
    let proxy = Proxy::before(server.addr());
    let mut estate = first.again();
    let bucket = server.bucket("network");
    estate.bucket = Some(server.at_by(&proxy.endpoint(), &bucket, "lake"));
    let of = format!("{troubles:?}");
    troubled(&proxy, troubles, seed);
    finish(&estate);
    let faults = proxy.faults();
    println!(
        "seed {seed}: {faults:?} in {} requests",
        proxy.asked().len()
    );
    assert!(faults.values().sum::<u64>() > 0, "{of}: nothing happened");
    estate.bucket = Some(server.at(&bucket, "lake"));
    if let Some(mut reader) = reader(&estate) {
        settled(&estate, server, produced, &mut reader);
    }
}

/// How often the server is killed, how long it is up before, and away after.
const SERVER_KILLS: u32 = 8;
const UP_MILLIS: std::ops::Range<u64> = 300..2_000;
const AWAY_MILLIS: std::ops::Range<u64> = 50..1_500;

/// One that may lose an upload that it is killed inside of, hence copies.
#[test]
fn a_server_that_is_killed_under_load_is_waited_for() {
    let (Some(broker), Some(mut server)) = (kafka(), own_s3()) else {
        return;
    };
    let mut estate = estate(broker, &server, "server-killed");
    if let Some(bucket) = &mut estate.bucket {
        bucket.options.publish = Publish::Copy;
    }
    killed_under_load(&estate, &mut server, SERVER_KILLS, &|_| {});
}

/// The same where files are completed: killed at any moment in which it completes nothing.
#[test]
fn a_server_that_is_killed_under_load_keeps_its_uploads() {
    let (Some(broker), Some(mut server)) = (kafka(), own_s3()) else {
        return;
    };
    let mut estate = estate(broker, &server, "uploads-kept");
    let (_, below) = place(&estate);
    let bucket = below.split('/').next().unwrap_or_default();
    let proxy = Proxy::before(server.addr());
    let closed = Arc::new(AtomicBool::new(false));
    let is_closed = Arc::clone(&closed);
    proxy.decide(move |asked| {
        match asked.verb == Verb::Complete && is_closed.load(Ordering::SeqCst) {
            true => Fault::Refused(SLOW_DOWN),
            false => Fault::None,
        }
    });
    estate.bucket = Some(server.at_by(&proxy.endpoint(), bucket, "lake"));
    killed_under_load(&estate, &mut server, SERVER_KILLS / 2, &|killing| {
        closed.store(killing, Ordering::SeqCst);
        until("a moment without a completion", || {
            (!killing || proxy.pending(Verb::Complete) == 0).then_some(())
        });
    });
}

/// What killed servers had acknowledged is there, and no row shows twice. `told` that a kill comes, and that it is over.
fn killed_under_load(estate: &Estate, server: &mut Server, kills: u32, told: &dyn Fn(bool)) {
    let (_, below) = place(estate);
    let Some(mut reader) = listed::reader(&server.endpoint(), &below) else {
        return;
    };
    let done = Arc::new(AtomicBool::new(false));
    let producer = produce(estate, None, done.clone());
    let mut child = estate.weir(&[]).spawn().unwrap();
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    for round in 0..kills {
        let rows = log_totals(estate).0;
        let more = within(DEADLINE, || (log_totals(estate).0 > rows).then_some(()));
        let ended = child.try_wait().unwrap();
        assert!(
            more.is_some() && ended.is_none() && !producer.is_finished(),
            "round {round}, {rows} rows, ended {ended:?}, producer ended {}: {}",
            producer.is_finished(),
            estate.said()
        );
        clock.sleep(Duration::from_millis(rng.random_range(UP_MILLIS)));
        reader.look_at_more();
        told(true);
        server.kill();
        clock.sleep(Duration::from_millis(rng.random_range(AWAY_MILLIS)));
        server.start();
        told(false);
        never_above_the_log(estate, &mut reader);
        still_runs(&mut child, estate, round);
    }
    done.store(true, Ordering::Relaxed);
    let produced = producer.join().unwrap();
    kill(child);
    finish(estate);
    settled(estate, server, &produced, &mut reader);
    let said = estate.said();
    println!(
        "{kills} kills of the server, {} looks, {} messages, {} waits",
        reader.looks,
        produced.messages,
        said.matches("waiting").count()
    );
}

#[test]
fn books_on_azure_are_all_there_and_each_once() {
    let (Some(broker), Some(server)) = (kafka(), azure()) else {
        return;
    };
    let estate = estate(broker, server, "azure-books");
    let produced = produce(&estate, Some(300), Arc::default()).join().unwrap();
    for step in [Some(25), Some(40), None] {
        let mut run = estate.weir(&["--available-now"]);
        if let Some(step) = step {
            run.env(ABORT_AT, step.to_string());
        }
        let ended = run.status().unwrap();
        assert_eq!(ended.success(), step.is_none(), "{}", estate.said());
    }
    let raw = logs_agree(&estate, &produced);
    let store = store::open(&estate.at("raw_zone")).unwrap();
    let tables = ["books", "dead_letters"].map(|table| store.list(table).unwrap());
    let listed = tables.iter().flatten();
    let files = listed
        .filter(|listed| listed.path.ends_with(".parquet"))
        .count();
    assert_eq!(files, raw.state().live.len());
}
