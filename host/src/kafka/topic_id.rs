//! The id of a topic: the only way to notice that it was deleted and created again under its old name.
//!
//! librdkafka does not report a recreated topic, and rdkafka has no wrapper for DescribeTopics.
#![allow(
    unsafe_code,
    reason = "rd_kafka_DescribeTopics has no safe wrapper; topic ids are in nothing else"
)]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::admin::{NoAnswer, another_kind, ask, part};
use super::client::Consumer;

/// What the broker said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TopicId {
    /// In Kafka's own spelling (22 letters, URL-safe base64).
    Is(String),
    /// The broker has no ids (before 2.8, or the mock cluster).
    None,
    Failed(RDKafkaErrorCode, String),
}

/// Asks the broker; waits at most `timeout`.
pub(super) fn topic_id(consumer: &Consumer, topic: &str, timeout: Duration) -> TopicId {
    // SAFETY: the description lives as long as the event, and what is read of it is copied.
    let answer = described(consumer, topic, timeout, false, |topic| unsafe {
        let uuid = sys::rd_kafka_TopicDescription_topic_id(topic);
        let none = uuid.is_null()
            || (sys::rd_kafka_Uuid_most_significant_bits(uuid) == 0
                && sys::rd_kafka_Uuid_least_significant_bits(uuid) == 0);
        (!none).then(|| {
            let text = CStr::from_ptr(sys::rd_kafka_Uuid_base64str(uuid)).to_string_lossy();
            spelled_as_kafka(&text)
        })
    });
    match answer {
        Ok(Some(id)) => TopicId::Is(id),
        Ok(None) => TopicId::None,
        Err((RDKafkaErrorCode::UnsupportedFeature, _)) => TopicId::None,
        Err((code, text)) => TopicId::Failed(code, text),
    }
}

/// Asks for one topic; `read` copies what it wants of a description that lives during the call.
pub(super) fn described<T>(
    consumer: &Consumer,
    topic: &str,
    timeout: Duration,
    with_rights: bool,
    read: impl FnOnce(*const sys::rd_kafka_TopicDescription_t) -> T,
) -> Result<T, NoAnswer> {
    let name = CString::new(topic).map_err(|_| {
        let text = "a zero in the name".to_owned();
        (RDKafkaErrorCode::InvalidTopic, text)
    })?;
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the collection is destroyed after the request took a copy of it; the result and its parts live inside the event.
    unsafe {
        ask(
            consumer,
            op,
            with_rights,
            timeout,
            |client, options, queue| {
                let mut names = [name.as_ptr()];
                let topics =
                    sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                sys::rd_kafka_DescribeTopics(client, topics, options, queue);
                sys::rd_kafka_TopicCollection_destroy(topics);
            },
            |event| {
                let result = sys::rd_kafka_event_DescribeTopics_result(event);
                if result.is_null() {
                    return Err(another_kind());
                }
                let mut count = 0;
                let list = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                if count != 1 || list.is_null() {
                    let text = format!("{count} topics for one");
                    return Err((RDKafkaErrorCode::Fail, text));
                }
                let topic = *list;
                part(sys::rd_kafka_TopicDescription_error(topic))?;
                Ok(read(topic))
            },
        )
    }
}

/// librdkafka writes ids in plain base64; Kafka's tools, and split ids with their slashes, need the URL-safe alphabet.
fn spelled_as_kafka(id: &str) -> String {
    id.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod unit {
    #[test]
    fn ids_hold_no_slash() {
        assert_eq!(super::spelled_as_kafka("a/b+c=="), "a_b-c");
    }
}
