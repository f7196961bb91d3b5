//! The start of partitions of a topic that was never read: `source.start`.

use crate::config::Start;
use crate::error::{Error, Kind, Result};
use crate::kafka::{self, GroupOffsets, KafkaCluster, KafkaProps};
use crate::record::TopicPartition;
use crate::source::{Acknowledge as _, Position, TopicInfo};

const OP: &str = "kafka.start";

pub(super) fn positions(
    cluster: &KafkaCluster,
    props: &KafkaProps,
    topic: &TopicInfo,
    start: &Start,
) -> Result<Vec<Position>> {
    match start {
        Start::Earliest => cluster.start(topic, kafka::Start::Earliest),
        Start::Latest => cluster.start(topic, kafka::Start::Latest),
        Start::Timestamp(micros) => cluster.start(topic, kafka::Start::Timestamp(micros / 1_000)),
        Start::Group(group) => of_group(group, props, topic),
    }
}

/// Starts at the offsets that another consumer group has committed; partitions without a committed offset start at
/// their beginning, so that nothing is lost.
fn of_group(group: &str, props: &KafkaProps, topic: &TopicInfo) -> Result<Vec<Position>> {
    let tps: Vec<TopicPartition> = topic.partitions.iter().map(|p| p.tp.clone()).collect();
    let committed = GroupOffsets::open(&props.of_group(group))?.committed(&tps)?;
    let full = topic.partitions.iter().any(|p| p.high > p.low);
    if committed.is_empty() && full {
        return Err(Error::new(
            Kind::ConfigInvalid,
            OP,
            format!("the group '{group}' has committed no offset of topic '{}'", topic.name),
        )
        .with("key", "source.start")
        .hint("`kafka-consumer-groups --describe --group NAME` shows what it has; source.start = \"earliest\" reads everything"));
    }
    let mut positions = Vec::new();
    for p in &topic.partitions {
        let next = committed.get(&p.tp).copied().unwrap_or(p.low);
        if next > p.high {
            return Err(Error::new(
                Kind::SourceLost,
                OP,
                format!(
                    "the group '{group}' stands at offset {next}, above the end of the partition, {}",
                    p.high
                ),
            )
            .with("partition", &p.tp)
            .hint("it read another topic of this name: name where to begin (source.start)"));
        }
        positions.push(Position {
            split: p.split.clone(),
            epoch: 0,
            tp: p.tp.clone(),
            next,
        });
    }
    Ok(positions)
}
