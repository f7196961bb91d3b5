//! The cluster that takes the rows of a pipeline: transactions under the pipeline's own id.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::outbox::Takes;
use super::topics::Topics;
use super::{STAMP_MARGIN, at_sink, packet};
use crate::error::{Error, Kind, Result};
use crate::kafka::{KafkaProps, Mark, Outgoing, Topic, Transactional, refuses_timestamp};

/// Connects when it is asked to take over, and anew after each error.
#[derive(Debug)]
pub struct Cluster {
    props: KafkaProps,
    /// Transactional id, and the group of its marks.
    id: String,
    topics: Arc<Topics>,
    open: Option<Open>,
    stamps: Stamps,
}

/// Which records keep their timestamps. A row was checked before its commit; the broker looks again when it is appended, which may
/// be much later. A row that is committed has to go, so it goes without its timestamp then: it gets that of its sending.
#[derive(Debug, Default)]
struct Stamps {
    /// The delivery that was refused for a timestamp, and how often.
    refused: Option<(String, u32)>,
}

impl Stamps {
    /// False: there are no more to leave out.
    fn leave_out(&mut self, delivery: &str) -> bool {
        let times = self.times(delivery) + 1;
        self.refused = Some((delivery.to_owned(), times));
        times <= 2
    }

    fn times(&self, delivery: &str) -> u32 {
        let of_delivery = self.refused.as_ref().filter(|(id, _)| id == delivery);
        of_delivery.map_or(0, |(_, times)| *times)
    }

    /// At first those stay that the topic takes for certain, as far as it tells; then none.
    fn stays(&self, delivery: &str, takes: impl FnOnce() -> Result<bool>) -> Result<bool> {
        match self.times(delivery) {
            0 => Ok(true),
            1 => takes(),
            _ => Ok(false),
        }
    }
}

#[derive(Debug)]
struct Open {
    client: Transactional,
    /// It sends no larger batch.
    batch: usize,
}

impl Cluster {
    pub fn new(props: KafkaProps, id: String, topics: Arc<Topics>) -> Cluster {
        Cluster {
            props,
            id,
            topics,
            open: None,
            stamps: Stamps::default(),
        }
    }

    fn open(&self) -> Result<&Open> {
        self.open.as_ref().ok_or_else(|| {
            Error::new(
                Kind::Bug,
                "kafka.outbox",
                "a transaction before taking over",
            )
        })
    }

    /// Without a timestamp that the topic did not take.
    fn stamped<'a>(
        &self,
        delivery: &str,
        topic: &str,
        mut out: Outgoing<'a>,
    ) -> Result<Outgoing<'a>> {
        if let Some(at) = out.timestamp {
            let takes = || {
                let found = self.topics.find(topic)?;
                let Topic::Takes(takes) = found.as_ref() else {
                    return Ok(true);
                };
                Ok(takes.takes_timestamp(at, self.topics.now(), STAMP_MARGIN))
            };
            if !self.stamps.stays(delivery, takes)? {
                out.timestamp = None;
            }
        }
        Ok(out)
    }

    /// The topics of a packet that was made by another process were perhaps not asked for yet.
    fn ask_for_topics(&self, packet: &[u8]) -> Result<()> {
        let mut topics = BTreeSet::new();
        packet::each(packet, |topic, _| {
            topics.insert(topic.to_owned());
            Ok(())
        })?;
        topics
            .iter()
            .try_for_each(|topic| self.topics.find(topic).map(drop))
    }
}

impl Takes for Cluster {
    fn take_over(&mut self) -> Result<()> {
        self.open = None;
        let batch = self.topics.least_batch();
        let props = self.props.clone().batches_up_to(batch);
        let client = Transactional::open(&props, &self.id).map_err(at_sink)?;
        self.open = Some(Open { client, batch });
        Ok(())
    }

    fn mark(&mut self, topic: &str) -> Result<Option<Mark>> {
        self.open()?.client.mark(topic).map_err(at_sink)
    }

    fn carry(&mut self, topic: &str, mark: &Mark, packet: Option<&[u8]>) -> Result<()> {
        let Open { client, batch } = self.open()?;
        let batch = *batch;
        let packet = packet.unwrap_or(packet::NONE);
        if self.topics.least_batch() < batch {
            return Err(too_large_batches());
        }
        let carried = client.run(topic, mark, |send| {
            packet::each(packet, |topic, out| {
                send(topic, self.stamped(&mark.text, topic, out)?)
            })
        });
        let Err(error) = carried.map_err(at_sink) else {
            return Ok(());
        };
        if refuses_timestamp(&error) && self.stamps.leave_out(&mark.text) {
            return Err(too_far_stamps().source(error));
        }
        if error.kind() == Kind::SinkRefused {
            self.ask_for_topics(packet)?;
            if self.topics.least_batch() < batch {
                return Err(too_large_batches().source(error));
            }
        }
        Err(error)
    }
}

/// Only a client that is opened anew sends smaller ones; then the mark has to be read again.
fn too_large_batches() -> Error {
    let message =
        "batches of this client are too large for a topic; it begins anew with smaller ones";
    Error::new(Kind::SinkUnavailable, "kafka.outbox", message)
}

/// As above: the transaction that was refused is aborted by whoever takes over.
fn too_far_stamps() -> Error {
    let message = "a topic does not take the timestamps of records that are committed; they are sent again without them";
    Error::new(Kind::SinkUnavailable, "kafka.outbox", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::TopicTakes;

    #[test]
    fn timestamps_that_a_topic_refuses_are_left_out_of_that_delivery_and_no_other() {
        let mut stamps = Stamps::default();
        let stays = |stamps: &Stamps, of: &str, takes| stamps.stays(of, || Ok(takes)).unwrap();
        assert!(stays(&stamps, "a", false), "the broker was not asked yet");
        assert!(stamps.leave_out("a"));
        assert!(stays(&stamps, "a", true) && !stays(&stamps, "a", false));
        assert!(stays(&stamps, "b", false));
        assert!(stamps.leave_out("a"));
        assert!(!stays(&stamps, "a", true) && stays(&stamps, "b", false));
        assert!(!stamps.leave_out("a"), "none is left: it is something else");
        assert!(stamps.leave_out("b"));
    }

    #[test]
    fn a_timestamp_at_the_edge_of_what_a_topic_takes_is_too_far() {
        let takes = |before, after| TopicTakes {
            before,
            after,
            ..TopicTakes::default()
        };
        let hour = 3_600_000;
        let old = takes(Some(hour), None);
        assert!(old.takes_timestamp(-hour, 0, 0) && !old.takes_timestamp(-hour - 1, 0, 0));
        let edge = hour - STAMP_MARGIN;
        assert!(old.takes_timestamp(-edge, 0, STAMP_MARGIN));
        assert!(!old.takes_timestamp(-edge - 1, 0, STAMP_MARGIN));
        // A tenth of a narrow limit.
        let ahead = takes(None, Some(1_000));
        assert!(ahead.takes_timestamp(900, 0, STAMP_MARGIN));
        assert!(!ahead.takes_timestamp(901, 0, STAMP_MARGIN));
        assert!(takes(None, None).takes_timestamp(i64::MIN, 0, STAMP_MARGIN));
        assert!(takes(Some(i64::MAX), None).takes_timestamp(0, 1, STAMP_MARGIN));
    }
}
