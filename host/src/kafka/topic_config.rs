//! Settings of a topic, as the broker tells them.
#![allow(
    unsafe_code,
    reason = "DescribeConfigs is asked for with the raw admin interface, as topic ids and rights are"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::admin::{NoAnswer, another_kind, ask};
use super::client::Consumer;

/// Values of settings by name; none that the topic does not have. Empty: this user may not see them.
pub(super) type Settings = BTreeMap<String, String>;

/// All settings of a topic.
pub(super) fn of_topic(
    consumer: &Consumer,
    topic: &str,
    timeout: Duration,
) -> Result<Settings, NoAnswer> {
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
                read(*list)
            },
        )
    }
}

/// # Safety
/// `resource` lives during the call, and so do the strings of its entries.
unsafe fn read(resource: *const sys::rd_kafka_ConfigResource_t) -> Result<Settings, NoAnswer> {
    // SAFETY: by the caller; null strings are looked at before they are read.
    unsafe {
        let code: RDKafkaErrorCode = sys::rd_kafka_ConfigResource_error(resource).into();
        match code {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::TopicAuthorizationFailed => return Ok(Settings::new()),
            _ => return Err((code, String::new())),
        }
        let mut count = 0;
        let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
        if entries.is_null() {
            return Ok(Settings::new());
        }
        let text = |text: *const std::ffi::c_char| {
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        let all = (0..count).filter_map(|at| {
            let entry = *entries.add(at);
            let name = text(sys::rd_kafka_ConfigEntry_name(entry))?;
            Some((name, text(sys::rd_kafka_ConfigEntry_value(entry))?))
        });
        Ok(all.collect())
    }
}
