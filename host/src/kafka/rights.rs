//! What this client may do with a topic and with a group, as the broker reports it.
#![allow(
    unsafe_code,
    reason = "authorized operations are in the raw descriptions of topics and groups only"
)]

use std::ffi::{CString, c_char};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::admin::{NoAnswer, another_kind, ask, part};
use super::client::Consumer;
use super::topic_id::described;

/// The relevant operations among those that the broker listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub describe: bool,
    pub read: bool,
    pub write: bool,
}

/// `None`: the broker does not report it (before 2.3, or the mock cluster).
pub(super) fn on_topic(
    consumer: &Consumer,
    topic: &str,
    timeout: Duration,
) -> Result<Option<Rights>, NoAnswer> {
    // SAFETY: the list lives as long as the description.
    let told = described(consumer, topic, timeout, true, |topic| unsafe {
        let mut count = 0;
        let list = sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut count);
        listed(list, count)
    });
    or_untold(told)
}

/// As [`on_topic`]. Works for a group that was never used, too.
pub(super) fn on_group(
    consumer: &Consumer,
    group: &str,
    timeout: Duration,
) -> Result<Option<Rights>, NoAnswer> {
    let name = CString::new(group).map_err(|_| {
        let text = "a zero in the name".to_owned();
        (RDKafkaErrorCode::InvalidGroupId, text)
    })?;
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    // SAFETY: the name outlives the request, which copies it; the result and its parts live inside the event.
    let told = unsafe {
        ask(
            consumer,
            op,
            true,
            timeout,
            |client, options, queue| {
                let mut names: [*const c_char; 1] = [name.as_ptr()];
                sys::rd_kafka_DescribeConsumerGroups(
                    client,
                    names.as_mut_ptr(),
                    names.len(),
                    options,
                    queue,
                );
            },
            |event| {
                let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
                if result.is_null() {
                    return Err(another_kind());
                }
                let mut count = 0;
                let list = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
                if count != 1 || list.is_null() {
                    let text = format!("{count} groups for one");
                    return Err((RDKafkaErrorCode::Fail, text));
                }
                let group = *list;
                part(sys::rd_kafka_ConsumerGroupDescription_error(group))?;
                let mut count = 0;
                let list =
                    sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &mut count);
                Ok(listed(list, count))
            },
        )
    };
    or_untold(told)
}

/// Turns the answer of a broker that does not know the request, or this part of it, into `None`.
fn or_untold(told: Result<Option<Rights>, NoAnswer>) -> Result<Option<Rights>, NoAnswer> {
    match told {
        Err((RDKafkaErrorCode::UnsupportedFeature, _)) => Ok(None),
        told => told,
    }
}

/// # Safety
/// `list` is null, or `count` operations live there during the call.
unsafe fn listed(list: *const sys::rd_kafka_AclOperation_t, count: usize) -> Option<Rights> {
    use sys::rd_kafka_AclOperation_t as Operation;
    if list.is_null() {
        return None;
    }
    let numbers = match count {
        0 => &[],
        // SAFETY: by the caller; an empty list is never looked at. They are read as numbers, so that an operation that this
        // enum lacks is no wrong value of it.
        _ => unsafe { std::slice::from_raw_parts(list.cast::<u32>(), count) },
    };
    let has = |operation: Operation| {
        let all = Operation::RD_KAFKA_ACL_OPERATION_ALL as u32;
        numbers.iter().any(|n| *n == operation as u32 || *n == all)
    };
    Some(Rights {
        describe: has(Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE),
        read: has(Operation::RD_KAFKA_ACL_OPERATION_READ),
        write: has(Operation::RD_KAFKA_ACL_OPERATION_WRITE),
    })
}
