//! The start of partitions of a topic that was never read: `source.start`.

use std::collections::BTreeMap;

use crate::config::{PartitionStart, Start};
use crate::error::{Error, Kind, Result};
use crate::kafka::{self, GroupOffsets, KafkaCluster, KafkaProps};
use crate::record::TopicPartition;
use crate::source::{Acknowledge as _, PartitionInfo, Position, TopicInfo};

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
        Start::Offsets(offsets) => named(offsets, topic),
    }
}

/// Where the config says of each partition. All of them must be named: nobody can guess where the others begin.
fn named(
    offsets: &BTreeMap<(String, i32), PartitionStart>,
    topic: &TopicInfo,
) -> Result<Vec<Position>> {
    let wrong =
        |message: String| Error::new(Kind::ConfigInvalid, OP, message).with("key", "source.start");
    let named_of = |p: &PartitionInfo| offsets.get(&(p.tp.topic.to_string(), p.tp.partition));
    let missing = topic.partitions.iter().filter(|p| named_of(p).is_none());
    let missing: Vec<String> = missing.map(|p| p.tp.to_string()).collect();
    let there = |partition: i32| topic.partitions.iter().any(|p| p.tp.partition == partition);
    let mut of_topic = offsets.keys().filter(|(name, _)| **name == *topic.name);
    if let Some((name, partition)) = of_topic.find(|(_, partition)| !there(*partition)) {
        return Err(wrong(format!(
            "`source.start` names {name}/{partition}, and {name} has {} partitions",
            topic.partitions.len()
        )));
    }
    if !missing.is_empty() {
        let message = format!("`source.start` does not name {}", missing.join(", "));
        return Err(
            wrong(message).hint("name every partition: an offset, `earliest` or `latest` for each")
        );
    }
    let mut positions = Vec::new();
    for p in &topic.partitions {
        let next = match named_of(p) {
            Some(PartitionStart::Offset(at)) => *at,
            Some(PartitionStart::Latest) => p.high,
            Some(PartitionStart::Earliest) | None => p.low,
        };
        if next < p.low || next > p.high {
            let message = format!(
                "`source.start`: {} has offsets {} to {}, and {next} is outside",
                p.tp, p.low, p.high
            );
            return Err(
                wrong(message).hint("`earliest` begins with the first record that is still there")
            );
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
