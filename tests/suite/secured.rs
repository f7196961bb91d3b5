//! A broker with logins: a lasting refusal ends a pipeline at once with the broker's reason, everywhere.

use std::fs;
use std::process::Command;

use weir::kafka::testkit::{Admin, May, On};

use crate::brokers::{Broker, More, free_ports, own_kafka_with, until};
use crate::daemon_rig::Rig;
use crate::doctor::{Looks, doctor};
use crate::endings::{Case, stderr, stdout, told_once};
use crate::papers::Paper;

/// Apache Kafka with a listener for users and one for certificates.
struct Secured {
    broker: Broker,
    dir: tempfile::TempDir,
    sasl: u16,
    mutual: u16,
    ca: String,
    other_ca: String,
}

fn users(password: &str) -> String {
    format!(
        "listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         user_alice=\"{password}\";\n"
    )
}

impl Secured {
    fn start() -> Option<Secured> {
        Secured::start_with("")
    }

    /// With more lines of `server.properties`.
    fn start_with(lines: &str) -> Option<Secured> {
        let dir = tempfile::tempdir().unwrap();
        let ca = Paper::new("weir test CA", None);
        let store = Paper::new("broker", Some(&ca)).both(dir.path(), "broker.pem");
        let other_ca = Paper::new("another CA", None).certificate(dir.path(), "other.pem");
        let ca_file = ca.certificate(dir.path(), "ca.pem");
        let client = Paper::new("client", Some(&ca));
        client.certificate(dir.path(), "client.pem");
        client.key(dir.path(), "client.key");
        let (sasl, mutual) = free_ports();
        let secured = Secured {
            broker: {
                let mut more = more(sasl, mutual, &store, &ca_file, "secret");
                more.lines.push_str(lines);
                own_kafka_with(&more)?
            },
            dir,
            sasl,
            mutual,
            ca: ca_file,
            other_ca,
        };
        let admin = Admin::connect(secured.broker.bootstrap()).unwrap();
        admin.create_topic("lines", 1, &[]).unwrap();
        let plain = Case::new(secured.broker.bootstrap());
        plain.produce("lines", &["one"]);
        Some(secured)
    }

    fn with(&self, password: &str) -> More {
        let store = self.dir.path().join("broker.pem").display().to_string();
        more(self.sasl, self.mutual, &store, &self.ca, password)
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Properties of librdkafka for alice, and where she connects.
    fn alice(&self, password: &str, ca: &str) -> Vec<(&'static str, String)> {
        vec![
            ("security.protocol", "SASL_SSL".to_owned()),
            ("sasl.mechanisms", "PLAIN".to_owned()),
            ("sasl.username", "alice".to_owned()),
            ("sasl.password", password.to_owned()),
            ("ssl.ca.location", ca.to_owned()),
        ]
    }
}

fn more(sasl: u16, mutual: u16, store: &str, ca: &str, password: &str) -> More {
    let mut lines = format!(
        "ssl.keystore.type=PEM\nssl.keystore.location={store}\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
         listener.name.mutual.ssl.client.auth=required\n\
         listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN\n"
    );
    lines.push_str(&users(password));
    More {
        listeners: vec![("SASL_SSL", "SASL_SSL", sasl), ("MUTUAL", "SSL", mutual)],
        lines,
    }
}

/// `--set` for each property.
fn set(properties: &[(&str, String)]) -> Vec<String> {
    let each = properties
        .iter()
        .flat_map(|(key, value)| ["--set".to_owned(), format!("source.kafka.{key}={value}")]);
    each.collect()
}

#[test]
fn who_is_refused_ends_with_the_brokers_reason_and_the_others_read() {
    let Some(secured) = Secured::start() else {
        return;
    };
    let sasl = format!("localhost:{}", secured.sasl);
    let mutual = format!("localhost:{}", secured.mutual);
    let ssl = |more: &[(&'static str, String)]| {
        let mut all = vec![
            ("security.protocol", "SSL".to_owned()),
            ("ssl.ca.location", secured.ca.clone()),
        ];
        all.extend_from_slice(more);
        all
    };
    let paper = [
        ("ssl.certificate.location", secured.file("client.pem")),
        ("ssl.key.location", secured.file("client.key")),
    ];
    let good = secured.alice("secret", &secured.ca);
    let mut unknown = good.clone();
    unknown[1].1 = "SCRAM-SHA-512".to_owned();
    let by_address = format!("127.0.0.1:{}", secured.sasl);
    let cases = [
        (
            "password",
            &sasl,
            secured.alice("wrong", &secured.ca),
            "Authentication failed",
            "sasl.password",
        ),
        (
            "mechanism",
            &sasl,
            unknown,
            "supported mechanisms",
            "sasl.mechanisms",
        ),
        (
            "another CA",
            &sasl,
            secured.alice("secret", &secured.other_ca),
            "certificate verify failed",
            "ssl.ca.location",
        ),
        (
            "host name",
            &by_address,
            good.clone(),
            "certificate verify failed",
            "host name",
        ),
        (
            "no certificate",
            &mutual,
            ssl(&[]),
            "alert",
            "ssl.certificate.location",
        ),
    ];
    for (what, bootstrap, properties, says, hint) in cases {
        let case = Case::new(bootstrap);
        let config = case.config("raw", "lines", "");
        let args = [config, "--progress".to_owned(), "none".to_owned()];
        let args = [&args[..], &set(&properties)].concat();
        let output = case.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{what}: {said}");
        told_once(&said, &["config_invalid", says, hint, bootstrap.as_str()]);
    }
    for (bootstrap, properties) in [(&sasl, good), (&mutual, ssl(&paper))] {
        let case = Case::new(bootstrap);
        let config = case.config("raw", "lines", "");
        let args = [
            &[config, "--available-now".to_owned()][..],
            &set(&properties),
        ]
        .concat();
        let output = case.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", stderr(&output));
    }

    // In the daemon: FAILED, with the reason, and in its log.
    let mut rig = Rig::new(&[]);
    let passwords = rig.path("passwords.properties");
    fs::write(&passwords, "alice=wrong\n").unwrap();
    let daemon = rig.start(&[
        "restart.attempts=0",
        &format!("secrets.allow.files={}", passwords.display()),
        &format!(
            "rest.files.roots={},{}",
            secured.dir.path().display(),
            rig.dir.path().display()
        ),
    ]);
    let mut config = rig.config("lines", &[("source.bootstrap.servers", &sasl)]);
    let password = format!("${{file:{}:alice}}", passwords.display());
    for (key, value) in secured.alice(&password, &secured.ca) {
        config.insert(format!("source.kafka.{key}"), value);
    }
    let put = daemon.put_config("refused", &config);
    assert_eq!(put.status, 201, "{}", put.text());
    until("the refusal", || {
        (daemon.state("refused") == "FAILED").then_some(())
    });
    let status = daemon.get("/connectors/refused/status");
    let trace = status["connector"]["trace"].as_str().unwrap();
    assert!(trace.contains("Authentication failed"), "{trace}");
    told_once(&rig.log(), &["config_invalid", "Authentication failed"]);
}

/// A broker that begins again with other credentials: waited for first, then an ending with the reason.
#[test]
fn credentials_that_are_taken_away_while_it_reads_end_it() {
    let Some(mut secured) = Secured::start() else {
        return;
    };
    let case = Case::new(&format!("localhost:{}", secured.sasl));
    let config = case.config("raw", "lines", "");
    let args = [config, "--progress".to_owned(), "none".to_owned()];
    let args = [&args[..], &set(&secured.alice("secret", &secured.ca))].concat();
    let running = case.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    running.says("committed");
    secured.broker.kill();
    running.says("waiting, will go on by itself");
    secured.broker.configure(&secured.with("changed"));
    secured.broker.start();
    let (code, said) = running.wait();
    assert_eq!(code, Some(2), "{said}");
    told_once(&said, &["config_invalid", "Authentication failed"]);
}

/// Whoever is refused, and what somebody may not do, is told before the start, with the remedy.
#[test]
fn the_doctor_says_who_it_is_there_and_what_it_may() {
    // Who comes without a login is the test, and may do everything.
    const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                              super.users=User:ANONYMOUS\n";
    let Some(secured) = Secured::start_with(AUTHORIZER) else {
        return;
    };
    let case = Case::new(&format!("localhost:{}", secured.sasl));
    let config = case.config("raw", "lines", "");
    let look = |password: &str| -> Looks {
        let args = [
            &[config.clone()][..],
            &set(&secured.alice(password, &secured.ca)),
        ]
        .concat();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        doctor(case.dir.path(), &args)
    };
    let refused = look("wrong");
    assert_eq!(refused.code, 1);
    refused.fails("broker", "Authentication failed", "sasl.password");

    let admin = Admin::connect(secured.broker.bootstrap()).unwrap();
    // No right at all: Kafka does not even say that there is such a topic.
    let nothing = look("secret");
    let login = nothing.one("login");
    let says = login["says"].as_str().unwrap();
    assert!(
        says.contains("as alice with PLAIN") && says.contains("by TLS"),
        "{says}"
    );
    assert!(!nothing.text.contains("secret"), "{}", nothing.text);
    nothing.fails("topic", "uthoriz", "READ and DESCRIBE on the topic");
    assert_eq!(nothing.one("group")["verdict"], "warn", "{}", nothing.text);

    admin
        .allow("alice", On::Topic("lines"), May::Describe)
        .unwrap();
    admin
        .allow("alice", On::Group("raw"), May::Describe)
        .unwrap();
    let seen = look("secret");
    seen.fails("topic", "may see it and not read it", "READ on the topic");
    let group = seen.one("group");
    assert_eq!(group["verdict"], "warn", "{}", seen.text);
    assert!(
        group["says"]
            .as_str()
            .unwrap()
            .contains("may not be written")
    );

    admin.allow("alice", On::Topic("lines"), May::Read).unwrap();
    admin.allow("alice", On::Group("raw"), May::Read).unwrap();
    let well = look("secret");
    assert_eq!(well.code, 0, "{}", well.text);
    assert!(
        well.one("topic")["says"]
            .as_str()
            .unwrap()
            .contains("may be read")
    );
    assert!(
        well.one("group")["says"]
            .as_str()
            .unwrap()
            .contains("may be written")
    );
    a_sink_is_told_which_rights_it_lacks(&secured, &case, &admin);
}

/// Of the topic the doctor says it before; of the transactional id the broker, when it is used.
fn a_sink_is_told_which_rights_it_lacks(secured: &Secured, case: &Case, admin: &Admin) {
    admin.create_topic("clean", 1, &[]).unwrap();
    let mut text = format!(
        "name = \"clean\"\nsource.type = \"rate\"\nsource.rows.total = 10\nsource.rows.per.second = 1000\n\
         sink.type = \"kafka\"\nsink.url = \"file:clean\"\nsink.bootstrap.servers = \"localhost:{}\"\n\
         sink.topic.name = \"clean\"\nsink.value.format = \"string\"\n",
        secured.sasl
    );
    for (key, value) in secured.alice("secret", &secured.ca) {
        text.push_str(&format!("sink.kafka.{key} = \"{value}\"\n"));
    }
    let config = case.write("clean.toml", &text);
    let run = || case.run(&[&config, "--available-now", "--progress", "none"]);
    let told = |words: &[&str]| {
        let output = run();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    told(&["config_invalid", "clean"]);
    admin
        .allow("alice", On::Topic("clean"), May::Describe)
        .unwrap();
    let seen = doctor(case.dir.path(), &[&config]);
    seen.fails("sink.topic", "lacks WRITE and READ", "transactional id");
    admin.allow("alice", On::Topic("clean"), May::Read).unwrap();
    admin
        .allow("alice", On::Topic("clean"), May::Write)
        .unwrap();
    let well = doctor(case.dir.path(), &[&config]);
    assert_eq!(well.one("sink.topic")["verdict"], "pass", "{}", well.text);
    told(&["config_invalid", "transactional id", "WRITE and DESCRIBE"]);
    for may in [May::Describe, May::Write] {
        admin.allow("alice", On::TransactionalIds, may).unwrap();
    }
    told(&["config_invalid", "roup"]);
    admin.allow("alice", On::Group("*"), May::Read).unwrap();
    let output = run();
    assert!(output.status.success(), "{}", stderr(&output));
    topics_that_the_user_may_not_write_are_dead_letters(secured, case, admin, &text);
    a_right_that_is_taken_away_ends_it_with_topic_and_right(case, admin, &text);
}

/// What it may not see, and what it may see and not write, stops nothing.
fn topics_that_the_user_may_not_write_are_dead_letters(
    secured: &Secured,
    case: &Case,
    admin: &Admin,
    text: &str,
) {
    for topic in ["rows", "hidden", "seen"] {
        admin.create_topic(topic, 1, &[]).unwrap();
    }
    admin
        .allow("alice", On::Topic("seen"), May::Describe)
        .unwrap();
    let plain = secured.broker.bootstrap();
    let row = |to: &str| format!("{{\"to\": {to}}}");
    let rows = ["\"hidden\"", "\"seen\"", "\"clean\"", "null"].map(row);
    Case::new(plain).produce("rows", &rows.each_ref().map(String::as_str));
    let sink = text[text.find("sink.type").unwrap()..].replace("file:clean", "file:named");
    let sink = sink.replace("sink.value.format = \"string\"\n", "");
    let text = format!(
        "name = \"named\"\nsource.type = \"kafka\"\nsource.topics = [\"rows\"]\nsource.start = \"earliest\"\n\
         source.bootstrap.servers = \"{plain}\"\n{sink}sink.topic.column = \"to\"\nerrors.tolerance = \"all\"\n\
         [[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"to\"]\n"
    );
    let config = case.write("named.toml", &text);
    let output = case.run(&[&config, "--available-now", "--progress", "none"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut letters = Command::new(env!("CARGO_BIN_EXE_weir"));
    letters.current_dir(case.dir.path());
    letters.args(["dlq", "show", &config, "--json"]);
    let letters = stdout(&letters.output().unwrap());
    assert_eq!(letters.lines().count(), 2, "{letters}");
    for word in ["topic_not_allowed", "`hidden`", "`seen`"] {
        assert!(letters.contains(word), "{word}: {letters}");
    }
}

fn a_right_that_is_taken_away_ends_it_with_topic_and_right(case: &Case, admin: &Admin, text: &str) {
    let text = text.replacen("name = \"clean\"", "name = \"taken\"", 1);
    let text = text.replace("file:clean", "file:taken");
    let text = text.replace("source.rows.total = 10\n", "");
    let text = text.replace("per.second = 1000", "per.second = 20");
    let more = "sink.commit.age = \"200ms\"\n";
    let config = case.write("taken.toml", &format!("{text}{more}"));
    let running = case.start(&[&config, "--progress", "plain"]);
    until("rows", || {
        let outbox = case.path("taken/_system/taken/taken/log");
        let entries = fs::read_dir(outbox).ok()?.count();
        (entries > 4).then_some(())
    });
    admin
        .forbid("alice", On::Topic("clean"), May::Write)
        .unwrap();
    let (code, said) = running.wait();
    assert_eq!(code, Some(2), "{said}");
    told_once(&said, &["config_invalid", "'clean'", "WRITE"]);
}
