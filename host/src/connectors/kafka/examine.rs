//! Checks of `weir doctor` on a cluster: whether it answers, with which login, whether the topics exist and may be
//! read, whether group offsets may be written. Nothing is changed and no record is read.

use std::time::{Duration, Instant};

use super::{KafkaSourceConfig, props};
use crate::error::Result;
use crate::finding::Finding;
use crate::kafka::{GroupOffsets, KafkaCluster, KafkaProps, Rights};
use crate::record::TopicPartition;
use crate::source::{Acknowledge as _, TopicInfo};

const BROKER: &str = "broker";
const LOGIN: &str = "login";
const TOPIC: &str = "topic";
const GROUP: &str = "group";

pub(super) fn examine(config: &KafkaSourceConfig, tell: &mut dyn FnMut(Finding)) {
    let (props, cluster, took) = match connected(config) {
        (Ok((props, cluster)), took) => (props, cluster, took),
        (Err(error), took) => {
            let at = config.bootstrap_servers.typed();
            let other = Finding::failed(BROKER, Some(at), &error);
            return tell(other.took(took));
        }
    };
    tell(
        Finding::pass(
            BROKER,
            Some(props.bootstrap()),
            format!(
                "cluster {} answers; it advertises {}",
                cluster.id(),
                cluster.brokers().join(", ")
            ),
        )
        .took(took),
    );
    tell(Finding::pass(LOGIN, None, login(config)));
    let mut partitions = Vec::new();
    let found = match &config.pattern {
        Some(found) => {
            let there = cluster.topics().unwrap_or_default();
            let there: Vec<String> = there.into_iter().filter(|name| found.takes(name)).collect();
            tell(matched(&there));
            there
        }
        None => Vec::new(),
    };
    for topic in config.topics.iter().chain(&found) {
        let begun = Instant::now();
        let finding = match cluster.describe(topic) {
            Ok(found) => {
                let rights = cluster.rights_on_topic(topic);
                partitions.extend(found.partitions.iter().map(|p| p.tp.clone()));
                of_topic(&found, rights)
            }
            Err(error) => Finding::failed(TOPIC, Some(topic), &error),
        };
        tell(finding.took(begun.elapsed()));
    }
    let begun = Instant::now();
    tell(of_group(config, &cluster, &props, &partitions).took(begun.elapsed()));
}

/// What `source.subscribe.pattern` finds now.
fn matched(topics: &[String]) -> Finding {
    const PATTERN: &str = "pattern";
    match topics.len() {
        0 => Finding::warn(
            PATTERN,
            None,
            "no topic matches now; those that are made later are read",
            "correct source.subscribe.pattern if a topic should match: it matches whole names",
        ),
        n => Finding::pass(PATTERN, None, format!("{n} topics match now")),
    }
}

fn connected(config: &KafkaSourceConfig) -> (Result<(KafkaProps, KafkaCluster)>, Duration) {
    let begun = Instant::now();
    let connected =
        props(config).and_then(|props| Ok((props.clone(), KafkaCluster::connect(&props)?)));
    (connected, begun.elapsed())
}

/// The login that the broker has just accepted: it would not have answered otherwise.
fn login(config: &KafkaSourceConfig) -> String {
    let typed = |name: &str| {
        let value = config.properties.get(name)?.resolve().ok()?;
        Some(value.trim().to_owned()).filter(|v| !v.is_empty())
    };
    let protocol = typed("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
    let protocol = protocol.to_ascii_uppercase();
    let wire = match protocol.contains("SSL") {
        true => "by TLS",
        false => "not encrypted",
    };
    if protocol.starts_with("SASL") {
        let mechanism = typed("sasl.mechanisms").or_else(|| typed("sasl.mechanism"));
        let mechanism = mechanism.unwrap_or_else(|| "GSSAPI".to_owned());
        // The name may be as secret as the password: it is shown as typed.
        let user = config.properties.get("sasl.username");
        let user = user.map(|name| format!("as {} ", name.typed().trim()));
        let user = user.unwrap_or_default();
        return format!("{protocol}: taken {user}with {mechanism}, {wire}");
    }
    match (protocol == "SSL", typed("ssl.certificate.location")) {
        (true, Some(certificate)) => {
            format!("{protocol}: taken with the certificate in {certificate}, {wire}")
        }
        _ => format!("{protocol}: the broker asks nobody who they are, {wire}"),
    }
}

fn of_topic(found: &TopicInfo, rights: Result<Option<Rights>>) -> Finding {
    let at = Some(&*found.name);
    let offsets: i64 = found.partitions.iter().map(|p| p.high - p.low).sum();
    let number = found.partitions.len();
    let s = if number == 1 { "" } else { "s" };
    let there = format!("{number} partition{s} with {offsets} offsets");
    match rights {
        Ok(Some(rights)) if rights.read => {
            Finding::pass(TOPIC, at, format!("{there}; may be read"))
        }
        Ok(Some(_)) => Finding::fail(
            TOPIC,
            at,
            format!("{there}; this user may see it and not read it"),
            "give the user READ on the topic",
        ),
        Ok(None) => Finding::pass(
            TOPIC,
            at,
            format!("{there}; the broker does not tell who may read it"),
        ),
        Err(error) => Finding::warn(
            TOPIC,
            at,
            format!(
                "{there}; whether it may be read is not known: {}",
                error.one_line()
            ),
            error.hint_text().unwrap_or("ask again"),
        ),
    }
}

/// Group offsets are for lag tools and no pipeline needs them: nothing here is a failure.
fn of_group(
    config: &KafkaSourceConfig,
    cluster: &KafkaCluster,
    props: &KafkaProps,
    partitions: &[TopicPartition],
) -> Finding {
    let group = &config.group_id;
    let at = Some(group.as_str());
    const NEEDS: &str = "give the user READ on the group; without it lag tools see nothing, and rows are written all the same";
    let offsets = GroupOffsets::open(props).and_then(|offsets| offsets.committed(partitions));
    let there = match &offsets {
        Ok(found) if found.is_empty() => "no offsets yet".to_owned(),
        Ok(found) => format!(
            "offsets of {} of {} partitions",
            found.len(),
            partitions.len()
        ),
        Err(error) => {
            let says = format!("its offsets cannot be read: {}", error.one_line());
            return Finding::warn(GROUP, at, says, NEEDS);
        }
    };
    match cluster.rights_on_group(group) {
        Ok(Some(rights)) if rights.read => {
            Finding::pass(GROUP, at, format!("{there}; they may be written"))
        }
        Ok(Some(_)) => Finding::warn(
            GROUP,
            at,
            format!("{there}; they may not be written"),
            NEEDS,
        ),
        Ok(None) => Finding::pass(
            GROUP,
            at,
            format!("{there}; the broker does not tell who may write them"),
        ),
        Err(error) => Finding::warn(
            GROUP,
            at,
            format!(
                "{there}; whether they may be written is not known: {}",
                error.one_line()
            ),
            NEEDS,
        ),
    }
}
