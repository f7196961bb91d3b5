//! A Kafka Connect worker's file as the daemon's config: what it says about security, access, converters and folders is
//! honoured or refused by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use weir::config::worker::{self, WorkerConfig};
use weir::config::{Problem, Source};
use weir::connect::{Defaults, S3_SINK};
use weir::connectors::kafka::KafkaSourceConfig;
use weir::daemon::Job;
use weir::filestream::FileJob;

use crate::convert;
use crate::rest_rig::Rig;

const LOGIN: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"u\" password=\"hunter2\";";

fn read(text: &str) -> (Option<WorkerConfig>, Vec<Problem>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("connect-distributed.properties");
    fs::write(&path, text).unwrap();
    worker::load(path.to_str().unwrap(), &[])
}

fn good(text: &str) -> WorkerConfig {
    let (config, problems) = read(text);
    assert!(problems.is_empty(), "{problems:?}");
    config.unwrap()
}

fn defaults(worker: &WorkerConfig) -> Defaults {
    Defaults {
        bootstrap_servers: worker.bootstrap_servers.clone(),
        theirs: worker.theirs.clone(),
        ..convert::defaults()
    }
}

fn job(worker: &WorkerConfig, set: &[(&str, &str)]) -> Result<Job, Vec<Problem>> {
    let mut config: BTreeMap<String, String> = convert::base();
    config.remove("value.converter");
    for (key, value) in set {
        config.insert((*key).to_owned(), (*value).to_owned());
    }
    weir::daemon::job_of(&config, &defaults(worker))
}

/// librdkafka's properties of a sink, resolved.
fn properties(job: &Job) -> BTreeMap<String, String> {
    let Job::Pipeline(config) = job else {
        panic!("{job:?}");
    };
    let Source::Records(records) = &config.source else {
        panic!("{config:?}");
    };
    let kafka = records.as_any().downcast_ref::<KafkaSourceConfig>();
    kafka.unwrap().client_properties().unwrap()
}

fn sasl(more: &str) -> String {
    format!(
        "bootstrap.servers=broker:9092\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n\
         sasl.jaas.config={LOGIN}\nssl.truststore.type=PEM\nssl.truststore.location=/etc/ca.pem\n\
         value.converter=org.apache.kafka.connect.storage.StringConverter\n{more}"
    )
}

#[test]
fn a_worker_that_demands_a_login_gives_it_to_its_connectors() {
    let worker = good(&sasl(
        "consumer.sasl.mechanism=PLAIN\nconsumer.fetch.min.bytes=17\n",
    ));
    let made = job(&worker, &[]).unwrap();
    let got = properties(&made);
    for (name, value) in [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "u"),
        ("sasl.password", "hunter2"),
        ("ssl.ca.location", "/etc/ca.pem"),
        ("fetch.min.bytes", "17"),
        ("bootstrap.servers", "broker:9092"),
    ] {
        assert_eq!(got.get(name).map(String::as_str), Some(value), "{name}");
    }
    // Wherever a config is shown, a reference stands for it.
    for shown in [
        format!("{worker:?}"),
        format!("{made:?}"),
        format!("{:?}", worker.theirs),
    ] {
        let own = shown.replace(LOGIN, "");
        assert!(
            !own.replace("\\\"hunter2\\\"", "").contains("hunter2"),
            "{own}"
        );
    }
    // A connector's own word wins.
    let own = job(
        &worker,
        &[("consumer.override.security.protocol", "PLAINTEXT")],
    )
    .unwrap();
    let got = properties(&own);
    assert_eq!(got["security.protocol"], "PLAINTEXT");
    assert!(!got.contains_key("sasl.password") && !got.contains_key("ssl.ca.location"));
    // Our own class talks to the worker's brokers the same way.
    let native = BTreeMap::from(
        [
            ("connector.class", "weir"),
            ("name", "n"),
            ("source.type", "kafka"),
            ("source.topics", "t"),
            ("source.start", "earliest"),
            ("sink.type", "zone"),
            ("sink.url", "file:/tmp/x"),
            ("sink.table", "t"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let native = weir::daemon::job_of(&native, &defaults(&worker)).unwrap();
    assert_eq!(properties(&native)["sasl.password"], "hunter2");
}

#[test]
fn other_brokers_never_see_the_workers_login() {
    let worker = good(&sasl(""));
    let elsewhere = ("consumer.override.bootstrap.servers", "evil:9092");
    let problems = job(&worker, &[elsewhere]).unwrap_err();
    let told = problems
        .iter()
        .find(|p| p.key == elsewhere.0)
        .expect("told");
    assert!(told.to_string().contains("not the worker's"), "{told}");
    let plain = ("consumer.override.security.protocol", "PLAINTEXT");
    let got = properties(&job(&worker, &[elsewhere, plain]).unwrap());
    assert!(!got.values().any(|value| value == "hunter2"), "{got:?}");
}

#[test]
fn what_cannot_be_honoured_stops_the_start_by_name() {
    for (text, key) in [
        ("sasl.mechanism=GSSAPI", "sasl.mechanism"),
        (
            "consumer.sasl.mechanism=OAUTHBEARER",
            "consumer.sasl.mechanism",
        ),
        (
            "ssl.truststore.location=/etc/trust.jks",
            "ssl.truststore.location",
        ),
        (
            "producer.ssl.keystore.location=/etc/keys.jks",
            "producer.ssl.keystore.location",
        ),
        (
            "sasl.login.callback.handler.class=x.Y",
            "sasl.login.callback.handler.class",
        ),
        ("security.providers=x.Y", "security.providers"),
        ("security.protocol=TLS", "security.protocol"),
        ("ssl.no.such=1", "ssl.no.such"),
        ("ssl.client.auth=required", "ssl.client.auth"),
        (
            "listeners.https.ssl.client.auth=required",
            "listeners.https.ssl.client.auth",
        ),
        ("rest.extension.classes=x.Y", "rest.extension.classes"),
        (
            "rest.servlet.initializor.classes=x.Y",
            "rest.servlet.initializor.classes",
        ),
        (
            "connector.client.config.override.policy=x.Mine",
            "connector.client.config.override.policy",
        ),
        (
            "config.providers=vault\nconfig.providers.vault.class=x.VaultConfigProvider",
            "config.providers.vault.class",
        ),
        (
            "config.providers=env\nconfig.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\nconfig.providers.env.param.allowlist.pattern=A.*",
            "config.providers.env.param.allowlist.pattern",
        ),
        (
            "consumer.interceptor.classes=x.Encrypting",
            "consumer.interceptor.classes",
        ),
        (
            "response.http.headers.config=set X-Frame-Options: DENY",
            "response.http.headers.config",
        ),
    ] {
        let (config, problems) = read(&format!("bootstrap.servers=b:9092\n{text}\n"));
        let told: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
        assert!(config.is_none() && told == [key], "{text}: {problems:?}");
        assert!(problems[0].hint.is_some(), "{text}");
    }
}

#[test]
fn a_start_that_is_refused_says_the_key_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker.properties");
    fs::write(&path, sasl("ssl.keystore.location=/etc/keys.jks\n")).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["daemon", path.to_str().unwrap(), "--data-dir"])
        .arg(dir.path().join("d"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{told}");
    assert!(
        told.contains("ssl.keystore.location") && told.contains("PKCS12"),
        "{told}"
    );
    assert!(
        !told.contains("hunter2") && !dir.path().join("d").exists(),
        "{told}"
    );
}

#[test]
fn what_decides_nothing_is_said_with_its_reason() {
    let worker = good(
        "group.id=g\nconfig.storage.topic=c\noffset.flush.interval.ms=1\nmade.up=1\nadmin.security.protocol=SSL\n\
         exactly.once.source.support=enabled\nconsumer.interceptor.classes=io.confluent.monitoring.clients.interceptor.MonitoringConsumerInterceptor\n\
         sasl.mechanism=PLAIN\n",
    );
    let missed = worker.idle.missed.join("\n");
    for word in [
        "group.id",
        "config.storage.topic",
        "daemons share nothing",
        "exactly.once.source.support",
        "security.protocol is PLAINTEXT",
    ] {
        assert!(missed.contains(word), "{word}: {missed}");
    }
    let idle: Vec<&str> = worker.idle.keys.keys().map(String::as_str).collect();
    assert_eq!(
        idle,
        [
            "admin.security.protocol",
            "consumer.interceptor.classes",
            "made.up",
            "offset.flush.interval.ms"
        ]
    );
}

#[test]
fn the_workers_converter_is_that_of_connectors_that_name_none() {
    let json = "value.converter=org.apache.kafka.connect.json.JsonConverter\n";
    let of = |text: &str| good(&format!("bootstrap.servers=b:9092\n{text}"));
    let plain = of("value.converter=org.apache.kafka.connect.storage.StringConverter\n");
    job(&plain, &[]).expect("the worker's");
    job(&of(""), &[]).expect_err("no worker says one");
    // As Connect: keys of a converter that the connector does not name would be passed over. Where that changes what is read,
    // it is said.
    let flatten = [
        ("transforms", "c"),
        ("transforms.c.type", "json-flatten"),
        ("transforms.c.columns", "id"),
    ];
    let schemas = ("value.converter.schemas.enable", "false");
    let told = job(&of(json), &[flatten[0], flatten[1], flatten[2], schemas]).unwrap_err();
    assert_eq!(told[0].key, schemas.0, "{told:?}");
    let same = of(&format!("{json}value.converter.schemas.enable=false\n"));
    let made = job(&same, &[flatten[0], flatten[1], flatten[2], schemas]).expect("the same");
    let Job::Pipeline(config) = made else {
        panic!("no pipeline")
    };
    assert_eq!(config.canonical()["transforms.c.columns"], "id");
    let envelope = job(&of(json), &flatten).expect("an envelope");
    let Job::Pipeline(config) = envelope else {
        panic!("no pipeline")
    };
    assert_eq!(config.canonical()["transforms.c.envelope"], "true");
    // File connectors too.
    let file = BTreeMap::from(
        [
            ("name", "n"),
            ("connector.class", "FileStreamSource"),
            ("file", "/tmp/x"),
            ("topic", "t"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let Job::File(FileJob::Source(made)) =
        weir::daemon::job_of(&file, &defaults(&of(json))).unwrap()
    else {
        panic!("no source")
    };
    let native = made.pipeline.canonical();
    assert_eq!(native["sink.value.format"], "json-envelope");
    assert_eq!(S3_SINK, "io.confluent.connect.s3.S3SinkConnector");
}

#[test]
fn a_policy_of_overrides_holds_for_every_class() {
    for (policy, key, refused) in [
        ("None", "consumer.override.bootstrap.servers", true),
        ("None", "source.kafka.fetch.min.bytes", true),
        ("None", "source.bootstrap.servers", true),
        ("Principal", "consumer.override.sasl.mechanism", false),
        ("All", "consumer.override.bootstrap.servers", false),
    ] {
        let rig = Rig::new(&[
            ("bootstrap.servers", "127.0.0.1:1"),
            ("connector.client.config.override.policy", policy),
            (
                "value.converter",
                "org.apache.kafka.connect.storage.StringConverter",
            ),
        ]);
        let mut config = json!({
            "connector.class": "FileStreamSink", "topics": "t",
            "file": rig.dir.path().join("out").display().to_string(),
        });
        config[key] = json!("127.0.0.1:2");
        let body = json!({ "name": "n", "initial_state": "STOPPED", "config": config });
        let reply = rig.send("POST", "/connectors", &body);
        let told = format!("The '{policy}' policy does not allow");
        assert_eq!(
            reply.text().contains(&told),
            refused,
            "{policy} {key}: {}",
            reply.text()
        );
    }
}

#[test]
fn logins_of_connects_own_extension_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("users.properties"), "alice=wonder\nbob=builder\n").unwrap();
    let jaas = format!(
        "KafkaConnect {{\n org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule required\n file=\"{}\";\n}};\n",
        path("users.properties")
    );
    fs::write(path("jaas.conf"), jaas).unwrap();
    let text = "rest.extension.classes=org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension\n";
    fs::write(path("worker.properties"), text).unwrap();
    let start = |opts: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(dir.path()).env("KAFKA_OPTS", opts);
        command.args(["daemon", "worker.properties", "--set", "log.format=json"]);
        command.args(["--data-dir", "d", "--listen", "127.0.0.1:0"]);
        command
    };
    let out = start("").output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{told}");
    assert!(
        told.contains("rest.extension.classes") && told.contains("rest.auth.basic."),
        "{told}"
    );
    let mut rig = crate::daemon_rig::Rig::new(&[]);
    let opts = format!(
        "-Xmx1g -Djava.security.auth.login.config={}",
        path("jaas.conf")
    );
    let daemon = rig.start_as(start(&opts));
    let ask = |login: &str| {
        let login = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, login);
        let header = format!("Basic {login}");
        let headers = [("Authorization".to_owned(), header)];
        crate::connect_http::ask(daemon.addr, "GET", "/connectors", &headers, None)
            .unwrap()
            .status
    };
    assert_eq!(ask("alice:wonder"), 200);
    assert_eq!(ask("alice:builder"), 401);
    assert_eq!(daemon.ask("GET", "/connectors", None).status, 401);
}

#[test]
fn a_list_of_java_folders_is_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str, file: &str| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(file), "").unwrap();
        folder.display().to_string()
    };
    let (java, ours) = (folder("java", "a.jar"), folder("ours", "cast.wasm"));
    let of = |list: &str| good(&format!("plugin.path={list}\n"));
    let worker = of(&format!("{java},/no/such,{ours},"));
    assert_eq!(worker.plugin_path.display().to_string(), ours);
    assert!(worker.plugin_store.starts_with(&ours));
    let told: Vec<&str> = worker.idle.keys.keys().map(String::as_str).collect();
    let mut want = [
        format!("plugin.path {java}"),
        "plugin.path /no/such".to_owned(),
    ];
    want.sort();
    assert_eq!(told, want);
    for list in [java.clone(), format!("{java},/no/such")] {
        assert_eq!(of(&list).plugin_path, good("").plugin_path, "{list}");
    }
    assert_eq!(of("/not/yet").plugin_path.display().to_string(), "/not/yet");
    let second = folder("second", "mask.wasm");
    let (config, problems) = read(&format!("plugin.path={ours},{second}\n"));
    assert!(
        config.is_none() && problems[0].key == "plugin.path",
        "{problems:?}"
    );
}

#[test]
fn references_of_connects_providers_resolve_under_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("s.properties");
    fs::write(&secrets, "password=hunter2\n").unwrap();
    let allowed = dir.path().display().to_string();
    let rig = Rig::new(&[
        ("bootstrap.servers", "127.0.0.1:1"),
        ("config.providers", "vault,files,mounted"),
        (
            "config.providers.vault.class",
            "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
        ),
        (
            "config.providers.files.class",
            "org.apache.kafka.common.config.provider.FileConfigProvider",
        ),
        ("config.providers.files.param.allowed.paths", &allowed),
        (
            "config.providers.mounted.class",
            "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
        ),
    ]);
    let config = |password: &str| {
        json!({ "name": "n", "initial_state": "STOPPED", "config": {
            "connector.class": "FileStreamSink", "topics": "t", "consumer.override.sasl.password": password,
            "consumer.override.security.protocol": "SASL_SSL", "consumer.override.sasl.mechanism": "PLAIN",
            "consumer.override.sasl.username": "me",
            "file": rig.dir.path().join("out").display().to_string(),
        }})
    };
    let typed = format!("${{files:{}:password}}", secrets.display());
    let reply = rig.send("POST", "/connectors", &config(&typed));
    assert_eq!(reply.status, 201, "{}", reply.text());
    let kept = &reply.json()["config"]["consumer.override.sasl.password"];
    assert_eq!(*kept, typed.as_str());
    let mounted = |dir: &str| json!({ "consumer.override.sasl.password": format!("${{mounted:{dir}:s.properties}}") });
    let reply = rig.send("PATCH", "/connectors/n/config", &mounted("/etc"));
    assert_eq!(reply.status, 400, "{}", reply.text());
    let reply = rig.send("PATCH", "/connectors/n/config", &mounted(&allowed));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = rig.send("POST", "/connectors", &config("${other:x}"));
    assert_eq!(reply.status, 409, "{}", reply.text());
}

#[test]
fn paths_that_a_provider_allows_are_those_of_secrets() {
    let worker = good(
        "bootstrap.servers=b:9092\nconfig.providers=file\n\
         config.providers.file.class=org.apache.kafka.common.config.provider.FileConfigProvider\n\
         config.providers.file.param.allowed.paths=/etc/a,/etc/b\n",
    );
    assert_eq!(
        worker.allow.files,
        [Path::new("/etc/a"), Path::new("/etc/b")]
    );
    assert!(worker.allow.env.is_empty() && worker.allow.roots.is_empty());
}

#[test]
fn a_secret_that_the_daemon_would_refuse_is_a_warning_of_check_and_convert() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("s3.properties");
    let mut text = String::from("store.url=file:///tmp/x\naws.secret.access.key=hunter2\n");
    for (key, value) in convert::base() {
        text.push_str(&format!("{key}={value}\n"));
    }
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("utf-8");
    for args in [
        &["config", "convert", path][..],
        &[
            "check",
            "--no-plugins",
            "--set",
            "source.bootstrap.servers=b:1",
            path,
        ],
    ] {
        let output = convert::weir(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("warning[literal_secret]: `aws.secret.access.key`")
                && said.contains(":2:1"),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// A key of the class that stands beside one that is refused is no stranger.
#[test]
fn keys_beside_a_refused_one_are_known() {
    let mut config = convert::base();
    for (key, value) in [
        ("partitioner.class", "com.example.MyPartitioner"),
        ("path.format", "YYYY"),
        ("timezone", "UTC"),
        ("partition.duration.ms", "3600000"),
    ] {
        config.insert(key.to_owned(), value.to_owned());
    }
    let problems = weir::daemon::job_of(&config, &convert::defaults()).expect_err("a Java class");
    let keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["partitioner.class"], "{problems:?}");
}

#[test]
fn brokers_of_the_worker_are_for_sources_of_topics_alone() {
    let worker = good("bootstrap.servers=b:9092\n");
    let file = [("source.url", "file:in"), ("source.format", "jsonl")];
    let rate = [("source.rows.per.second", "1"), ("source.rows.total", "5")];
    let zone = [("source.url", "file:raw"), ("source.pipeline", "raw")];
    for (source, keys) in [("file", file), ("rate", rate), ("zone", zone)] {
        let always = [
            ("name", "n"),
            ("connector.class", "weir"),
            ("source.type", source),
            ("sink.type", "zone"),
            ("sink.url", "file:zone"),
            ("sink.table", "t"),
            ("source.table", "t"),
            ("sink.partition.field", "day"),
        ];
        let all = always.into_iter().chain(keys);
        let of_zone = ["source.table", "sink.partition.field"];
        let all = all.filter(|(key, _)| source == "zone" || !of_zone.contains(key));
        let config = all.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let job = weir::daemon::job_of(&config, &defaults(&worker));
        assert!(job.is_ok(), "{source}: {job:?}");
    }
}
