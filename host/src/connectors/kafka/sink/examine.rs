//! What `weir doctor` asks of the cluster that takes the rows: does it answer, is the topic there, may it be written, may the
//! mark be written. Nothing is changed, no transaction is begun.

use std::time::Instant;

use super::{KafkaSinkConfig, at_sink};
use crate::error::Result;
use crate::finding::Finding;
use crate::kafka::{KafkaCluster, KafkaProps, Rights};

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
    let number = match cluster.partitions(topic).map_err(at_sink) {
        Ok(Some(number)) => number,
        Ok(None) => {
            return Finding::fail(
                TOPIC,
                at,
                "there is no such topic",
                "create it, or correct sink.topic.name",
            );
        }
        Err(error) => return Finding::failed(TOPIC, at, &error),
    };
    let s = if number == 1 { "" } else { "s" };
    let most = match cluster.batch_bytes(topic) {
        Some(most) => format!("{number} partition{s}, at most {most} bytes a batch"),
        None => format!("{number} partition{s}"),
    };
    match cluster.rights_on_topic(topic) {
        Ok(Some(Rights { write, read, .. })) => {
            let lacks: Vec<&str> = [(write, "WRITE"), (read, "READ (for the mark)")]
                .into_iter()
                .filter_map(|(has, right)| (!has).then_some(right))
                .collect();
            match lacks.is_empty() {
                true => Finding::pass(TOPIC, at, format!("{most}; may be written")),
                false => Finding::fail(
                    TOPIC,
                    at,
                    format!("{most}; this user lacks {}", lacks.join(" and ")),
                    "give the user WRITE and READ on the topic; READ on the group and WRITE on the transactional id, both by the prefix of sink.transactional.id.prefix",
                ),
            }
        }
        Ok(None) => Finding::pass(
            TOPIC,
            at,
            format!("{most}; the broker does not tell who may write it"),
        ),
        Err(error) => {
            let says = format!(
                "{most}; whether it may be written is not known: {}",
                error.one_line()
            );
            Finding::warn(TOPIC, at, says, error.hint_text().unwrap_or("ask again"))
        }
    }
}
