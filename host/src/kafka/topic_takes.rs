//! What a topic takes, as far as the broker tells this user: asked before a record is promised to it, because what a broker
//! refuses after that is refused for good.

use rdkafka::error::RDKafkaErrorCode;

use super::cluster::{KafkaCluster, MOCK, topic_error};
use super::props::REQUEST_TIMEOUT;
use super::topic_config::{self, Settings};
use crate::error::{Kind, Result};

/// A topic that somebody wants to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// There is none of this name.
    None,
    /// This user may not even see it.
    Hidden,
    Takes(TopicTakes),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicTakes {
    pub partitions: i32,
    /// Most bytes of a batch. `None`: the broker does not tell this user.
    pub batch_bytes: Option<usize>,
    /// Records without a key are refused: the topic is compacted.
    pub wants_keys: bool,
    /// Milliseconds by which a timestamp may lie before and after now. `None`: any, or the broker does not tell.
    pub before: Option<i64>,
    pub after: Option<i64>,
    /// Whether this user may write it. `None`: the broker does not tell.
    pub write: Option<bool>,
}

impl TopicTakes {
    /// It takes this timestamp, and will for a moment: `sooner` than its limits.
    pub fn takes_timestamp(&self, at: i64, now: i64, sooner: i64) -> bool {
        let within =
            |most: Option<i64>, far: i64| most.is_none_or(|most| far <= less(most, sooner));
        within(self.after, at.saturating_sub(now)) && within(self.before, now.saturating_sub(at))
    }
}

/// A limit less this, but no less than nine tenths of it.
pub fn less(limit: i64, sooner: i64) -> i64 {
    limit - sooner.min(limit / 10)
}

impl KafkaCluster {
    /// Three small requests. An error: the cluster does not answer, or refuses the login.
    pub fn topic_takes(&self, topic: &str) -> Result<Topic> {
        let partitions = match self.partitions(topic) {
            Ok(Some(partitions)) => partitions,
            Ok(None) => return Ok(Topic::None),
            Err(error) if error.kind() == Kind::ConfigInvalid && self.is_hidden(topic) => {
                return Ok(Topic::Hidden);
            }
            Err(error) => return Err(error),
        };
        let takes = TopicTakes {
            partitions,
            write: self.rights_on_topic(topic)?.map(|rights| rights.write),
            ..of_settings(&self.settings(topic))
        };
        Ok(Topic::Takes(takes))
    }

    fn is_hidden(&self, topic: &str) -> bool {
        let told = topic_error(&self.consumer, topic, REQUEST_TIMEOUT);
        told == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
    }

    /// None where the broker does not tell them.
    fn settings(&self, topic: &str) -> Settings {
        if self.id.starts_with(MOCK) {
            return Settings::new();
        }
        let told = topic_config::of_topic(&self.consumer, topic, REQUEST_TIMEOUT);
        told.unwrap_or_else(|(code, text)| {
            tracing::debug!(topic, %code, text, "the broker does not tell the settings of the topic");
            Settings::new()
        })
    }
}

fn of_settings(settings: &Settings) -> TopicTakes {
    let text = |name: &str| settings.get(name).map(String::as_str);
    let number = |name: &str| text(name).and_then(|value| value.parse::<i64>().ok());
    let by_record = text("message.timestamp.type") != Some("LogAppendTime");
    // Brokers before 4.0 have one limit for both directions, which counts where the other is not set.
    let both = number("message.timestamp.difference.max.ms");
    let within = |name: &str| {
        let least = [number(name), both].into_iter().flatten().min()?;
        (by_record && least != i64::MAX).then_some(least)
    };
    let policies = text("cleanup.policy").unwrap_or_default();
    TopicTakes {
        batch_bytes: text("max.message.bytes").and_then(|value| value.parse().ok()),
        wants_keys: policies.split(',').any(|policy| policy.trim() == "compact"),
        before: within("message.timestamp.before.max.ms"),
        after: within("message.timestamp.after.max.ms"),
        ..TopicTakes::default()
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> TopicTakes {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        of_settings(&settings.iter().map(own).collect())
    }

    #[test]
    fn settings_of_old_and_new_brokers_are_understood() {
        let forever = i64::MAX.to_string();
        let new = of(&[
            ("max.message.bytes", "1000"),
            ("cleanup.policy", "delete, compact"),
            ("message.timestamp.type", "CreateTime"),
            ("message.timestamp.before.max.ms", &forever),
            ("message.timestamp.after.max.ms", "3600000"),
        ]);
        assert_eq!((new.batch_bytes, new.wants_keys), (Some(1000), true));
        assert_eq!((new.before, new.after), (None, Some(3_600_000)));
        let old = of(&[
            ("cleanup.policy", "delete"),
            ("message.timestamp.difference.max.ms", "5000"),
        ]);
        assert_eq!((old.before, old.after), (Some(5000), Some(5000)));
        assert!(!old.wants_keys);
        let appended = of(&[
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.after.max.ms", "1"),
        ]);
        assert_eq!(appended.after, None);
        assert_eq!(of(&[]), TopicTakes::default());
    }
}
