//! Events of a consumer directly from librdkafka: messages without a copy, and errors with topic, partition and offset.
//!
//! rdkafka's own `poll` drops the topic and the offset of "end of partition" and of "offset out of range"; positions
//! depend on both. Raw calls are in here, `admin`, `topic_id` and `rights` only, behind types that keep the client
//! alive.
#![allow(
    unsafe_code,
    reason = "librdkafka's event queue: rdkafka drops topic and offset of consumer errors"
)]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use crate::error::{Error, Kind, Result};

use super::client::{self, Consumer};

/// A consumer whose queue is read here. The queue is dropped before the client, as librdkafka demands.
pub(super) struct EventConsumer {
    queue: Queue,
    consumer: Consumer,
}

struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are thread safe by its documentation; the handle is owned by one value.
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle came from rd_kafka_queue_get_consumer and is destroyed once, before its client.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl EventConsumer {
    pub(super) fn open(config: &ClientConfig) -> Result<EventConsumer> {
        let consumer = client::consumer(config)?;
        // SAFETY: the client is alive; the returned reference is ours to destroy.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue)
            .ok_or_else(|| Error::new(Kind::Bug, "kafka.open", "a consumer without a queue"))?;
        Ok(EventConsumer {
            queue: Queue(queue),
            consumer,
        })
    }

    pub(super) fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// The next event, within `wait`. Events made outdated by a seek are dropped inside librdkafka.
    pub(super) fn poll(&self, wait: Duration) -> Option<Event<'_>> {
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: queue and client are alive; the event is owned by the returned value.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.0.as_ptr(), millis) };
        Some(Event {
            event: NonNull::new(event)?,
            consumer: &self.consumer,
        })
    }

    /// The end of a partition according to the last fetch; no request is made.
    pub(super) fn known_end(&self, topic: &CStr, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is alive, the name is a C string, both results are local.
        let code = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
                &mut low,
                &mut high,
            )
        };
        (code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

pub(super) struct Event<'a> {
    event: NonNull<sys::rd_kafka_event_t>,
    consumer: &'a Consumer,
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed once; messages borrowed from it cannot outlive it.
        unsafe { sys::rd_kafka_event_destroy(self.event.as_ptr()) }
    }
}

/// The content of an event.
pub(super) enum Content<'a> {
    Message(Message<'a>),
    Error(Failure),
    /// A log line (already written) or something we did not ask for.
    Nothing,
}

/// A consumer or client error. `at` is missing when it is about the whole client.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
    pub(super) fatal: bool,
    pub(super) at: Option<(String, i32, i64)>,
}

impl Event<'_> {
    pub(super) fn content(&self) -> Content<'_> {
        let event = self.event.as_ptr();
        // SAFETY: the event is alive as long as self.
        match unsafe { sys::rd_kafka_event_type(event) } {
            sys::RD_KAFKA_EVENT_FETCH => {
                // SAFETY: a fetch event holds one message, which lives as long as the event.
                let message = unsafe { sys::rd_kafka_event_message_next(event).as_ref() };
                match message {
                    Some(m) if m.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                        Content::Message(Message(m))
                    }
                    // librdkafka gives some errors as messages: the payload is a text then, not a record.
                    Some(m) => Content::Error(Failure {
                        code: m.err.into(),
                        reason: "in the place of a record".to_owned(),
                        fatal: false,
                        at: None,
                    }),
                    None => Content::Nothing,
                }
            }
            sys::RD_KAFKA_EVENT_ERROR => Content::Error(self.failure()),
            sys::RD_KAFKA_EVENT_LOG => {
                self.log();
                Content::Nothing
            }
            _ => Content::Nothing,
        }
    }

    fn shown(&self, text: &str) -> String {
        let hidden = &self.consumer.context().hidden;
        hidden.scrub(text).into_owned()
    }

    fn failure(&self) -> Failure {
        let event = self.event.as_ptr();
        // SAFETY: the event is an error event and alive; strings are copied; the partition is ours to destroy, and its
        // topic is a C string until then.
        unsafe {
            let tp = sys::rd_kafka_event_topic_partition(event);
            let at = tp.as_ref().map(|tp| {
                let topic = text(tp.topic);
                (topic, tp.partition, tp.offset)
            });
            if !tp.is_null() {
                sys::rd_kafka_topic_partition_destroy(tp);
            }
            Failure {
                code: sys::rd_kafka_event_error(event).into(),
                reason: self.shown(&text(sys::rd_kafka_event_error_string(event))),
                fatal: sys::rd_kafka_event_error_is_fatal(event) != 0,
                at,
            }
        }
    }

    fn log(&self) {
        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is a log event and alive; both strings are its own and are read before it goes.
        unsafe {
            let event = self.event.as_ptr();
            if sys::rd_kafka_event_log(event, &mut facility, &mut line, &mut level) == 0 {
                client::log_line(level, &text(facility), self.shown(&text(line)).trim());
            }
        }
    }
}

/// # Safety
/// `s` is null or a C string that lives during the call.
unsafe fn text(s: *const c_char) -> String {
    if s.is_null() {
        return String::new();
    }
    // SAFETY: by the caller.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

/// # Safety
/// `p` is null, or `len` bytes live there during `'a`.
unsafe fn bytes<'a>(p: *const c_void, len: usize) -> Option<&'a [u8]> {
    let p = NonNull::new(p.cast_mut())?;
    // SAFETY: by the caller; the pointer is not null.
    Some(unsafe { std::slice::from_raw_parts(p.as_ptr().cast::<u8>(), len) })
}

/// A record inside librdkafka's fetch buffer.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a sys::rd_kafka_message_t);

impl<'a> Message<'a> {
    pub(super) fn offset(self) -> i64 {
        self.0.offset
    }

    pub(super) fn partition(self) -> i32 {
        self.0.partition
    }

    pub(super) fn is_of(self, topic: &CStr) -> bool {
        // SAFETY: a message's topic handle lives as long as the message; the name as long as the handle.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) == topic }
    }

    pub(super) fn value(self) -> Option<&'a [u8]> {
        // SAFETY: payload and length are the message's own, alive during 'a.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    pub(super) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: key and length are the message's own, alive during 'a.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Microseconds since 1970 UTC, where the broker gave a time.
    pub(super) fn timestamp(self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; the kind is local.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.0, &mut kind) };
        if kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || millis < 0 {
            return None;
        }
        millis.checked_mul(1_000)
    }

    /// They lie behind the value, and are first touched when the first one is asked for: after the value was copied that is
    /// no cache miss.
    pub(super) fn headers(self) -> Headers<'a> {
        Headers {
            headers: None,
            next: 0,
            message: self,
        }
    }

    fn parsed_headers(self) -> Option<NonNull<sys::rd_kafka_headers_t>> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive; headers stay its own. An error leaves the pointer null: no headers.
        let code = unsafe { sys::rd_kafka_message_headers(self.0, &mut headers) };
        let is_fine = code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        NonNull::new(headers).filter(|_| is_fine)
    }
}

pub(super) struct Headers<'a> {
    headers: Option<NonNull<sys::rd_kafka_headers_t>>,
    next: usize,
    message: Message<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == 0 {
            self.headers = self.message.parsed_headers();
        }
        let headers = self.headers?;
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: headers, name and value are the message's own, alive during 'a; name is a C string.
        unsafe {
            let code = sys::rd_kafka_header_get_all(
                headers.as_ptr(),
                self.next,
                &mut name,
                &mut value,
                &mut len,
            );
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            self.next += 1;
            // Kafka's names are UTF-8; a header with another name keeps its value under a name that says so.
            let name = CStr::from_ptr(name).to_str().unwrap_or("(not utf-8)");
            Some((name, bytes(value, len)))
        }
    }
}
