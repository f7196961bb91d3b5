//! Swaps and rewinds of a zone on a real S3 server: under load, and interrupted. The listed files are the live ones,
//! and every row was made by the rules that its entry names.

use std::time::Duration;

use weir::config::Publish;
use weir::kafka::MockBroker;
use weir::kafka::testkit::Admin;
use weir::store::Created;

use crate::brokers::kafka;
use crate::object_servers::s3;
use crate::rewind_kill::{rewinds_that_die, rewinds_under_load};
use crate::swap_rig::{Load, Rig, Zone, produce};

const SWAPS: usize = 6;
/// A rewind reads every entry that it takes back; where entries come faster than that, it says so and gives up.
const ROUND: i64 = 5;
const PAUSE: Duration = Duration::from_millis(50);

fn rig(bootstrap: &str, topic: &str, partitions: i32) -> Option<Rig> {
    rig_by(Publish::Complete, bootstrap, topic, partitions)
}

fn rig_by(publish: Publish, bootstrap: &str, topic: &str, partitions: i32) -> Option<Rig> {
    let server = s3()?;
    let bucket = server.bucket(topic);
    let mut zone = Zone {
        at: server.at(&bucket, "lake/zone"),
        files: server.files(&bucket).join("lake/zone"),
    };
    zone.at.options.publish = publish;
    let dir = tempfile::tempdir().unwrap();
    Some(Rig::on(dir, (bootstrap, topic, partitions), zone, ""))
}

#[test]
fn a_rewind_on_s3_that_dies_anywhere_is_not_done_or_done() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("numbers", 2).unwrap();
    let Some(rig) = rig(broker.bootstrap(), "numbers", 2) else {
        return;
    };
    rewinds_that_die(&rig);
}

#[test]
fn rewinds_and_swaps_on_s3_under_load_lose_double_and_mix_nothing() {
    let Some(broker) = kafka() else { return };
    let topic = "rules-on-s3";
    let Some(rig) = rig(broker.bootstrap(), topic, 4) else {
        return;
    };
    let admin = Admin::connect(broker.bootstrap()).unwrap();
    admin.create_topic(topic, 4, &[]).unwrap();
    produce(&rig, 0..100);
    rig.catch_up();
    let messages = rewinds_under_load(&rig, topic, ROUND, PAUSE);
    let load = Load::from(&rig, messages / 4, ROUND, PAUSE);
    let running = rig.running();
    for at in 0..SWAPS {
        rig.swap_to(["high", "low"][at % 2]);
    }
    let messages = load.end();
    running.stop();
    rig.catch_up();
    rig.exact(messages);
    let periods = rig.periods();
    assert!(periods.len() > SWAPS, "{}", periods.len());
}

/// What a service does that finishes a copy after it was told to delete source and target.
#[test]
fn a_copy_that_ends_after_its_file_was_taken_back_is_taken_away_at_the_next_start() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("numbers", 1).unwrap();
    let Some(rig) = rig_by(Publish::Copy, broker.bootstrap(), "numbers", 1) else {
        return;
    };
    produce(&rig, 0..10);
    rig.catch_up();
    let (store, log) = (rig.store(), rig.log());
    let live = log.state().live.values().map(|live| &live.file.path);
    let files: Vec<_> = live
        .map(|path| (path.clone(), store.get(path).unwrap().unwrap()))
        .collect();
    rig.asked(&["rewind", "numbers/0=0"]);
    rig.catch_up();
    for (path, bytes) in &files {
        assert_eq!(store.create(path, bytes).unwrap(), Created::Done, "{path}");
    }
    rig.catch_up();
    rig.exact(10);
    assert!(rig.said().contains("had come back"), "{}", rig.said());
}
