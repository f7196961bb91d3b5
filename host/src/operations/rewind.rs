//! Moves positions of a stopped pipeline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::PipelineConfig;
use crate::error::{Error, Kind, Result};
use crate::pipeline::positions::{Altered, Moved, RewindTarget, To};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rewound {
    pub pipeline: String,
    pub dry_run: bool,
    /// Version of the last entry that was written. `None`: a dry run, or nothing to do.
    pub version: Option<u64>,
    /// Partitions whose position changed, or would change.
    pub moved: Vec<Moved>,
    /// What could not be taken back, where the rows are in another system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_again: Option<String>,
}

pub fn rewound(config: &PipelineConfig, dry_run: bool, altered: Altered) -> Rewound {
    let back = altered.moved.iter().any(|moved| moved.to < moved.from);
    Rewound {
        pipeline: config.name.clone(),
        dry_run,
        version: altered.version,
        moved: altered.moved,
        sent_again: config.sink.sends_again().filter(|_| back),
    }
}

/// `TOPIC/PARTITION=OFFSET`, or `=start`.
pub fn wanted(text: &str) -> Result<RewindTarget> {
    let wrong = || {
        let message = format!("expected TOPIC/PARTITION=OFFSET, found `{text}`");
        Error::new(Kind::ConfigInvalid, "cli.rewind", message)
            .hint("for example books/0=1200 or books/0=start")
    };
    let (at, to) = text.split_once('=').ok_or_else(wrong)?;
    let (topic, partition) = at.rsplit_once('/').ok_or_else(wrong)?;
    let to = match to {
        "start" => To::Start,
        number => To::Offset(number.parse().map_err(|_| wrong())?),
    };
    Ok(RewindTarget {
        topic: topic.to_owned(),
        partition: partition.parse().map_err(|_| wrong())?,
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_with_their_offsets() {
        let found = wanted("a.b-c/12=7").expect("legal");
        let expected = RewindTarget {
            topic: "a.b-c".to_owned(),
            partition: 12,
            to: To::Offset(7),
        };
        assert_eq!(found, expected);
        assert_eq!(wanted("t/0=start").expect("legal").to, To::Start);
        for bad in ["t", "t/0", "t=1", "t/x=1", "t/0=x", "t/0=", "t/0=1.5"] {
            let error = wanted(bad).expect_err(bad);
            assert!(error.message().contains(bad), "{error}");
        }
    }
}
