//! log (bodies follow)
use std::sync::Arc;
use std::time::Duration;

use super::{Draft, LogName, Outcome, Rule, State, Writer};
use crate::clock::Clock;
use crate::error::Result;
use crate::store::Store;

#[derive(Debug)]
pub struct Log {
    state: State,
}

impl Log {
    /// R1, R2: reads the whole log and proves it. Publishes nothing, collects nothing, writes nothing: for `weir log`, and for
    /// reading (and registering a `reader` in) the log of another zone. `None`: there is no log.
    pub fn open(store: Arc<dyn Store>, name: LogName, clock: Arc<dyn Clock>, writer: Writer) -> Result<Option<Log>> { todo!() }

    /// The owner's way in: opens the log or begins it with these rules, then redoes publishes and collects orphans.
    /// Where the log exists, `rules` are not looked at: compare with [`State::rules`] and swap.
    pub fn open_or_init(store: Arc<dyn Store>, name: LogName, clock: Arc<dyn Clock>, writer: Writer, rules: Vec<Rule>) -> Result<Log> { todo!() }

    /// R2: reads what others appended.
    pub fn refresh(&mut self) -> Result<()> { todo!() }

    /// W3–W6. `Err` with remedy Retry: the store does not answer and the attempt is unsettled; it stays in here, and
    /// `settle` or `leave` must end it before another draft may come. Does not wait for the pace, see [`Log::ready_in`].
    pub fn commit(&mut self, draft: Draft) -> Result<Outcome> { todo!() }

    /// Goes on with an unsettled attempt. `None`: there is none.
    pub fn settle(&mut self) -> Result<Option<Outcome>> { todo!() }

    /// Ends an unsettled attempt by putting a `gc` entry of its files in its place: whichever lands settles it. For a
    /// deadline; if this fails too, stopping is safe.
    pub fn leave(&mut self) -> Result<Option<Outcome>> { todo!() }

    pub fn unsettled(&self) -> bool { todo!() }

    /// How long the committer should still gather receipts before the next data entry (PROTOCOL §5, Pace). Zero for the
    /// first; skip it when draining.
    pub fn ready_in(&self) -> Duration { todo!() }

    /// Files of this process that no entry will name (an abandoned seal): collected with the next data entry.
    pub fn disown(&mut self, files: impl IntoIterator<Item = String>) { todo!() }

    /// The proved version P.
    pub fn version(&self) -> u64 { self.state.version }

    pub fn state(&self) -> &State { &self.state }

    pub fn name(&self) -> &LogName { todo!() }

    pub fn store(&self) -> &Arc<dyn Store> { todo!() }
}
