//! The daemon with zones on a real S3 server: what a config by REST may use with the machine's credentials; changed
//! rules, a rewind, a kill and a restart, and in the end each record once.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir::commit::{LogName, Role, verify};
use weir::config::Location;
use weir::store;

use crate::brokers::{files, until};
use crate::daemon_rig::{Rig, Running};
use crate::object_servers::{REGION, Server, credentials, s3};
use crate::world::log_at;

const PIPELINE: &str = "orders";
/// Until it is swapped, one column less.
const COLUMNS: [&str; 2] = ["id", "id,amount"];

struct Lake {
    rig: Rig,
    server: &'static Server,
    bucket: String,
}

impl Lake {
    fn new() -> Option<Lake> {
        let server = s3()?;
        Some(Lake {
            rig: Rig::new(&["lines"]),
            bucket: server.bucket("daemon"),
            server,
        })
    }

    /// The machine has credentials, and the worker's file says where configs by REST may use them.
    fn start(&mut self) -> Running {
        let allow = format!("secrets.allow.identity=s3://{}/team-a", self.bucket);
        let mut command = self.rig.command(&[&allow, "restart.backoff=100ms"]);
        command
            .envs(credentials())
            .env("AWS_ENDPOINT_URL_S3", self.server.endpoint())
            .env("AWS_REGION", REGION);
        self.rig.start_as(command)
    }

    fn config(&self, below: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let url = format!("s3://{}/{below}", self.bucket);
        let own = [
            ("sink.url", url.as_str()),
            ("transforms", "columns"),
            ("transforms.columns.type", "json-flatten"),
        ];
        self.rig.config("lines", &[&own[..], more].concat())
    }

    fn with_columns(&self, columns: &str) -> BTreeMap<String, String> {
        let types = ("transforms.columns.types.amount", "int");
        let mut more = vec![("transforms.columns.columns", columns)];
        more.extend((columns != COLUMNS[0]).then_some(types));
        self.config("team-a/zone", &more)
    }

    fn produce(&self, from: usize, to: usize) {
        let lines = (from..to).map(|n| format!("{{\"id\": \"{n}\", \"amount\": {n}}}"));
        let lines: Vec<String> = lines.collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.rig.produce("lines", &lines);
    }

    fn at(&self) -> Location {
        self.server.at(&self.bucket, "team-a/zone")
    }
}

fn reaches(daemon: &Running, lake: &Lake, wanted: i64) {
    until(&format!("position {wanted}"), || {
        let log = lake.rig.log();
        assert!(!log.contains("pipeline failed"), "{log}");
        (daemon.position(PIPELINE) == Some(wanted)).then_some(())
    });
}

fn refused(daemon: &Running, config: &BTreeMap<String, String>, says: &str) {
    let answer = daemon.put_config(PIPELINE, config);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains(says), "{}", answer.text());
}

fn stopped(daemon: &Running) {
    assert_eq!(
        daemon.ask("PUT", "/connectors/orders/stop", None).status,
        204
    );
    until("STOPPED", || {
        (daemon.state(PIPELINE) == "STOPPED").then_some(())
    });
}

#[test]
fn a_zone_on_s3_by_rest_is_confined_and_lives_through_swap_rewind_and_kill() {
    let Some(mut lake) = Lake::new() else { return };
    let daemon = lake.start();
    let columns = ("transforms.columns.columns", "id");
    refused(
        &daemon,
        &lake.config("team-b/zone", &[columns]),
        "secrets.allow.identity",
    );
    let endpoint = lake.server.endpoint();
    let elsewhere = [
        columns,
        ("sink.store.endpoint", &endpoint),
        ("sink.store.allow.http", "true"),
    ];
    refused(
        &daemon,
        &lake.config("team-a/zone", &elsewhere),
        "signed with the credentials of this machine",
    );

    let put = daemon.put_config(PIPELINE, &lake.with_columns(COLUMNS[0]));
    assert_eq!(put.status, 201, "{}", put.text());
    lake.produce(0, 10);
    reaches(&daemon, &lake, 10);
    // Other transforms alone: a swap.
    let put = daemon.put_config(PIPELINE, &lake.with_columns(COLUMNS[1]));
    assert_eq!(put.status, 200, "{}", put.text());
    lake.produce(10, 20);
    reaches(&daemon, &lake, 20);
    // Back to the middle; the records come again.
    stopped(&daemon);
    let to = json!({ "to": ["lines/0=10"] });
    let rewound = daemon.ask("POST", "/pipelines/orders/rewind", Some(&to));
    assert_eq!(rewound.status, 200, "{}", rewound.text());
    assert_eq!(daemon.position(PIPELINE), Some(10));
    assert_eq!(
        daemon.ask("PUT", "/connectors/orders/resume", None).status,
        202
    );
    reaches(&daemon, &lake, 20);
    lake.produce(20, 30);
    daemon.kill();
    let daemon = lake.start();
    reaches(&daemon, &lake, 30);
    let history = daemon.get("/pipelines/orders/history");
    stopped(&daemon);
    daemon.kill();
    each_once(&lake, 30, &history);
    let said = lake.rig.log();
    assert!(!said.contains(crate::object_servers::SECRET_KEY), "{said}");
}

fn each_once(lake: &Lake, records: u64, history: &Value) {
    let log = log_at(&lake.at(), PIPELINE, "zone").unwrap().unwrap();
    let totals = log.state().totals();
    assert!(totals.closes());
    assert_eq!(
        (totals.records.read, totals.rows.written),
        (records, records)
    );
    assert_eq!(log.state().periods.len(), 2, "{history:#}");
    let store = store::open(&lake.at()).unwrap();
    let verified = verify(store.as_ref(), &LogName::new(PIPELINE, "zone"));
    assert!(verified.unwrap().unwrap().problems.is_empty());
    let live = log
        .state()
        .live
        .values()
        .filter(|l| l.file.role == Role::Rows);
    let table = lake.server.files(&lake.bucket).join("team-a/zone/lines");
    assert_eq!(files(&table, ".parquet").len(), live.count());
}
