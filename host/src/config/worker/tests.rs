//! What the daemon's config takes and refuses.

use super::*;

fn problems(name: &str, text: &str) -> (Option<WorkerConfig>, Vec<(String, &'static str)>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("write");
    let (config, problems) = load(path.to_str().expect("utf-8"), &[]);
    let told = problems.into_iter().map(|p| (p.key, p.code));
    (config, told.collect())
}

#[test]
fn an_empty_file_is_a_daemon_of_this_machine_alone() {
    let (config, problems) = problems("worker.toml", "");
    assert_eq!(problems, []);
    let config = config.expect("config");
    assert_eq!(config.rest.listen[0].to_string(), "127.0.0.1:8083");
    assert!(config.rest.listen[0].is_loopback() && !config.rest.listen[0].tls);
    assert_eq!(config.rest.max_body, 1 << 20);
    assert_eq!(config.restart.attempts, 10);
    assert_eq!(config.plugin_store, Path::new("data/plugins/store"));
}

#[test]
fn every_problem_is_told_at_once_with_its_key() {
    let text = r#"
rest.listen = "0.0.0.0:8083"
rest.max.body = "1"
rest.tls.key = "key.pem"
rest.auth.read.only = "bob"
restart.atempts = 3
restart.backoff = "1h"
sink.url = "file:x"
store.map."s3://b" = "ftp://b"
"#;
    let (config, told) = problems("worker.toml", text);
    assert!(config.is_none());
    let told: Vec<(&str, &str)> = told.iter().map(|(k, c)| (k.as_str(), *c)).collect();
    for expected in [
        ("rest.listen", problem::CONTRADICTION),
        ("rest.max.body", problem::WRONG_UNIT),
        ("rest.tls.key", problem::CONTRADICTION),
        ("rest.auth.read.only", problem::CONTRADICTION),
        ("restart.atempts", problem::UNKNOWN_KEY),
        ("restart.backoff", problem::CONTRADICTION),
        ("sink.url", problem::UNKNOWN_KEY),
        ("store.map.s3://b", problem::BAD_URL),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
}

#[test]
fn secrets_stand_as_references_only() {
    let key = "rest.auth.basic.alice";
    for literal in ["hunter2", "${env:WEIR_NO_SUCH:-hunter2}"] {
        let (_, told) = problems("worker.toml", &format!("{key} = \"{literal}\"\n"));
        assert_eq!(told, [(key.to_owned(), problem::LITERAL_SECRET)]);
    }
    let (_, told) = problems(
        "worker.toml",
        &format!("{key} = \"${{env:WEIR_NO_SUCH}}\"\n"),
    );
    assert_eq!(told, [(key.to_owned(), problem::UNRESOLVED)]);
    let text = format!(
        "rest.listen = \"[::]:0\"\n{key} = \"${{env:HOME}}\"\nrest.auth.read.only = \"alice\"\n"
    );
    let (config, told) = problems("worker.toml", &text);
    assert_eq!(told, []);
    let rest = config.expect("config").rest;
    assert_eq!(rest.basic["alice"].typed(), "${env:HOME}");
    assert!(rest.read_only.contains("alice"));
}

#[test]
fn a_connect_workers_file_is_read_and_what_decides_nothing_is_said() {
    let text = "listeners=http://127.0.0.1:18083,HTTP://localhost:18084\nbootstrap.servers=k:9092\n\
                rest.advertised.host.name=me\ntask.shutdown.graceful.timeout.ms=7000\n\
                key.converter=org.apache.kafka.connect.storage.StringConverter\ngroup.id=x\n";
    let (config, told) = problems("connect-distributed.properties", text);
    assert_eq!(told, []);
    let config = config.expect("config");
    assert!(config.idle.missed[0].starts_with("group.id: "));
    assert_eq!(config.theirs.connector.len(), 1);
    assert_eq!(config.rest.listen[1].to_string(), "localhost:18084");
    assert_eq!(config.rest.advertised.as_deref(), Some("me:18083"));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(7));
    assert_eq!(config.bootstrap_servers.as_deref(), Some("k:9092"));
    let (_, told) = problems("x.properties", "listeners=https://127.0.0.1:1\n");
    assert_eq!(told, [("listeners".to_owned(), problem::CONTRADICTION)]);
    let (_, told) = problems("x.properties", "listeners=http://:8083\n");
    assert_eq!(told, [("listeners".to_owned(), problem::CONTRADICTION)]);
}
