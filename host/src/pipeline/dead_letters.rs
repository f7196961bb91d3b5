//! Committed dead letters go on into a topic, where the config names one. In a thread of its own: no commit waits for it, and a
//! broker that is away is waited for. At the end of a run it sends what is left, for as long as a shutdown may take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::stop::Stop;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::commit::{AddedFile, Role, State, View};
use crate::connectors::kafka::dead_letters::DeadLetterTopic;
use crate::error::{Remedy, Result};

/// How long it sleeps when there is nothing to send: letters are seldom, and nobody waits for one.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Versions whose files are looked up at once.
const VERSIONS_AT_ONCE: usize = 100;

#[derive(Debug)]
pub struct DeadLetterCopy {
    pub topic: DeadLetterTopic,
    pub view: Arc<View>,
    /// Asked when the committer has ended; what is left may still be sent until its deadline.
    pub stop: Stop,
    pub clock: Arc<dyn Clock>,
    /// `retry.*`
    pub backoff: Backoff,
    /// The version of the log up to which nothing is left to send.
    pub looked: Option<u64>,
    /// The version from which on letters are not in their topic yet: they do not expire.
    pub left: Arc<AtomicU64>,
}

impl DeadLetterCopy {
    /// Until it is asked to stop and nothing is left. An error: a person has to act.
    pub fn run(mut self) -> Result<()> {
        let first = self.backoff;
        loop {
            // Asked before it looks: what was committed before is seen.
            let ending = self.stop.asked();
            match self.send() {
                Ok(true) => {
                    self.told(first);
                    continue;
                }
                Ok(false) if ending => return Ok(()),
                Ok(false) => {
                    self.told(first);
                    self.stop.wait(LOOK_EVERY);
                }
                Err(error) if error.remedy() == Remedy::StopPipeline => return Err(error),
                Err(error) => {
                    if !self.backoff.is_waiting() {
                        tracing::warn!(topic = self.topic.topic, %error, "dead letters wait for their topic; they are in the table");
                    }
                    let wait = self.backoff.next_wait();
                    match ending {
                        true if self.stop.overdue() => {
                            tracing::warn!(
                                topic = self.topic.topic,
                                "dead letters are left for the next start"
                            );
                            return Ok(());
                        }
                        true => self.clock.sleep(wait.min(self.stop.left())),
                        false => drop(self.stop.wait(wait)),
                    }
                }
            }
        }
    }

    fn told(&mut self, first: Backoff) {
        if self.backoff.is_waiting() {
            tracing::info!(
                topic = self.topic.topic,
                "dead letters go on into their topic"
            );
            self.backoff = first;
        }
    }

    /// Whether there was anything to send.
    fn send(&mut self) -> Result<bool> {
        let from = self.topic.stands()?;
        self.left.store(from, Ordering::Relaxed);
        let version = self.view.read(|state| state.version);
        if version.is_some() && version == self.looked {
            return Ok(false);
        }
        let files = self
            .view
            .read(|state| missing(state, from))
            .unwrap_or_default();
        if files.is_empty() {
            self.looked = version;
        } else if self.topic.lacks_mark() {
            tracing::warn!(
                topic = self.topic.topic,
                "this pipeline has no mark on the topic, so all dead letters of its table go there; if they had gone there before, \
                 the broker has forgotten the mark, and they come again under the same weir.dead_letter.id"
            );
        }
        for (version, files) in &files {
            if let Err(error) = self.topic.send(*version, files) {
                // Taken back meanwhile: it is read no more.
                let live = |file: &AddedFile| {
                    self.view.read(|state| state.live.contains_key(&file.id)) == Some(true)
                };
                match files.iter().all(live) {
                    true => return Err(error),
                    false => break,
                }
            }
        }
        Ok(!files.is_empty())
    }
}

/// Live files of dead letters from this version on, each version's by path.
fn missing(state: &State, from: u64) -> Vec<(u64, Vec<AddedFile>)> {
    let live = state.live.values();
    let live = live.filter(|live| live.version >= from && live.file.role == Role::DeadLetters);
    let mut versions: BTreeMap<u64, Vec<AddedFile>> = BTreeMap::new();
    for live in live {
        versions
            .entry(live.version)
            .or_default()
            .push(live.file.clone());
    }
    for files in versions.values_mut() {
        files.sort_by(|a, b| a.path.cmp(&b.path));
    }
    versions.into_iter().take(VERSIONS_AT_ONCE).collect()
}
