//! A committed file whose upload the store has lost (O11): who notices, what each command says, and the way on that docs/stores.md
//! describes, step by step.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use weir::commit::{Log, verify};
use weir::kafka::MockBroker;
use weir::store;

use crate::brokers::{files, until};
use crate::endings::{Case, stderr, stdout};
use crate::object_servers::{REGION, Server, credentials, own_s3};
use crate::proxy::{Fault, INTERNAL, Proxy, Verb, What};
use crate::world::log_at;

/// A pipeline with a zone on S3.
struct Lake {
    case: Case,
    server: Server,
    bucket: String,
    config: String,
}

impl Lake {
    /// The config, with the zone on S3 at this endpoint.
    fn declare(&self, endpoint: &str) {
        self.case.config("raw", "lines", "");
        let path = self.case.path(&self.config);
        let text = fs::read_to_string(&path).unwrap();
        let url = format!("url = \"s3://{}/zone\"", self.bucket);
        let store = format!(
            "[sink.store]\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\nallow.http = true\nretries = 0\n"
        );
        let text = text.replace("url = \"file:raw\"", &url);
        fs::write(&path, format!("{text}{store}")).unwrap();
    }

    /// `weir VERBS… raw.toml …`
    fn weir(&self, verbs: &[&str], more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.case.dir.path());
        command.args(verbs).arg(&self.config).args(more);
        command.envs(credentials()).output().unwrap()
    }

    fn run(&self) -> Output {
        let mut command = self
            .case
            .command(&[self.config.as_str(), "--available-now"]);
        command.envs(credentials()).output().unwrap()
    }

    fn log(&self) -> Option<Log> {
        log_at(&self.server.at(&self.bucket, "zone"), "raw", "zone").unwrap()
    }
}

/// Commits a file and never completes it; the process ends, and the store loses the parts, as a server does that is killed inside of
/// a completion.
fn lose_a_file(lake: &Lake) {
    let proxy = Proxy::before(lake.server.addr());
    proxy.decide(|asked| match (asked.verb, asked.what) {
        (Verb::Complete, What::Data) => Fault::Refused(INTERNAL),
        _ => Fault::None,
    });
    lake.declare(&proxy.endpoint());
    let running = lake.case.start_with(&[&lake.config], &|command| {
        command.envs(credentials());
    });
    until("the second commit", || {
        let live = lake.log()?.state().live.len();
        (live == 2).then_some(())
    });
    running.signal("KILL");
    drop(running.wait());
    lake.declare(&lake.server.endpoint());
    let uploads = lake.server.files(&lake.bucket).join(".sgwtmp/multipart");
    fs::remove_dir_all(&uploads).unwrap();
}

/// It failed, and says so.
fn says(output: &Output, what: &[&str]) {
    let said = format!("{}{}", stdout(output), stderr(output));
    assert!(!output.status.success(), "{said}");
    for what in what {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn a_file_whose_upload_is_lost_is_named_and_its_records_are_read_again() {
    let Some(server) = own_s3() else { return };
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let lake = Lake {
        case: Case::new(broker.bootstrap()),
        bucket: server.bucket("lost"),
        server,
        config: "raw.toml".to_owned(),
    };
    lake.declare(&lake.server.endpoint());
    lake.case.produce("lines", &["one", "two"]);
    let first = lake.run();
    assert!(first.status.success(), "{}", stderr(&first));
    lake.case.produce("lines", &["three", "four"]);
    lose_a_file(&lake);

    let listed = lake.weir(&["zone", "ls"], &["--orphans", "--json"]);
    let left: Value = serde_json::from_str(stdout(&listed).trim()).unwrap();
    assert_eq!(left["state"], "to be published", "{left}");
    let path = left["path"].as_str().unwrap();
    says(&lake.weir(&["zone", "verify"], &[]), &[path]);
    let back = ["lines/0=2", "--json"];
    let refused = lake.weir(&["pipeline", "rewind"], &back);
    says(&refused, &[path, "docs/stores.md#a-file-that-is-lost"]);

    // The operator's word that nothing can complete it any more.
    let intent = format!(
        "zone/_system/raw/zone/staging/{}",
        left["file"].as_str().unwrap()
    );
    fs::remove_file(lake.server.files(&lake.bucket).join(intent)).unwrap();
    says(
        &lake.run(),
        &[path, "log_corrupt", "docs/stores.md#a-file-that-is-lost"],
    );
    let rewound = lake.weir(&["pipeline", "rewind"], &back);
    assert!(rewound.status.success(), "{}", stderr(&rewound));
    let again = lake.run();
    assert!(again.status.success(), "{}", stderr(&again));
    let log = lake.log().unwrap();
    assert_eq!(log.state().totals().rows.written, 4);
    let store = store::open(&lake.server.at(&lake.bucket, "zone")).unwrap();
    let found = verify(store.as_ref(), log.name()).unwrap().unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let shown = files(
        &lake.server.files(&lake.bucket).join("zone/lines"),
        ".parquet",
    );
    assert_eq!(shown.len(), log.state().live.len());
}
