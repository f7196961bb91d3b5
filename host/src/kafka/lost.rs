//! Records of Kafka that are gone, as an error with the remedy that a Kafka source has.

use crate::error::{Error, Kind};
use crate::source::Lost;

/// An error that carries what is lost, for [`crate::source::lost`].
pub fn lost_error(lost: Lost, op: &'static str) -> Error {
    let (message, hint) = match &lost {
        Lost::AgedOut(_) => (
            "records aged out of the broker before they were read",
            ON_LOST,
        ),
        Lost::AboveEnd(_) => (
            "the committed position lies above the end of the partition",
            "the topic was truncated or recreated: start a new pipeline for it",
        ),
        Lost::TopicGone(_) => (
            "a topic that was being read is gone",
            "if it comes back it is another topic: source.on.topic.recreated",
        ),
    };
    Error::new(Kind::SourceLost, op, message)
        .hint(hint)
        .source(lost)
}

pub const ON_LOST: &str =
    "source.on.data.loss = \"gap\" records the lost range in the log and goes on";
