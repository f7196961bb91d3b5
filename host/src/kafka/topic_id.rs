//! The id of a topic: the only way to notice that it was deleted and created again under its old name.
//!
//! librdkafka passes over a recreated topic in silence, and rdkafka has no wrapper for DescribeTopics.
#![allow(
    unsafe_code,
    reason = "rd_kafka_DescribeTopics has no safe wrapper; topic ids are in nothing else"
)]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

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
    let Ok(name) = CString::new(topic) else {
        return TopicId::Failed(
            RDKafkaErrorCode::InvalidTopic,
            "a zero in the name".to_owned(),
        );
    };
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: the client outlives the call; each handle made here is destroyed once, after its last use; the result and
    // all it points to live inside the event, which is destroyed after the answer was copied.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        // A refused timeout leaves librdkafka's default in place, which is bounded too.
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        // The request ends by itself at its timeout; the second is for the queue.
        let event = sys::rd_kafka_queue_poll(queue, millis.saturating_add(1_000));
        let answer = read(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        answer
    }
}

/// # Safety
/// `event` is null or an event that lives during the call.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> TopicId {
    if event.is_null() {
        return TopicId::Failed(RDKafkaErrorCode::OperationTimedOut, "no answer".to_owned());
    }
    // SAFETY: the event is alive; what is read of it is copied.
    unsafe {
        let code: RDKafkaErrorCode = sys::rd_kafka_event_error(event).into();
        if code == RDKafkaErrorCode::UnsupportedFeature {
            return TopicId::None;
        }
        if code != RDKafkaErrorCode::NoError {
            let text = CStr::from_ptr(sys::rd_kafka_err2str(sys::rd_kafka_event_error(event)));
            return TopicId::Failed(code, text.to_string_lossy().into_owned());
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return TopicId::Failed(
                RDKafkaErrorCode::Fail,
                "an answer of another kind".to_owned(),
            );
        }
        let mut count = 0;
        let list = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count != 1 || list.is_null() {
            return TopicId::Failed(RDKafkaErrorCode::Fail, format!("{count} topics for one"));
        }
        let topic = *list;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let code: RDKafkaErrorCode = sys::rd_kafka_error_code(error).into();
        if code != RDKafkaErrorCode::NoError {
            let text = CStr::from_ptr(sys::rd_kafka_error_string(error));
            return TopicId::Failed(code, text.to_string_lossy().into_owned());
        }
        let uuid = sys::rd_kafka_TopicDescription_topic_id(topic);
        if uuid.is_null()
            || (sys::rd_kafka_Uuid_most_significant_bits(uuid) == 0
                && sys::rd_kafka_Uuid_least_significant_bits(uuid) == 0)
        {
            return TopicId::None;
        }
        let text = CStr::from_ptr(sys::rd_kafka_Uuid_base64str(uuid)).to_string_lossy();
        TopicId::Is(spelled_as_kafka(&text))
    }
}

/// librdkafka spells ids in plain base64; Kafka's tools, and a split id with its slashes, want the URL-safe letters.
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
