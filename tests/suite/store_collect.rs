//! A running pipeline empties the plugin store of what no log names any more, and of nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir::commit::digest;
use weir::plugin::PluginStore;

use crate::brokers::{files, until};
use crate::case::{Case, Running};

const DAYS: u64 = 24 * 3600;

const KEYS: &str = "source.type = \"rate\"\nsource.rows.per.second = 100\nsink.type = \"zone\"\nsink.url = \"file:zone\"\n\
                    sink.rotate.age = \"100ms\"\nplugin.retention = \"90d\"\n";
const RULES: &str =
    "[[transforms]]\nname = \"columns\"\ntype = \"json-flatten\"\ncolumns = \"value\"\n";

struct Rig {
    case: Case,
    store: PluginStore,
}

impl Rig {
    fn new() -> Rig {
        let case = Case::new("raw", "zone");
        case.declare(KEYS, RULES);
        let store = PluginStore::at(case.path("store"));
        let rig = Rig { case, store };
        let running = rig.runs();
        until("it runs", || (rig.case.settled() > 0).then_some(()));
        running.stop();
        rig
    }

    fn runs(&self) -> Running {
        fs::remove_file(self.case.path("weir.log")).ok();
        self.case.spawn()
    }

    /// Something that no log names.
    fn junk(&self, text: &str) -> PathBuf {
        let digest = digest(text.as_bytes());
        self.store.put_blob(&digest, text.as_bytes()).unwrap();
        self.store.blob_path(&digest).unwrap()
    }

    /// All of it was put there so many days ago, and that was when its users became known; the last look was yesterday.
    fn age(&self, days: u64) {
        for path in files(self.store.root(), "") {
            set(&path, days);
        }
        for path in files(&self.store.root().join("users"), "") {
            let text = fs::read_to_string(&path).unwrap();
            let mut user: serde_json::Value = serde_json::from_str(&text).unwrap();
            let since = ago(days).duration_since(UNIX_EPOCH).unwrap().as_micros();
            user["since"] = u64::try_from(since).unwrap().into();
            fs::write(&path, user.to_string()).unwrap();
        }
        set(&self.store.root().join("collected"), 2);
    }

    fn said(&self) -> String {
        fs::read_to_string(self.case.path("weir.log")).unwrap_or_default()
    }
}

fn ago(days: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(days * DAYS)
}

fn set(path: &Path, days: u64) {
    let file = fs::File::options().append(true).create(true).open(path);
    file.unwrap().set_modified(ago(days)).unwrap();
}

fn age_of(path: &Path) -> Duration {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    modified.elapsed().unwrap_or_default()
}

#[test]
fn what_no_log_names_leaves_the_plugin_store_after_its_retention() {
    let rig = Rig::new();
    let users = rig.store.users().unwrap();
    assert_eq!((users.len(), users[0].pipeline.as_str()), (1, "raw"));
    let needed = files(&rig.store.root().join("blobs"), "").len();
    let old = rig.junk("nobody's, for long");
    rig.age(91);
    let young = rig.junk("nobody's, since today");
    // What a log names is the only copy: the run that comes finds all of it there.
    let running = rig.runs();
    until("it is deleted", || (!old.exists()).then_some(()));
    until("it says so", || {
        let words = "what no log names any more was deleted from the plugin store";
        rig.said().contains(words).then_some(())
    });
    running.stop();
    assert!(young.exists());
    let left = files(&rig.store.root().join("blobs"), "").len();
    assert_eq!(left, needed + 1);
    assert!(age_of(&rig.store.root().join("collected")) < Duration::from_secs(DAYS));
    // Once a day, whoever runs.
    set(&young, 91);
    let running = rig.runs();
    let before = rig.case.settled();
    until("it runs", || (rig.case.settled() > before).then_some(()));
    running.stop();
    assert!(young.exists());
}

#[test]
fn nothing_leaves_the_plugin_store_while_a_log_that_uses_it_is_away_or_not_known_for_long() {
    let rig = Rig::new();
    let junk = rig.junk("nobody's");
    let quiet = |words: Option<&str>| {
        let running = rig.runs();
        let before = rig.case.settled();
        until("it looked", || {
            let looked = age_of(&rig.store.root().join("collected")).as_secs() < DAYS;
            let told = words.is_none_or(|words| rig.said().contains(words));
            (looked && told && rig.case.settled() > before).then_some(())
        });
        running.stop();
        assert!(junk.exists(), "{}", rig.said());
    };
    // Older versions did not say which logs use it: they have run last before it was known.
    rig.age(89);
    set(&junk, 91);
    quiet(None);
    // Another pipeline, whose zone is on a disk that is away.
    let gone = "file:///nowhere/zone";
    let log = weir::commit::LogName::new("other", "zone");
    rig.store.used_by(gone, &log, 0).unwrap();
    rig.age(91);
    quiet(Some("nothing was deleted from the plugin store"));
    assert!(rig.said().contains(gone), "{}", rig.said());
    assert!(rig.said().contains("users/"), "{}", rig.said());
}
