//! Requests of librdkafka's admin interface that rdkafka does not wrap: asked once, bounded, without a runtime.
#![allow(
    unsafe_code,
    reason = "DescribeTopics with ids and rights, and DescribeConsumerGroups with rights, have no safe wrapper"
)]

use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::client::Consumer;

/// Extra wait for the queue: the request itself ends at its timeout.
const QUEUE_EXTRA_MS: i32 = 1_000;

/// Why there is no answer.
pub(super) type NoAnswer = (RDKafkaErrorCode, String);

/// Sends one request and reads its answer; waits at most about `timeout`.
///
/// # Safety
/// `send` gives the request to the queue with these options and keeps none of the three pointers. `read` gets the event of the
/// answer, which is not null and carries no error, and copies what it returns.
pub(super) unsafe fn ask<T>(
    consumer: &Consumer,
    op: sys::rd_kafka_admin_op_t,
    with_rights: bool,
    timeout: Duration,
    send: impl FnOnce(
        *mut sys::rd_kafka_t,
        *const sys::rd_kafka_AdminOptions_t,
        *mut sys::rd_kafka_queue_t,
    ),
    read: impl FnOnce(*mut sys::rd_kafka_event_t) -> Result<T, NoAnswer>,
) -> Result<T, NoAnswer> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: the client outlives the call; each handle made here is destroyed once, after its last use; the result and
    // all it points to live inside the event, which is destroyed after `read` copied the answer.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(client, op);
        // A refused timeout leaves librdkafka's default in place, which is bounded too.
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        if with_rights {
            let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !refused.is_null() {
                sys::rd_kafka_error_destroy(refused);
            }
        }
        let queue = sys::rd_kafka_queue_new(client);
        send(client, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, millis.saturating_add(QUEUE_EXTRA_MS));
        let answer = match whole(event) {
            Ok(()) => read(event),
            Err(none) => Err(none),
        };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        answer
    }
}

/// # Safety
/// `event` is null or an event that lives during the call.
unsafe fn whole(event: *mut sys::rd_kafka_event_t) -> Result<(), NoAnswer> {
    if event.is_null() {
        return Err((RDKafkaErrorCode::OperationTimedOut, "no answer".to_owned()));
    }
    // SAFETY: the event is alive; texts of codes are static.
    unsafe {
        let error = sys::rd_kafka_event_error(event);
        let code: RDKafkaErrorCode = error.into();
        if code == RDKafkaErrorCode::NoError {
            return Ok(());
        }
        let text = CStr::from_ptr(sys::rd_kafka_err2str(error));
        Err((code, text.to_string_lossy().into_owned()))
    }
}

/// The error of one part of an answer.
///
/// # Safety
/// `error` is null or an error that lives during the call.
pub(super) unsafe fn part(error: *const sys::rd_kafka_error_t) -> Result<(), NoAnswer> {
    // SAFETY: by the caller; librdkafka takes null for no error.
    unsafe {
        let code: RDKafkaErrorCode = sys::rd_kafka_error_code(error).into();
        if code == RDKafkaErrorCode::NoError {
            return Ok(());
        }
        let text = CStr::from_ptr(sys::rd_kafka_error_string(error));
        Err((code, text.to_string_lossy().into_owned()))
    }
}

/// An answer that is not of the kind that was asked for.
pub(super) fn another_kind() -> NoAnswer {
    let text = "an answer of another kind".to_owned();
    (RDKafkaErrorCode::Fail, text)
}
