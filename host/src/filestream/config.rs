//! The configs of the file connectors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::worker::DECIDED;
use crate::config::{Problem, Raw, Reach, Text, librdkafka, problem};
use crate::connect::translate::{Work, client_property};
use crate::connect::{Class, Defaults};
use crate::error::Result;
use crate::kafka::{KafkaProps, Start};

/// Records of topics as lines of a file.
#[derive(Clone, Debug)]
pub struct FileSink {
    pub name: String,
    pub file: PathBuf,
    pub reach: Reach,
    pub topics: Vec<String>,
    /// Where a partition that was never read begins.
    pub start: Start,
    pub lines: Lines,
    /// Skips records that are not JSON, as errors.tolerance = all demands.
    pub tolerant: bool,
    pub kafka: Client,
}

/// How a line shows its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    Text,
    /// As Java prints what JsonConverter makes of it.
    Json,
    Envelope,
}

/// How to reach the cluster; references unresolved.
#[derive(Clone, Debug)]
pub struct Client {
    pub bootstrap_servers: Text,
    /// librdkafka's properties.
    pub properties: BTreeMap<String, Text>,
    /// `connect-<name>`: where lag tools look.
    pub group: String,
    /// Property → the key that it was made of.
    pub from: BTreeMap<String, String>,
}

impl Client {
    pub fn props(&self) -> Result<KafkaProps> {
        let properties = librdkafka::resolved(&self.properties, "")?;
        KafkaProps::new(&self.bootstrap_servers.resolve()?, &self.group, &properties)
    }
}

/// Accepted without an effect: key → why.
const IDLE: &[&str] = &[
    "config.action.reload",
    "connector.class",
    "connector.plugin.version",
    "errors.log.enable",
    "errors.log.include.messages",
    "errors.retry.delay.max.ms",
    "errors.retry.timeout",
    "header.converter",
    "key.converter",
    "predicates",
    "tasks.max.enforce",
    "transaction.boundary",
];

impl FileSink {
    pub fn read(
        raw: &Raw,
        class: &'static Class,
        defaults: &Defaults,
    ) -> (Option<FileSink>, Vec<Problem>) {
        let mut work = Work::new(raw, class, defaults);
        let name = common(&mut work);
        let file = file(&mut work, "standard output is not written");
        let topics = topics(&mut work);
        let lines = match converter(&mut work) {
            Some(Converter::Text | Converter::Bytes) | None => Lines::Text,
            Some(Converter::Json { schemas: false }) => Lines::Json,
            Some(Converter::Json { schemas: true }) => Lines::Envelope,
        };
        let tolerant = tolerant(&mut work);
        let start = start(&mut work);
        let kafka = client(&mut work, "consumer.override.", name.as_deref());
        work.strangers();
        let job = || {
            Some(FileSink {
                name: name?,
                file: PathBuf::from(file?),
                reach: raw.reach().clone(),
                topics,
                start,
                lines,
                tolerant,
                kafka: kafka?,
            })
        };
        (job(), work.into_problems())
    }
}

/// Names of topics, each once.
fn topics(work: &mut Work<'_>) -> Vec<String> {
    let topics = work.list("topics");
    if work.get("topics.regex").is_some() {
        work.refuse(
            "topics.regex",
            "topics are read by name",
            "name them in `topics`",
        );
    } else if topics.is_empty() {
        let message = "`topics` is missing: a sink reads at least one".to_owned();
        work.problem("topics", problem::MISSING, message);
    }
    for (n, topic) in topics.iter().enumerate() {
        if !is_topic(topic) || topics.iter().take(n).any(|t| t == topic) {
            let message = format!("`topics`: `{topic}` is no name of a topic, or there twice");
            work.problem("topics", problem::BAD_NAME, message);
        }
    }
    topics
}

/// `errors.tolerance`, and keys that a file sink cannot use beside it.
fn tolerant(work: &mut Work<'_>) -> bool {
    let tolerance = work
        .get("errors.tolerance")
        .unwrap_or_default()
        .to_lowercase();
    if !["", "none", "all"].contains(&tolerance.as_str()) {
        let message = format!("`errors.tolerance`: expected `none` or `all`, found `{tolerance}`");
        work.problem("errors.tolerance", problem::NOT_A_CHOICE, message);
    }
    if work.get("errors.deadletterqueue.topic.name").is_some() {
        work.refuse(
            "errors.deadletterqueue.topic.name",
            "a file of lines has no dead letters",
            "take the key out; a pipeline (connector.class = weir) keeps them in a table",
        );
    }
    for key in [
        "errors.deadletterqueue.topic.replication.factor",
        "errors.deadletterqueue.context.headers.enable",
    ] {
        work.used(key);
    }
    tolerance == "all"
}

/// Where reading begins.
fn start(work: &mut Work<'_>) -> Start {
    const RESET: &str = "consumer.override.auto.offset.reset";
    match work.get(RESET).as_deref() {
        None | Some("earliest") => Start::Earliest,
        Some("latest") => Start::Latest,
        Some(other) => {
            let reason = format!("`{other}` names no place to begin at");
            work.refuse(RESET, reason, "write earliest or latest");
            Start::Earliest
        }
    }
}

pub(super) fn required(work: &mut Work<'_>, key: &str, what: &str) -> Option<String> {
    let found = work.get(key);
    if found.is_none() && !work.is_there(key) {
        let message = format!("`{key}` is missing and has no default: {what}");
        work.problem(key, problem::MISSING, message);
    } else if found.is_none() {
        let message = format!("`{key}` is empty: {what}");
        work.problem(key, problem::MISSING, message);
    }
    found
}

pub(super) fn file(work: &mut Work<'_>, why: &str) -> Option<String> {
    required(work, "file", &format!("a path on this machine ({why})"))
}

pub(super) fn is_topic(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name.chars().all(legal) && name != "." && name != ".."
}

/// The keys that both connectors have; returns the name.
pub(super) fn common(work: &mut Work<'_>) -> Option<String> {
    for key in IDLE {
        work.used(key);
    }
    for prefix in ["key.converter.", "header.converter.", "predicates."] {
        for name in work.below(prefix) {
            work.used(&format!("{prefix}{name}"));
        }
    }
    let tasks = work.int("tasks.max", 1, 1_000_000);
    if tasks.is_some_and(|n| n > 1) {
        work.note("tasks.max", "a file has one task");
    }
    if work.get("transforms").is_some() {
        work.refuse(
            "transforms",
            "file connectors have no transforms here",
            "take it out; rules run in pipelines (connector.class = weir)",
        );
        for name in work.below("transforms.") {
            work.used(&format!("transforms.{name}"));
        }
    }
    let name = required(work, "name", "what the connector is called")?;
    match crate::config::shape::Shape::Name.parse(&name) {
        Ok(_) => Some(name),
        Err(refusal) => {
            let message = format!("`name`: expected {}, found `{name}`", refusal.expected);
            work.problem("name", refusal.code, message).hint = refusal.hint;
            None
        }
    }
}

pub(super) enum Converter {
    Text,
    Bytes,
    Json { schemas: bool },
}

pub(super) fn converter(work: &mut Work<'_>) -> Option<Converter> {
    const KEY: &str = "value.converter";
    let class = work.get(KEY);
    let schemas = work.flag("value.converter.schemas.enable").unwrap_or(true);
    for name in work.below("value.converter.") {
        work.used(&format!("{KEY}.{name}"));
    }
    let class = class?;
    match class.rsplit('.').next().unwrap_or(&class) {
        "StringConverter" => Some(Converter::Text),
        "ByteArrayConverter" => Some(Converter::Bytes),
        "JsonConverter" => Some(Converter::Json { schemas }),
        name => {
            let reason = format!("`{name}` is not among the converters of file connectors here");
            work.refuse(
                KEY,
                reason,
                "StringConverter, ByteArrayConverter or JsonConverter",
            );
            None
        }
    }
}

pub(super) fn client(work: &mut Work<'_>, mine: &str, name: Option<&str>) -> Option<Client> {
    let (mut properties, mut from) = (BTreeMap::new(), BTreeMap::new());
    let (mut servers, mut group) = (None, None);
    for name in work.below(mine) {
        let key = format!("{mine}{name}");
        match name.as_str() {
            "bootstrap.servers" => servers = work.typed(&key).map(str::to_owned),
            "group.id" if mine.starts_with("consumer") => group = work.get(&key),
            "auto.offset.reset" => {}
            decided if DECIDED.contains(&decided) => {
                work.used(&key);
                work.note(
                    &key,
                    "no effect: decided by the connector, for the sake of its promises",
                );
            }
            _ => {
                let role = mine.starts_with("producer");
                for (property, value) in client_property(work, &key, &name, role) {
                    from.insert(property.clone(), key.clone());
                    properties.insert(property, value);
                }
            }
        }
    }
    for prefix in [
        "producer.override.",
        "consumer.override.",
        "admin.override.",
    ] {
        for name in work.below(prefix) {
            work.used(&format!("{prefix}{name}"));
        }
    }
    let defaults = work.defaults;
    let client = match mine.starts_with("producer") {
        true => &defaults.theirs.producer,
        false => &defaults.theirs.consumer,
    };
    let own = |name: &str| Some(properties.get(name)?.typed().to_owned());
    match defaults.of_client(client, servers.as_deref(), &own) {
        Ok(more) => properties.extend(more),
        Err(message) => {
            let key = format!("{mine}bootstrap.servers");
            work.problem(&key, problem::CONTRADICTION, message).hint = Some(format!(
                "say how to talk to them: `{mine}security.protocol` and what goes with it"
            ));
        }
    }
    let servers = servers.or_else(|| defaults.servers(client));
    if servers.is_none() {
        let key = format!("{mine}bootstrap.servers");
        let message = "no brokers: the worker's bootstrap.servers is not set".to_owned();
        work.problem(&key, problem::MISSING, message);
    }
    Some(Client {
        bootstrap_servers: work.raw.text(servers?),
        properties,
        group: group.unwrap_or_else(|| format!("connect-{}", name.unwrap_or_default())),
        from,
    })
}
