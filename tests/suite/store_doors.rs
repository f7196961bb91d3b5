//! Access to a store as in companies: TLS of their own authority, a proxy with a login, a bucket in the host's name,
//! short-lived keys of a role, files with a storage class, tags and encryption. The whole program, against a real
//! server.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::kafka::MockBroker;

use crate::brokers::{DEADLINE, files, within};
use crate::cloud::{Cloud, POD_TOKEN, ROLE, WEB_TOKEN, signed_without_session};
use crate::doctor::doctor_with;
use crate::endings::{Case, stderr};
use crate::forward_proxy::ForwardProxy;
use crate::object_servers::{REGION, SECRET_KEY, Server, credentials, own_s3_with, s3};
use crate::papers::Paper;
use crate::proxy::{Answer, Asked, Fault, Proxy, Verb, What};

/// A host that only the tests' proxy knows; buckets are below it.
const HOST: &str = "s3.weir.test";
const LOGIN: &str = "weir:proxy-secret";
const VALUES: [&str; 3] = ["one", "two", "three"];

/// A topic of lines, and a directory with a config that reads it.
fn case(broker: &MockBroker) -> (Case, String) {
    let case = Case::new(broker.bootstrap());
    let config = case.config("raw", "lines", "");
    (case, config)
}

fn broker() -> MockBroker {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    broker
}

/// `--set` of keys below `sink`.
fn sets(keys: &[(&str, &str)]) -> Vec<String> {
    let each = |(key, value): &(&str, &str)| ["--set".to_owned(), format!("sink.{key}={value}")];
    keys.iter().flat_map(each).collect()
}

/// No credentials of the machine that runs the tests.
fn alone(command: &mut Command, case: &Case) {
    for (name, _) in std::env::vars() {
        let lower = name.to_lowercase();
        if lower.starts_with("aws_") || lower.ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.env("HOME", case.dir.path());
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Everything that came is in the bucket's zone.
fn has_rows(server: &Server, bucket: &str, prefix: &str) -> bool {
    let table = server.files(bucket).join(prefix).join("lines");
    !files(&table, ".parquet").is_empty()
}

#[test]
fn a_bucket_behind_tls_of_an_own_authority_and_a_proxy_is_reached_or_refused_with_the_reason() {
    let papers = tempfile::tempdir().unwrap();
    let ca = Paper::new("weir test CA", None);
    let below = format!("*.{HOST}");
    let paper = Paper::of("store", Some(&ca), &[HOST, &below]);
    let key = paper.key(papers.path(), "store.key");
    let certificate = paper.certificate(papers.path(), "store.pem");
    let tls = ["--cert", &certificate, "--key", &key];
    let more = [&tls[..], &["--virtual-domain", HOST]].concat();
    let Some(server) = own_s3_with(&more) else {
        return;
    };
    let ca = ca.certificate(papers.path(), "ca.pem");
    let other = Paper::new("another CA", None).certificate(papers.path(), "other.pem");
    let broker = broker();
    let bucket = server.bucket("doors");
    let proxy = ForwardProxy::to(HOST, server.addr(), Some(LOGIN));
    let by = proxy.url(LOGIN);
    let url = format!("s3://{bucket}/by-key");
    let endpoint = format!("https://{HOST}");
    let keys = |more: &[(&'static str, &str)]| {
        let mut keys = vec![
            ("url", url.as_str()),
            ("store.endpoint", endpoint.as_str()),
            ("store.region", REGION),
            ("store.path.style", "false"),
            ("store.ca", &ca),
            ("store.retries", "0"),
            ("store.connect.timeout", "2s"),
        ];
        for (key, value) in more {
            keys.retain(|(known, _)| known != key);
            keys.push((*key, *value));
        }
        sets(&keys)
    };
    let (case, config) = case(&broker);
    case.produce("lines", &VALUES);
    let run = |sets: &[String], env: &[(&str, &str)]| {
        let mut command = case.command(&[config.as_str(), "--available-now"]);
        alone(&mut command, &case);
        command
            .args(sets)
            .envs(credentials())
            .envs(env.iter().copied());
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert!(
            !said.contains("proxy-secret") && !said.contains(SECRET_KEY),
            "{said}"
        );
        (output.status.success(), said)
    };
    // By the key, and by the variable that other tools read.
    let (well, said) = run(&keys(&[("store.proxy", &by)]), &[]);
    assert!(well && has_rows(&server, &bucket, "by-key"), "{said}");
    let host = format!("CONNECT {bucket}.{HOST}:443");
    assert_eq!(proxy.asked(), [host.as_str()]);
    let by_variable = format!("s3://{bucket}/by-variable");
    let (well, said) = run(&keys(&[("url", &by_variable)]), &[("HTTPS_PROXY", &by)]);
    assert!(well && has_rows(&server, &bucket, "by-variable"), "{said}");
    // The bucket in the path.
    let in_path = format!("s3://{bucket}/in-path");
    let path = [
        ("url", in_path.as_str()),
        ("store.path.style", "true"),
        ("store.proxy", &by),
    ];
    let (well, said) = run(&keys(&path), &[]);
    assert!(well && has_rows(&server, &bucket, "in-path"), "{said}");
    let hosts = [format!("CONNECT {HOST}:443"), host];
    assert!(
        proxy.asked().iter().all(|asked| hosts.contains(asked)),
        "{:?}",
        proxy.asked()
    );

    let stranger = proxy.url("weir:wrong");
    let nobody = "http://127.0.0.1:1";
    let elsewhere = "https://elsewhere.test";
    for (keys, says, hint) in [
        (
            keys(&[("store.ca", &other), ("store.proxy", &by)]),
            "certificate",
            "sink.store.ca",
        ),
        (
            keys(&[("store.proxy", &stranger)]),
            "proxy",
            "sink.store.proxy",
        ),
        (
            keys(&[("store.proxy", nobody)]),
            "does not answer",
            "the proxy",
        ),
        (
            keys(&[("store.endpoint", elsewhere), ("store.proxy", &by)]),
            "tunnel",
            "the proxy",
        ),
    ] {
        let args = [&[config.clone()][..], &keys].concat();
        let looks = doctor_with(case.dir.path(), &refs(&args), &|command| {
            alone(command, &case);
            command.envs(credentials());
        });
        looks.fails("store", says, hint);
        assert!(!looks.text.contains("proxy-secret"), "{}", looks.text);
    }
}

/// How a machine gets keys of a role.
struct Way {
    name: &'static str,
    env: Vec<(&'static str, String)>,
    cloud: Cloud,
    /// What is asked of the cloud for it.
    asks: &'static str,
    /// Which requests learn that keys ended before their time.
    learns: fn(&Asked) -> bool,
}

/// The answer to a HEAD has no body: that keys are over stands in the answer to what is asked after it.
fn asks_about_an_object(asked: &Asked) -> bool {
    asked.verb == Verb::Head || asked.header("range") == Some("bytes=0-0")
}

/// Session tokens, in the order in which they are handed out.
const FIRST: &str = "session-one";
const SECOND: &str = "session-two";
const THIRD: &str = "session-three";
const HOUR: Duration = Duration::from_secs(3600);
/// Keys that end within five minutes are asked for again.
const NEARLY_OVER: Duration = Duration::from_secs(302);

fn ways(papers: &std::path::Path, paper: &Paper) -> Vec<Way> {
    let file = |name: &str, text: &str| {
        let path = papers.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let cloud = |paper| Cloud::start(FIRST, NEARLY_OVER, paper);
    let (instance, pod, web) = (cloud(None), cloud(None), cloud(Some(paper)));
    let at = |cloud: &Cloud| format!("http://localhost:{}", cloud.port());
    vec![
        Way {
            name: "instance",
            env: vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", at(&instance))],
            asks: "GET /latest/meta-data/iam/security-credentials/weir-role",
            learns: |_| true,
            cloud: instance,
        },
        Way {
            name: "pod",
            env: vec![
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    format!("{}/v1/credentials", at(&pod)),
                ),
                (
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    file("pod", POD_TOKEN),
                ),
            ],
            asks: "GET /v1/credentials",
            learns: asks_about_an_object,
            cloud: pod,
        },
        Way {
            name: "web-identity",
            env: vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", file("web", WEB_TOKEN)),
                ("AWS_ROLE_ARN", ROLE.to_owned()),
                (
                    "AWS_ENDPOINT_URL_STS",
                    format!("https://localhost:{}", web.port()),
                ),
            ],
            asks: "POST /",
            learns: |_| true,
            cloud: web,
        },
    ]
}

const EXPIRED: Answer = Answer {
    status: 400,
    code: "ExpiredToken",
};
const DENIED: Answer = Answer {
    status: 403,
    code: "AccessDenied",
};

/// Of each role: keys that are nearly over are renewed before anything is refused, keys that end before their time as soon as
/// the store says so, to whichever request; and no key shows. A proxy that hears plain requests hears none of a role's keys.
#[test]
fn keys_of_a_role_are_renewed_in_flight() {
    let Some(server) = s3() else { return };
    let papers = tempfile::tempdir().unwrap();
    let ca = Paper::new("weir test CA", None);
    let paper = Paper::new("tokens", Some(&ca));
    let ca = ca.certificate(papers.path(), "ca.pem");
    let broker = broker();
    std::thread::scope(|scope| {
        for way in ways(papers.path(), &paper) {
            let (broker, ca) = (&broker, &ca);
            scope.spawn(move || renewed(server, broker, ca, &way));
        }
    });
}

fn renewed(server: &Server, broker: &MockBroker, ca: &str, way: &Way) {
    let proxy = Proxy::that_rewrites(signed_without_session, server.addr());
    let over = Arc::new(AtomicBool::new(false));
    let seen: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let (is_over, sees, learns) = (Arc::clone(&over), Arc::clone(&seen), way.learns);
    proxy.decide(move |asked: &Asked| {
        let token = asked.header("x-amz-security-token").unwrap_or_default();
        let old = is_over.load(Ordering::SeqCst) && token != THIRD;
        let entry = (asked.verb, asked.what) == (Verb::Create, What::Entry);
        sees.lock().unwrap().push((token.to_owned(), entry && !old));
        match (token, old) {
            ("", _) => Fault::Refused(DENIED),
            (_, true) if learns(asked) => Fault::Refused(EXPIRED),
            _ => Fault::None,
        }
    });
    let committed_by = |token: &str| {
        let seen = seen.lock().unwrap();
        seen.contains(&(token.to_owned(), true))
    };
    let (case, config) = case(broker);
    let bucket = server.bucket(way.name);
    let endpoint = proxy.endpoint();
    let url = format!("s3://{bucket}/zone");
    let keys = sets(&[
        ("url", &url),
        ("store.endpoint", &endpoint),
        ("store.region", REGION),
        ("store.allow.http", "true"),
        ("store.ca", ca),
    ]);
    let args = [
        &[config, "--progress".to_owned(), "none".to_owned()][..],
        &keys,
    ]
    .concat();
    let running = case.start_with(&refs(&args), &|command| {
        alone(command, &case);
        // Nobody is there; the store is reached without it.
        command.env("HTTP_PROXY", "http://127.0.0.1:1");
        command.env("NO_PROXY", "127.0.0.1");
        command.envs(way.env.iter().map(|(name, value)| (name, value)));
    });
    let commits = |token: &str| {
        let done = within(DEADLINE, || {
            case.produce("lines", &["x"]);
            committed_by(token).then_some(())
        });
        assert!(
            done.is_some(),
            "{} by {token}: {}\n{:?}",
            way.name,
            running.said(),
            way.cloud.asked()
        );
    };
    commits(FIRST);
    way.cloud.gives(SECOND, HOUR);
    commits(SECOND);
    assert!(!running.said().contains("expired"), "{}", running.said());
    way.cloud.gives(THIRD, HOUR);
    over.store(true, Ordering::SeqCst);
    commits(THIRD);
    running.signal("TERM");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{}: {said}", way.name);
    for secret in [SECRET_KEY, FIRST, SECOND, THIRD, POD_TOKEN, WEB_TOKEN] {
        assert!(!said.contains(secret), "{}: {secret} in {said}", way.name);
    }
    let refused = proxy.faults().into_keys().collect::<Vec<_>>();
    assert_eq!(
        refused,
        ["Refused 400 ExpiredToken"],
        "{}: {said}",
        way.name
    );
    assert!(
        way.cloud.asked().iter().any(|asked| asked == way.asks),
        "{:?}",
        way.cloud.asked()
    );
    println!(
        "{}: {} requests of the cloud, {} of the store",
        way.name,
        way.cloud.asked().len(),
        proxy.asked().len()
    );
}

/// What a zone asks for with each object, as the server hears it.
#[test]
fn class_tags_and_encryption_are_asked_for_with_each_file() {
    let Some(server) = s3() else { return };
    let broker = broker();
    // A copy is made in the bucket's own class, and has the tags of what it is copied from.
    for (publish, more) in [("complete", &[CLASS, TAGS][..]), ("copy", &[TAGS][..])] {
        let proxy = Proxy::before(server.addr());
        let bucket = server.bucket("asked");
        let (endpoint, url) = (proxy.endpoint(), format!("s3://{bucket}/zone"));
        let own = [
            ("url", url.as_str()),
            ("publish", publish),
            ("store.endpoint", &endpoint),
            ("store.region", REGION),
            ("store.allow.http", "true"),
            ("store.sse.type", "AES256"),
        ];
        let (case, config) = case(&broker);
        case.produce("lines", &VALUES);
        let mut command = case.command(&[config.as_str(), "--available-now"]);
        alone(&mut command, &case);
        let keys = sets(&[&own[..], more].concat());
        let output = command.args(&keys).envs(credentials()).output().unwrap();
        assert!(output.status.success(), "{publish}: {}", stderr(&output));
        assert!(has_rows(server, &bucket, "zone"));
        let mut files = 0;
        for asked in proxy.asked() {
            let has = |name: &str| asked.header(&format!("x-amz-{name}"));
            let found = [
                has("server-side-encryption"),
                has("storage-class"),
                has("tagging"),
            ];
            let encrypted = Some("AES256");
            let tagged = Some("team=lake&cost=42");
            let classed = more.contains(&CLASS).then_some("STANDARD_IA");
            let wanted = match (asked.verb, asked.what) {
                (_, What::Probe) => continue,
                (Verb::Begin, What::Data) | (Verb::Put, What::Staging) => {
                    files += 1;
                    [encrypted, classed, tagged]
                }
                // The log, intents, and what is copied.
                (Verb::Create | Verb::Copy, _) => [encrypted, None, None],
                _ => [None; 3],
            };
            assert_eq!(found, wanted, "{publish}: {}", asked.head);
        }
        assert!(files > 0, "{publish}");
    }
}

const CLASS: (&str, &str) = ("store.storage.class", "STANDARD_IA");
const TAGS: (&str, &str) = ("store.tags", "team=lake,cost=42");
