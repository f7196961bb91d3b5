//! `conf/csv-to-api.toml`, and the sixteen defects of the program that it takes the place of, one test each (docs/questions-000.md).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use weir::clock::SystemClock;

use crate::api::{Api, Reaction, Request, say};
use crate::brokers::until;
use crate::check::root;
use crate::http_sink::{Rig, said};
use crate::kill::ABORT_AT;

const ALL: &str = "[errors]\ntolerance = \"all\"\n";
const TEN: &str = "http.batch.rows = 10\n";

/// Rows that were taken, each under how many keys.
fn once(api: &Api, total: i64) {
    let expected: BTreeMap<i64, usize> = (0..total).map(|n| (n, 1)).collect();
    assert_eq!(api.numbers(), expected);
}

fn fails_on(number: i64) -> impl FnMut(&Request, usize) -> Reaction + Send {
    move |request, _| match request.numbers().contains(&number) {
        true => say(500),
        false => Reaction::Take,
    }
}

#[test]
fn defect_01_a_batch_on_its_way_is_never_emptied_or_mixed() {
    let api = Api::new(|_, number| Reaction::Late(Duration::from_millis(number as u64 % 5 * 10)));
    let rig = Rig::new(&api, "rows.total = 505\n", TEN, "");
    rig.ran();
    once(&api, 505);
    for request in api.taken() {
        let numbers = request.numbers();
        let next: Vec<i64> = (numbers[0]..).take(numbers.len()).collect();
        assert!(
            (1..=10).contains(&numbers.len()) && numbers == next,
            "{numbers:?}"
        );
    }
}

#[test]
fn defect_02_a_position_is_that_of_its_batches() {
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(&api, "rows.total = 300\n", "http.commit.rows = 70\n", "");
    rig.ran();
    let mut entries = 0;
    for line in rig.done(&["log", "file:home", "--json", "-n", "0"]).lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let Some(delivered) = entry["deliver"].as_array().filter(|d| !d.is_empty()) else {
            continue;
        };
        entries += 1;
        let (range, span) = (&delivered[0]["ranges"][0], &entry["spans"][0]);
        assert_eq!(
            (&range["from"], &range["to"]),
            (&span["from"], &span["to"]),
            "{entry}"
        );
    }
    assert!(entries > 1, "{entries} entries");
}

#[test]
fn defect_03_a_later_success_never_hides_a_batch_that_failed() {
    let api = Api::new(fails_on(25));
    let rig = Rig::new(
        &api,
        "rows.total = 100\n",
        &format!("{TEN}http.on.exhausted = \"stop\"\n"),
        "",
    );
    assert!(!rig.run().status.success());
    assert!(!api.numbers().contains_key(&25) && rig.settled() == 0);
    api.now_reacts(|_, _| Reaction::Take);
    rig.ran();
    once(&api, 100);
    assert_eq!(rig.settled(), 100);
}

#[test]
fn defect_04_each_partition_has_a_position_of_its_own() {
    let api = Api::new(|_, _| Reaction::Take);
    let source = "rows.total = 10\npartitions = 4\n";
    let rig = Rig::new(&api, source, TEN, "tasks.max = 2\n");
    rig.ran();
    rig.declare(&api, &source.replace("10", "103"), TEN, "tasks.max = 3\n");
    rig.ran();
    once(&api, 103);
    let log = rig.log().unwrap();
    let to: Vec<i64> = log.state().splits.values().map(|split| split.to).collect();
    assert_eq!(to, [26, 26, 26, 25]);
}

#[test]
fn defect_05_the_row_after_the_last_batch_is_not_skipped() {
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(&api, "rows.total = 100\n", "", "");
    rig.ran();
    rig.declare(&api, "rows.total = 250\n", "", "");
    rig.ran();
    once(&api, 250);
}

#[test]
fn defect_06_lost_batches_are_no_success() {
    let api = Api::new(|_, _| say(500));
    let rig = Rig::new(
        &api,
        "rows.total = 10\n",
        "http.on.exhausted = \"stop\"\n",
        "",
    );
    let output = rig.run();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("sink_refused") && said(&output).contains("500"),
        "{}",
        said(&output)
    );
    assert_eq!(api.requests().len(), 3);
}

#[test]
fn defect_07_several_processes_share_one_position() {
    const TOTAL: i64 = 4_000;
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(
        &api,
        &format!("rows.total = {TOTAL}\npartitions = 2\n"),
        &format!("{TEN}http.commit.rows = 200\n"),
        "",
    );
    let both = [rig.spawn(), rig.spawn()];
    until("all is delivered", || {
        (rig.settled() >= TOTAL).then_some(())
    });
    for mut child in both {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    once(&api, TOTAL);
    rig.adds_up(TOTAL as u64, 0);
}

/// Hundredths of a second of user and system time that a process takes in this time.
fn ticks_of(process: u32, time: Duration) -> u64 {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let fields: Vec<&str> = fields.collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    SystemClock::shared().sleep(time);
    ticks() - before
}

#[test]
fn defect_08_waiting_takes_no_core() {
    let api = Api::new(|_, _| say(503));
    let rig = Rig::new(&api, "rows.total = 10\n", "", "");
    let mut child = rig.spawn();
    until("it waits", || (api.requests().len() > 3).then_some(()));
    let used = ticks_of(child.id(), Duration::from_secs(1));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(used < 50, "{used} hundredths of a core's second");
}

#[test]
fn defect_09_a_crash_at_any_write_leaves_a_position_that_can_be_read() {
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(
        &api,
        "rows.total = 60\n",
        &format!("{TEN}http.commit.rows = 20\n"),
        "",
    );
    let mut died = 0;
    for at in 1..40 {
        let mut command = rig.weir(&["run", "post.toml", "--available-now", "--progress", "none"]);
        let output: Output = command.env(ABORT_AT, at.to_string()).output().unwrap();
        died += usize::from(output.status.code().is_none());
        if output.status.success() {
            break;
        }
    }
    assert!(died >= 8, "{died} crashes");
    rig.ran();
    once(&api, 60);
    rig.adds_up(60, 0);
}

#[test]
fn defect_10_a_body_is_json_and_its_cells_are_not_encoded_twice() {
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(&api, "rows.total = 3\n", "", "");
    rig.ran();
    let body: Value = serde_json::from_str(&api.requests()[0].body).unwrap();
    assert!(
        body.as_array().unwrap().iter().all(Value::is_object),
        "{body}"
    );
}

#[test]
fn defect_12_only_what_may_pass_is_tried_again_after_waits_that_differ() {
    let api = Api::new(|_, _| say(400));
    let rig = Rig::new(&api, "rows.total = 10\n", "", ALL);
    rig.ran();
    assert_eq!(api.requests().len(), 1, "a 400 is not tried again");
    rig.adds_up(0, 10);

    let api = Api::new(|_, _| say(503));
    let keys = "http.on.exhausted = \"stop\"\nhttp.tries = 6\n";
    let rig = Rig::new(&api, "rows.total = 10\n", keys, "");
    let config = fs::read_to_string(rig.path("post.toml")).unwrap();
    let config = config
        .replace("first = \"5ms\"", "first = \"40ms\"")
        .replace("max = \"20ms\"", "max = \"160ms\"");
    fs::write(rig.path("post.toml"), config).unwrap();
    assert_eq!(rig.run().status.code(), Some(1));
    let at: Vec<_> = api.requests().iter().map(|r| r.at).collect();
    let waits: Vec<u128> = at
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_millis())
        .collect();
    assert_eq!(waits.len(), 5, "none after the last try");
    for (wait, full) in waits.iter().zip([40, 80, 160, 160, 160]) {
        assert!(*wait >= full / 2, "{waits:?}");
    }
}

#[test]
fn defect_13_what_was_taken_and_not_answered_is_sent_under_its_key_again() {
    let api = Api::new(|_, number| match number {
        0..3 => Reaction::TakeAndDrop,
        3 => Reaction::TakeSlowly,
        _ => Reaction::Take,
    });
    let rig = Rig::new(
        &api,
        "rows.total = 60\n",
        &format!("{TEN}http.tries = 9\nhttp.timeout.request = \"300ms\"\n"),
        "",
    );
    rig.ran();
    once(&api, 60);
    let keys: BTreeSet<String> = api.requests().iter().map(|r| r.key().to_owned()).collect();
    assert_eq!((keys.len(), api.taken().len()), (6, 6));
    assert!(api.requests().len() > 6);
}

#[test]
fn defect_14_reading_waits_for_the_api_and_tasks_do_not_multiply_requests() {
    let api = Api::new(|_, _| Reaction::Late(Duration::from_millis(10)));
    let keys = format!("{TEN}http.in.flight = 3\nhttp.commit.rows = 100\n");
    let rig = Rig::new(
        &api,
        "rows.total = 600\npartitions = 3\n",
        &keys,
        "tasks.max = 3\n",
    );
    rig.ran();
    once(&api, 600);
    assert!(api.most_at_once() <= 3, "{}", api.most_at_once());

    // While the API is away, an endless source is read until the budget of memory is used up, and not further.
    api.now_reacts(|_, _| say(503));
    let rig = Rig::new(&api, "", &keys, "memory.budget = \"64MiB\"\n");
    let child = rig.spawn();
    until("it says so", || {
        rig.told().contains("sink_unavailable").then_some(())
    });
    let time = Duration::from_millis(500);
    until("reading waits", || {
        (ticks_of(child.id(), time) < 10).then_some(())
    });
}

/// `conf/csv-to-api.toml` as it is shipped, in a directory of its own.
fn shipped(api: &Api, csv: &[(&str, &str)]) -> Rig {
    let rig = Rig::new(api, "", "", "");
    fs::create_dir_all(rig.path("data/csv")).unwrap();
    for (name, text) in csv {
        fs::write(rig.path("data/csv").join(name), text).unwrap();
    }
    rig
}

fn run_shipped(rig: &Rig, api: &Api) -> Output {
    let conf = root().join("conf/csv-to-api.toml");
    let plugins = crate::world::plugins_dir();
    let mut command = rig.weir(&[
        "run",
        Path::new(&conf).to_str().unwrap(),
        "--available-now",
        "--progress",
        "none",
    ]);
    for set in [
        format!("plugin.path={}", plugins.display()),
        format!("plugin.cache={}/../plugins-test/cache", plugins.display()),
        "plugin.store=store".to_owned(),
        "source.settle.time=0s".to_owned(),
        "sink.http.backoff.first=5ms".to_owned(),
    ] {
        command.args(["--set", &set]);
    }
    command.env("API_URL", api.url()).output().unwrap()
}

#[test]
fn defect_11_what_is_written_down_runs() {
    let rows: String = (0..250)
        .map(|n| format!("{n},\"{{\"\"value\"\": {n}}}\"\n"))
        .collect();
    let api = Api::new(|_, _| Reaction::Take);
    let rig = shipped(&api, &[("a.csv", &format!("id,json_data\n{rows}"))]);
    for _ in 0..2 {
        let output = run_shipped(&rig, &api);
        assert!(output.status.success(), "{}", said(&output));
    }
    once(&api, 250);
    assert_eq!(api.requests().len(), 3);
}

#[test]
fn defect_15_another_file_begins_at_its_own_beginning() {
    let api = Api::new(|_, _| Reaction::Take);
    let rows = |range: std::ops::Range<i64>| -> String {
        let rows: String = range
            .map(|n| format!("\"{{\"\"value\"\":{n}}}\"\n"))
            .collect();
        format!("json_data\n{rows}")
    };
    let rig = shipped(&api, &[("a.csv", &rows(0..120))]);
    assert!(run_shipped(&rig, &api).status.success());
    fs::write(rig.path("data/csv/b.csv"), rows(120..300)).unwrap();
    let output = run_shipped(&rig, &api);
    assert!(output.status.success(), "{}", said(&output));
    once(&api, 300);
}

#[test]
fn defect_16_cells_hold_json_with_quotes_and_line_breaks_and_an_empty_one_is_a_dead_letter() {
    let csv = "id,json_data\r\n\
               1,\"{\"\"value\"\": 0,\n  \"\"text\"\": \"\"a, \\\"\"b\\\"\" and\\nc\"\"}\"\r\n\
               2,\r\n\
               3,\"{\"\"value\"\": 1, \"\"text\"\": \"\"é\"\"}\"\r\n";
    let api = Api::new(|_, _| Reaction::Take);
    let rig = shipped(&api, &[("a.csv", csv)]);
    let output = run_shipped(&rig, &api);
    assert!(output.status.success(), "{}", said(&output));
    let rows = api.requests()[0].rows();
    assert_eq!(rows[0]["text"], "a, \"b\" and\nc");
    assert_eq!((rows.len(), &rows[1]["text"]), (2, &Value::from("é")));
    let told = rig.done(&["dlq", "show", "file:data/csv_to_api", "--json"]);
    assert!(
        told.lines().count() == 1 && told.contains("not_json"),
        "{told}"
    );
}

#[test]
fn every_2xx_is_a_success() {
    for status in [200, 201, 202, 204] {
        let api = Api::new(move |_, _| Reaction::Say(status, Vec::new(), String::new()));
        let rig = Rig::new(&api, "rows.total = 10\n", "", "");
        rig.ran();
        assert_eq!((api.requests().len(), rig.settled()), (1, 10), "{status}");
    }
}
