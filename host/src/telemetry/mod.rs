//! What a run reports: log lines on stderr, one event per commit, progress for people or for programs.
//!
//! The pipeline reports facts to a [`Report`]; their form is decided here. An event is a type ([`events`]): log line,
//! progress line, bar and JSON are made from one value, and all field names are in one file.

mod bars;
pub mod events;

mod meters;
pub mod metrics;
mod process;
pub mod progress;
pub mod query;
pub mod recent;
mod screen;
mod tally;
pub mod webhook;
mod words;

pub use events::{CommitReport, Durations, Failure, Reading, Report, Resting, SpanReport};
pub use events::{Counters, counted};
pub use events::{Started, Stopped, Swapped, Waiting};
pub use meters::{Meter, Meters};
pub use progress::{Progress, ProgressMode};
pub use screen::{columns, fold, fold_hanging, logged_on_stderr, on_stderr, on_stdout, width};
pub use tally::{Tally, kind_name, ledger_of};
pub use words::{bytes, count, plural, time};
