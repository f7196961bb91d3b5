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
        Start::Offsets(offsets) => named(cluster, offsets, topic),
    }
}

type Starts = BTreeMap<(String, i32), PartitionStart>;

fn wrong(message: String) -> Error {
    Error::new(Kind::ConfigInvalid, OP, message).with("key", "source.start")
}

/// As Spark demands it of topics that are found by a pattern: those that are named are the ones that are there when reading begins
/// for the first time.
pub(super) fn are_there(start: &Start, topics: &[TopicInfo]) -> Result<()> {
    let Start::Offsets(offsets) = start else {
        return Ok(());
    };
    let is_there = |name: &str| topics.iter().any(|topic| *topic.name == *name);
    let mut missing: Vec<&str> = offsets.keys().map(|(name, _)| name.as_str()).collect();
    missing.retain(|name| !is_there(name));
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "`source.start` names {}, and no such topic is there",
        missing.join(", ")
    );
    Err(wrong(message)
        .hint("create the topic, or take it out: what comes later is read from its first record"))
}

/// Where the config says of each partition. All of them must be named: nobody can guess where the others begin.
fn named(cluster: &KafkaCluster, offsets: &Starts, topic: &TopicInfo) -> Result<Vec<Position>> {
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
        return Err(wrong(message)
            .hint("name every partition: an offset, a time, `earliest` or `latest` for each"));
    }
    let timed = topic.partitions.iter().filter_map(|p| match named_of(p) {
        Some(PartitionStart::Timestamp(micros)) => Some((p, micros / 1_000)),
        _ => None,
    });
    let timed: Vec<(&PartitionInfo, i64)> = timed.collect();
    let mut timed = cluster.at_times(&timed)?.into_iter();
    let mut positions = Vec::new();
    for p in &topic.partitions {
        let next = match named_of(p) {
            Some(PartitionStart::Offset(at)) => *at,
            Some(PartitionStart::Timestamp(_)) => timed.next().unwrap_or(p.high),
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
