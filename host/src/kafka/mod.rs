//! Kafka: the only folder that names rdkafka. It gives out records, positions and errors in Weir's own types.
//!
//! Weir assigns partitions itself, never through a group; positions come from the commit log. Group offsets are written
//! for lag tools ([`GroupOffsets`]) and never set a position. Five files hold the raw calls that rdkafka does not wrap:
//! `queue` (events with topic and offset), `admin`, `topic_id`, `topic_config` and `rights`; nothing else is unsafe.

mod admin;
mod client;
mod cluster;
mod collect;
mod errors;
mod group_offsets;
mod hidden;
mod lost;
mod mock;
mod partition;
mod producer;
mod props;
mod queue;
mod rights;
mod source;
#[doc(hidden)]
pub mod testkit;
#[cfg(test)]
mod tests;
mod threads;
mod topic_config;
mod topic_id;
mod topic_takes;
mod transactional;

pub use cluster::{KafkaCluster, Start};
pub use group_offsets::GroupOffsets;
pub use lost::ON_LOST;
pub use mock::{MIN_PARTITIONS, MockBroker};
pub use producer::{Delivered, Outgoing, Producer, refuses_timestamp};
pub use props::KafkaProps;
pub use rights::Rights;
pub use source::{KafkaSource, Limits, Status};
pub use threads::thread_limit;
pub use topic_takes::{Topic, TopicTakes, less};
pub use transactional::{Mark, Transactional};
