//! What `weir doctor` asks of the cluster that takes the rows: does it answer, is the topic there, may it be written, may the
//! mark be written. Nothing is changed, no transaction is begun.

use std::time::Instant;

use super::{KafkaSinkConfig, at_sink, topics};
use crate::error::Result;
use crate::finding::Finding;
use crate::kafka::{KafkaCluster, KafkaProps, Rights, Topic};

const BROKER: &str = "sink.broker";
const TOPIC: &str = "sink.topic";

pub(super) fn examine(config: &KafkaSinkConfig, tell: &mut dyn FnMut(Finding)) {
    let begun = Instant::now();
    let connected = || -> Result<(KafkaProps, KafkaCluster)> {
        let props = config.props()?;
        let cluster = KafkaCluster::connect(&props)?;
        Ok((props, cluster))
    };
    let (props, cluster) = match connected().map_err(at_sink) {
        Ok(connected) => connected,
        Err(error) => {
            let at = Some(config.bootstrap_servers.typed());
            return tell(Finding::failed(BROKER, at, &error).took(begun.elapsed()));
        }
    };
    let says = format!(
        "cluster {} answers; it advertises {}",
        cluster.id(),
        cluster.brokers().join(", ")
    );
    tell(Finding::pass(BROKER, Some(props.bootstrap()), says).took(begun.elapsed()));
    let begun = Instant::now();
    tell(of_topic(config, &cluster).took(begun.elapsed()));
}

fn of_topic(config: &KafkaSinkConfig, cluster: &KafkaCluster) -> Finding {
    let topic = config.topic();
    let at = Some(topic);
    let takes = match cluster.topic_takes(topic).map_err(at_sink) {
        Ok(Topic::Takes(takes)) => takes,
        Ok(Topic::None) => {
            return Finding::fail(
                TOPIC,
                at,
                "there is no such topic",
                "create it, or correct sink.topic.name",
            );
        }
        Ok(Topic::Hidden) => return Finding::failed(TOPIC, at, &topics::may_not_write(topic)),
        Err(error) => return Finding::failed(TOPIC, at, &error),
    };
    let number = takes.partitions;
    let s = if number == 1 { "" } else { "s" };
    let mut says = format!("{number} partition{s}");
    if let Some(most) = takes.batch_bytes {
        says.push_str(&format!(", at most {most} bytes a batch"));
    }
    if takes.wants_keys {
        says.push_str(", compacted: each record needs a key");
    }
    match cluster.rights_on_topic(topic) {
        Ok(Some(Rights { write, read, .. })) => {
            let lacks: Vec<&str> = [(write, "WRITE"), (read, "READ (for the mark)")]
                .into_iter()
                .filter_map(|(has, right)| (!has).then_some(right))
                .collect();
            match lacks.is_empty() {
                true => Finding::pass(TOPIC, at, format!("{says}; may be written")),
                false => Finding::fail(
                    TOPIC,
                    at,
                    format!("{says}; this user lacks {}", lacks.join(" and ")),
                    "give the user WRITE and READ on the topic; READ on the group and WRITE on the transactional id, both by the prefix of sink.transactional.id.prefix",
                ),
            }
        }
        Ok(None) => Finding::pass(
            TOPIC,
            at,
            format!("{says}; the broker does not tell who may write it"),
        ),
        Err(error) => {
            let says = format!(
                "{says}; whether it may be written is not known: {}",
                error.one_line()
            );
            Finding::warn(TOPIC, at, says, error.hint_text().unwrap_or("ask again"))
        }
    }
}
