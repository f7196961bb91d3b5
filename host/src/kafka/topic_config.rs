//! Settings of a topic, as the broker tells them.
#![allow(
    unsafe_code,
    reason = "DescribeConfigs is asked for with the raw admin interface, as topic ids and rights are"
)]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::admin::{NoAnswer, another_kind, ask};
use super::client::Consumer;

/// The value of one setting. `None`: the topic has no such setting, or this user may not see it.
pub(super) fn of_topic(
    consumer: &Consumer,
    topic: &str,
    setting: &str,
    timeout: Duration,
) -> Result<Option<String>, NoAnswer> {
    let name = CString::new(topic).map_err(|_| {
        let text = "a zero in the name".to_owned();
        (RDKafkaErrorCode::InvalidTopic, text)
    })?;
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    // SAFETY: the resource is copied by the request and destroyed once; the result and its parts live inside the event.
    unsafe {
        ask(
            consumer,
            op,
            false,
            timeout,
            |client, options, queue| {
                let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
                let resource = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
                if resource.is_null() {
                    return;
                }
                let mut resources = [resource];
                sys::rd_kafka_DescribeConfigs(
                    client,
                    resources.as_mut_ptr(),
                    resources.len(),
                    options,
                    queue,
                );
                sys::rd_kafka_ConfigResource_destroy(resource);
            },
            |event| {
                let result = sys::rd_kafka_event_DescribeConfigs_result(event);
                if result.is_null() {
                    return Err(another_kind());
                }
                let mut count = 0;
                let list = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
                if count != 1 || list.is_null() {
                    return Err((RDKafkaErrorCode::Fail, format!("{count} topics for one")));
                }
                read(*list, setting)
            },
        )
    }
}

/// # Safety
/// `resource` lives during the call, and so do the strings of its entries.
unsafe fn read(
    resource: *const sys::rd_kafka_ConfigResource_t,
    setting: &str,
) -> Result<Option<String>, NoAnswer> {
    // SAFETY: by the caller; null strings are looked at before they are read.
    unsafe {
        let code: RDKafkaErrorCode = sys::rd_kafka_ConfigResource_error(resource).into();
        if code != RDKafkaErrorCode::NoError {
            return match code {
                RDKafkaErrorCode::TopicAuthorizationFailed => Ok(None),
                _ => Err((code, String::new())),
            };
        }
        let mut count = 0;
        let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
        if entries.is_null() {
            return Ok(None);
        }
        for at in 0..count {
            let entry = *entries.add(at);
            let name = sys::rd_kafka_ConfigEntry_name(entry);
            let value = sys::rd_kafka_ConfigEntry_value(entry);
            if !name.is_null()
                && !value.is_null()
                && CStr::from_ptr(name).to_bytes() == setting.as_bytes()
            {
                return Ok(Some(CStr::from_ptr(value).to_string_lossy().into_owned()));
            }
        }
        Ok(None)
    }
}
