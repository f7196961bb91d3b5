//! What the commits of a pipeline came to, kept in memory: whoever looks at many pipelines at once reads no log.

use std::collections::VecDeque;
use std::time::Duration;

use crate::chain::Ledger;
use crate::commit::{Committed, State};
use crate::operations::status::{Beat, Live};

/// Most commits that are kept of a pipeline: a minute at one a second, and as many points as a small chart can show.
const BEATS: usize = 60;

#[derive(Debug)]
pub(super) struct Pulse {
    version: u64,
    generation: u64,
    last_commit: Option<i64>,
    totals: Ledger,
    beats: VecDeque<Beat>,
}

impl Pulse {
    /// The pipeline begins, perhaps once more: the commits before are kept.
    pub fn begun(held: &mut Option<Pulse>, state: &State) {
        let beats = held.take().map(|before| before.beats);
        // A file knows when its newest rows were committed; 0 where it does not.
        let times = state.live.values().map(|live| live.time);
        *held = Some(Pulse {
            version: state.version,
            generation: state.generation(),
            last_commit: times.max().filter(|time| *time > 0),
            totals: state.totals(),
            beats: beats.unwrap_or_default(),
        });
    }

    pub fn committed(&mut self, committed: &Committed, state: &State, took: Duration) {
        self.version = state.version;
        self.generation = state.generation();
        self.totals = state.totals();
        let entry = &committed.entry;
        if !entry.kind.settles() {
            return;
        }
        self.last_commit = Some(entry.time);
        let mut beat = Beat {
            version: committed.version,
            time: entry.time,
            read: 0,
            written: 0,
            dead_letters: 0,
            commit_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        for span in &entry.spans {
            beat.read += span.records.read;
            beat.written += span.rows.written;
            beat.dead_letters += span.dead_letters;
        }
        if self.beats.len() == BEATS {
            self.beats.pop_front();
        }
        self.beats.push_back(beat);
    }

    pub fn shown(&self, lag: Option<u64>) -> Live {
        Live {
            version: self.version,
            generation: self.generation,
            last_commit: self.last_commit,
            lag,
            records: self.totals.records,
            rows: self.totals.rows,
            dead_letters: self.totals.dead_letters,
            closes: self.totals.closes(),
            recent: self.beats.iter().copied().collect(),
        }
    }
}
