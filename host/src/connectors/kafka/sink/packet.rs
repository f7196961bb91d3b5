//! The records of one delivery as bytes, as they wait in the outbox: what is sent after a crash is what would have been sent.
//!
//! ```text
//! "WKO1" record*
//! record = flags u8, topic text, [partition i32], [timestamp i64], [key bytes], [value bytes], headers u16, header*
//! header = name text, present u8, [value bytes]        text, bytes = length u32, bytes; numbers little endian
//! ```
//! A format of its own version: it lives for seconds, but a newer program may find what an older one left.

use crate::error::{Error, Kind, Result};
use crate::kafka::Outgoing;

const MAGIC: &[u8] = b"WKO1";
/// No records.
pub const NONE: &[u8] = MAGIC;
const PARTITION: u8 = 1;
const TIMESTAMP: u8 = 2;
const KEY: u8 = 4;
const VALUE: u8 = 8;

/// An empty one.
pub fn new() -> Vec<u8> {
    MAGIC.to_vec()
}

/// Appends a record.
pub fn add(to: &mut Vec<u8>, topic: &str, out: &Outgoing<'_>) {
    let flag = |there: bool, flag: u8| if there { flag } else { 0 };
    to.push(
        flag(out.partition.is_some(), PARTITION)
            | flag(out.timestamp.is_some(), TIMESTAMP)
            | flag(out.key.is_some(), KEY)
            | flag(out.value.is_some(), VALUE),
    );
    bytes(to, topic.as_bytes());
    to.extend(out.partition.iter().flat_map(|n| n.to_le_bytes()));
    to.extend(out.timestamp.iter().flat_map(|n| n.to_le_bytes()));
    for one in [out.key, out.value].into_iter().flatten() {
        bytes(to, one);
    }
    let headers = u16::try_from(out.headers.len()).unwrap_or(u16::MAX);
    to.extend(headers.to_le_bytes());
    for (name, value) in out.headers.iter().take(headers.into()) {
        bytes(to, name.as_bytes());
        to.push(u8::from(value.is_some()));
        if let Some(value) = value {
            bytes(to, value);
        }
    }
}

fn bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    // A record is smaller than a packet, and that than 4 GiB: `sink.record.max.bytes`.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.extend(length.to_le_bytes());
    to.extend_from_slice(bytes);
}

/// Every record in its order, with its topic.
pub fn each(packet: &[u8], mut take: impl FnMut(&str, Outgoing<'_>) -> Result<()>) -> Result<()> {
    let mut at = Reader(packet);
    if at.take(MAGIC.len())? != MAGIC {
        return Err(damaged());
    }
    while !at.0.is_empty() {
        let flags = at.number::<1>()?[0];
        let has = |flag: u8| flags & flag != 0;
        let topic = at.text()?;
        let partition = has(PARTITION).then(|| at.number().map(i32::from_le_bytes));
        let partition = partition.transpose()?;
        let timestamp = has(TIMESTAMP).then(|| at.number().map(i64::from_le_bytes));
        let timestamp = timestamp.transpose()?;
        let key = has(KEY).then(|| at.bytes()).transpose()?;
        let value = has(VALUE).then(|| at.bytes()).transpose()?;
        let mut headers = Vec::new();
        for _ in 0..u16::from_le_bytes(at.number()?) {
            let name = at.text()?;
            let there = at.number::<1>()?[0] != 0;
            headers.push((name, there.then(|| at.bytes()).transpose()?));
        }
        let out = Outgoing {
            key,
            value,
            headers: &headers,
            partition,
            timestamp,
        };
        take(topic, out)?;
    }
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged())
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = u32::from_le_bytes(self.number()?);
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged())
    }
}

fn damaged() -> Error {
    Error::new(
        Kind::LogCorrupt,
        "kafka.outbox",
        "the records of a delivery are not what was written",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_and_a_torn_packet_is_noticed() {
        let mut packet = new();
        let first = Outgoing {
            key: Some(b"k"),
            value: None,
            headers: &[("a", Some(b"1")), ("b", None)],
            partition: Some(7),
            timestamp: None,
        };
        let second = Outgoing {
            value: Some(b""),
            timestamp: Some(-5),
            ..Outgoing::default()
        };
        add(&mut packet, "books", &first);
        add(&mut packet, "other", &second);
        let mut seen = Vec::new();
        each(&packet, |topic, out| {
            seen.push(format!("{topic} {out:?}"));
            Ok(())
        })
        .expect("whole");
        assert_eq!(
            seen,
            [format!("books {first:?}"), format!("other {second:?}")]
        );
        for length in 5..packet.len() - 1 {
            let torn = each(&packet[..length], |_, _| Ok(()));
            let border = length == packet.len() - 24;
            assert!(torn.is_err() || border, "{length} of {}", packet.len());
        }
    }
}
