//! Positions as Connect's clients see and set them: a pipeline's are in its commit log, a file connector's in a file of its
//! own.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::jobs::{Job, Pool};
use super::{Actor, Refused};
use crate::clock::Clock;
use crate::commit::State;
use crate::connect::Offset;
use crate::error::{Error, Kind, Result};
use crate::filestream;
use crate::pipeline::positions::{self, Order, RewindTarget, To};
use crate::plugin::Plugins;

/// As Connect's sinks answer.
const ALTERED: &str = "The offsets for this connector have been altered successfully";
const RESET: &str = "The offsets for this connector have been reset successfully";
const REASON: &str = "asked for over HTTP";

/// What the commit log of a pipeline has.
pub fn shown(state: &State) -> Vec<Offset> {
    let one = |at: positions::Position| Offset {
        partition: map(json!({ "kafka_topic": at.topic, "kafka_partition": at.partition })),
        offset: Some(map(json!({ "kafka_offset": at.to }))),
    };
    positions::of_state(state).into_iter().map(one).collect()
}

/// Moves the offsets of a job that does not run, exactly as asked, or refuses all of it. It may take three entries (new partitions, a rewind, a
/// gap): a process that is killed between them leaves a part, and the same request again completes it. `pool`: plugins for a pipeline that
/// never ran.
pub fn alter(
    job: &Job,
    state_dir: &Path,
    (clock, pool): (&Arc<dyn Clock>, &Pool),
    wanted: &[Offset],
    by: &Actor,
) -> Result<&'static str, Refused> {
    let config = match job {
        Job::Pipeline(config) => config,
        Job::File(job) => {
            filestream::alter(job, state_dir, wanted).map_err(refused)?;
            return Ok(ALTERED);
        }
    };
    let all = wanted.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let plugins = || pool.of(config);
    positions::alter(config, clock, &all, &order(by, &plugins)).map_err(refused)?;
    Ok(ALTERED)
}

fn order<'a>(by: &'a Actor, plugins: &'a dyn Fn() -> Result<Plugins>) -> Order<'a> {
    Order {
        actor: &by.0,
        reason: REASON,
        dry_run: false,
        exact: true,
        plugins,
    }
}

/// Back to where reading began.
pub fn reset(
    job: &Job,
    state_dir: &Path,
    (clock, pool): (&Arc<dyn Clock>, &Pool),
    by: &Actor,
) -> Result<&'static str, Refused> {
    let config = match job {
        Job::Pipeline(config) => config,
        Job::File(job) => {
            filestream::reset(job, state_dir).map_err(refused)?;
            return Ok(RESET);
        }
    };
    let plugins = || pool.of(config);
    positions::reset(config, clock, &order(by, &plugins)).map_err(refused)?;
    Ok(RESET)
}

fn refused(error: Error) -> Refused {
    match error.kind() {
        Kind::ConfigInvalid => Refused::Bad(error.to_string()),
        Kind::Conflict => Refused::Conflict(error.to_string()),
        _ => Refused::Failed(error),
    }
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// `{"kafka_topic", "kafka_partition"}` and `{"kafka_offset"}`; numbers also as text, as Connect takes them.
fn read(offset: &Offset) -> Result<RewindTarget, Refused> {
    let bad = |message: &str| Refused::Bad(message.to_owned());
    let number = |value: Option<&Value>| match value {
        Some(Value::Number(n)) => n.as_i64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let known = |map: &Map<String, Value>, keys: &[&str]| {
        map.keys().all(|key| keys.contains(&key.as_str()))
    };
    let partition = &offset.partition;
    if !known(partition, &["kafka_topic", "kafka_partition"]) {
        return Err(bad(
            "a partition has only `kafka_topic` and `kafka_partition`",
        ));
    }
    let Some(Value::String(topic)) = partition.get("kafka_topic") else {
        return Err(bad("a partition needs `kafka_topic`, a text"));
    };
    let at = number(partition.get("kafka_partition")).and_then(|n| i32::try_from(n).ok());
    let at = at
        .filter(|n| *n >= 0)
        .ok_or_else(|| bad("a partition needs `kafka_partition`, a number from 0"))?;
    let to = match &offset.offset {
        None => To::Start,
        Some(offset) => {
            if !known(offset, &["kafka_offset"]) {
                return Err(bad("an offset has only `kafka_offset`"));
            }
            let to = number(offset.get("kafka_offset")).filter(|to| *to >= 0);
            To::Offset(to.ok_or_else(|| bad("an offset needs `kafka_offset`, a number from 0"))?)
        }
    };
    Ok(RewindTarget {
        topic: topic.clone(),
        partition: at,
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partition: Value, offset: Value) -> Result<RewindTarget, String> {
        let offset = Offset {
            partition: map(partition),
            offset: (!offset.is_null()).then(|| map(offset)),
        };
        read(&offset).map_err(|refused| match refused {
            Refused::Bad(message) => message,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn numbers_may_be_text_and_everything_else_is_named() {
        let tp = || json!({ "kafka_topic": "t", "kafka_partition": "3" });
        let good = wanted(tp(), json!({ "kafka_offset": "17" })).expect("good");
        assert_eq!((good.topic.as_str(), good.partition), ("t", 3));
        assert!(matches!(good.to, To::Offset(17)));
        assert!(matches!(
            wanted(tp(), Value::Null).expect("good").to,
            To::Start
        ));
        for (partition, offset, says) in [
            (
                json!({ "kafka_topic": "t" }),
                Value::Null,
                "kafka_partition",
            ),
            (json!({ "kafka_partition": 1 }), Value::Null, "kafka_topic"),
            (
                json!({ "kafka_topic": 1, "kafka_partition": 1 }),
                Value::Null,
                "kafka_topic",
            ),
            (
                json!({ "kafka_topic": "t", "kafka_partition": -1 }),
                Value::Null,
                "from 0",
            ),
            (
                json!({ "kafka_topic": "t", "kafka_partition": 1, "x": 1 }),
                Value::Null,
                "only",
            ),
            (tp(), json!({ "kafka_offset": -1 }), "from 0"),
            (tp(), json!({ "kafka_offset": 1.5 }), "from 0"),
            (tp(), json!({ "position": 1 }), "only `kafka_offset`"),
        ] {
            let refused = wanted(partition.clone(), offset).expect_err("refused");
            assert!(refused.contains(says), "{partition}: {refused}");
        }
    }
}
