//! The topics that rows name, and what each of them takes. Asked before a row is taken, because a row that no topic takes is a
//! dead letter, and after the commit it could be none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::at_sink;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::kafka::{KafkaCluster, Topic};

/// A topic that takes nothing is asked for again after so long, one that takes records after [`KNOWN_FOR`].
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Topics that are remembered; a column with more different values names no topics.
const TOPICS_MAX: usize = 10_000;
/// The cluster's own topics begin with it; clients may not write the most of them.
pub const INTERNAL: &str = "__";

#[derive(Debug)]
pub struct Topics {
    cluster: KafkaCluster,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<String, Known>>,
    /// The smallest `max.message.bytes` of those that were asked for.
    least_batch: AtomicUsize,
}

#[derive(Clone, Debug)]
struct Known {
    topic: Arc<Topic>,
    until: Duration,
}

impl Topics {
    pub fn new(cluster: KafkaCluster, clock: Arc<dyn Clock>) -> Topics {
        Topics {
            cluster,
            clock,
            known: Mutex::default(),
            least_batch: AtomicUsize::new(usize::MAX),
        }
    }

    /// An error: the cluster does not answer, or refuses the login.
    pub fn find(&self, topic: &str) -> Result<Arc<Topic>> {
        let now = self.clock.elapsed();
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = known.get(topic).filter(|known| now < known.until) {
            return Ok(known.topic.clone());
        }
        let found = match is_legal(topic) {
            true if topic.starts_with(INTERNAL) => Topic::Hidden,
            true => self.cluster.topic_takes(topic).map_err(at_sink)?,
            false => Topic::None,
        };
        if known.len() >= TOPICS_MAX {
            known.clear();
        }
        if let Topic::Takes(takes) = &found
            && let Some(bytes) = takes.batch_bytes
        {
            self.least_batch.fetch_min(bytes, Ordering::Relaxed);
        }
        let lasts = match &found {
            Topic::Takes(takes) if takes.write != Some(false) => KNOWN_FOR,
            _ => UNKNOWN_FOR,
        };
        let found = Arc::new(found);
        let of_topic = Known {
            topic: found.clone(),
            until: now + lasts,
        };
        known.insert(topic.to_owned(), of_topic);
        Ok(found)
    }

    /// Bytes of a batch that all topics take that were asked for so far, as far as the broker tells.
    pub fn least_batch(&self) -> usize {
        self.least_batch.load(Ordering::Relaxed)
    }

    pub fn cluster(&self) -> &str {
        self.cluster.id()
    }

    /// Milliseconds since 1970 UTC.
    pub fn now(&self) -> i64 {
        self.clock.now_micros().div_euclid(1000)
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

/// The topic of the config, which was there at the start.
pub fn gone(topic: &str) -> Error {
    let message = format!("topic '{topic}' is not there any more");
    Error::new(Kind::SinkUnavailable, "kafka.rows", message).hint("create it again")
}

/// The topic of the config.
pub fn may_not_write(topic: &str) -> Error {
    let message = format!("this user may not write topic '{topic}'");
    Error::new(Kind::ConfigInvalid, "kafka.rows", message)
        .hint("the user needs WRITE and DESCRIBE on the topic")
}
