//! The topics that rows name: are they there, and with how many partitions. Asked before a row is taken, because a row that no
//! topic takes is a dead letter, and after the commit it could be none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::at_sink;
use crate::clock::Clock;
use crate::error::Result;
use crate::kafka::KafkaCluster;

/// A topic that was not there is asked for again after so long, one that was after [`KNOWN_FOR`].
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Topics that are remembered; a column with more different values names no topics.
const TOPICS_MAX: usize = 10_000;

#[derive(Debug)]
pub struct Topics {
    cluster: KafkaCluster,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// 0: there is no such topic.
    partitions: i32,
    until: Duration,
}

impl Topics {
    pub fn new(cluster: KafkaCluster, clock: Arc<dyn Clock>) -> Topics {
        Topics {
            cluster,
            clock,
            known: Mutex::default(),
        }
    }

    /// How many partitions it has; 0: there is no such topic. An error: the cluster does not answer, or refuses.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        let now = self.clock.elapsed();
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = known.get(topic).filter(|known| now < known.until) {
            return Ok(known.partitions);
        }
        let found = match is_legal(topic) {
            true => self.cluster.partitions(topic).map_err(at_sink)?,
            false => None,
        };
        let found = found.unwrap_or(0);
        if known.len() >= TOPICS_MAX {
            known.clear();
        }
        let lasts = if found == 0 { UNKNOWN_FOR } else { KNOWN_FOR };
        let until = now + lasts;
        let partitions = found;
        known.insert(topic.to_owned(), Known { partitions, until });
        Ok(partitions)
    }
}

/// Longest name of a topic.
const NAME_MAX: usize = 249;

/// As brokers have it; they answer for no other name.
fn is_legal(topic: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !topic.is_empty()
        && topic.len() <= NAME_MAX
        && topic.chars().all(plain)
        && topic != "."
        && topic != ".."
}
