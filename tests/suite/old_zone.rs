//! A zone that was written some days ago: files, entries and their order stay as the program wrote them, and only their ages
//! change. What a log forgets and what may be compacted depends on ages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use weir::clock::{Clock, SystemClock};
use weir::commit::{Draft, Log, LogName, Swap, Writer, digest};
use weir::store;

use crate::brokers::files;

/// As many entries as it takes until the log knows what time it is: it keeps the time of every fourth.
const LATER: usize = 5;

/// Moves everything that the log of `name` below `root` has so many days into the past, with a few entries behind it; then
/// come some of today.
pub fn age(root: &Path, name: &LogName, days: i64) {
    later(root, name);
    let micros = days * 24 * 3600 * 1_000_000;
    let log = root.join(name.log_dir());
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    let mut parent = String::new();
    for path in files(&log, ".json") {
        let text = fs::read_to_string(&path).unwrap();
        let mut entry: Value = serde_json::from_str(&text).unwrap();
        let mut dates: BTreeMap<String, String> = BTreeMap::new();
        for file in entry["add"].as_array().into_iter().flatten() {
            let id = file["id"].as_str().unwrap();
            renamed.insert(id.to_owned(), older(id, micros));
            if let Some(date) = file["partition_values"]["ingest_date"].as_str() {
                let day: jiff::civil::Date = date.parse().unwrap();
                let day = day.checked_sub(jiff::Span::new().days(days)).unwrap();
                dates.insert(date.to_owned(), day.to_string());
            }
            let path = file["path"].as_str().unwrap();
            let mut new = path.replace(id, &renamed[id]);
            for (date, older) in &dates {
                new = new.replace(date, older);
            }
            let new = root.join(new);
            fs::create_dir_all(new.parent().unwrap()).unwrap();
            fs::rename(root.join(path), new).unwrap();
        }
        entry["time"] = (entry["time"].as_i64().unwrap() - micros).into();
        // The order of fields is part of the form: the text is changed, not written anew.
        let mut new = text;
        for (id, older) in &renamed {
            new = new.replace(id, older);
        }
        for (date, older) in &dates {
            new = new.replace(date, older);
        }
        let time = |entry: &Value| format!("\"time\":{}", entry["time"]);
        let before: Value = serde_json::from_str(&new).unwrap();
        new = new.replacen(&time(&before), &time(&entry), 1);
        let was = format!("\"parent\":{}", before["parent"]);
        new = new.replacen(&was, &format!("\"parent\":\"{parent}\""), 1);
        fs::write(&path, &new).unwrap();
        parent = digest(new.as_bytes());
    }
    for checkpoint in files(&root.join(name.dir()).join("checkpoint"), ".json") {
        fs::remove_file(checkpoint).unwrap();
    }
    later(root, name);
}

fn older(id: &str, micros: i64) -> String {
    let id = ulid::Ulid::from_string(id).unwrap();
    let time = id.timestamp_ms() - u64::try_from(micros / 1000).unwrap();
    ulid::Ulid::from_parts(time, id.random()).to_string()
}

/// Swaps to the rules that are in force: entries that change nothing.
pub fn later(root: &Path, name: &LogName) {
    let mut log = open(root, name);
    for _ in 0..LATER {
        let swap = Swap {
            replaces: log.state().generation(),
            transforms: log.state().rules.transforms.clone(),
            actor: "test".into(),
            reason: "time passes".into(),
            block: Vec::new(),
            force: false,
            declared: Some(log.state().declared.clone()),
        };
        log.commit(Draft::Swap(swap)).unwrap();
    }
}

pub fn open(root: &Path, name: &LogName) -> Log {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let store = store::open_url(&format!("file:{}", root.display())).unwrap();
    let writer = Writer::this_process(&*clock);
    Log::open(store, name.clone(), clock, writer)
        .unwrap()
        .unwrap()
}
