//! Rewinds a log to earlier commit boundaries; pipelines that read its zone follow (docs/protocol.md §8, §10 B0).
//!
//! ```text
//! go_back  targets → State::back_to → rests of straddling files → rewind entry → sweep → rests published
//! follow   the reader in the other log was set back, or rows of a batch were taken back → go_back of the own log
//! ```

use std::collections::BTreeMap;

use crate::commit::{Committed, Draft, Log, Outcome, Reader, Rewind, State};
use crate::error::{Error, Kind, Result};
use crate::pipeline::plan;
use crate::record::SplitId;
use crate::zone::{ParquetOptions, SplitRange, write_rest};

/// How often a rewind is computed again because another process wrote in between. A running pipeline writes once a
/// second.
const CONFLICTS_MAX: usize = 16;

const OP: &str = "pipeline.rewind";

/// Who asked, and why.
#[derive(Clone, Debug)]
pub struct By {
    pub actor: String,
    pub reason: String,
}

impl By {
    /// This process itself, because the zone that it reads was rewound.
    pub fn pipeline(input: &Log) -> By {
        let name = input.name();
        By {
            actor: crate::commit::actor(),
            reason: format!("follows {name}, version {}", input.version()),
        }
    }
}

/// Commits one draft to a log; the caller decides how long to wait.
pub type Commit<'a> = dyn FnMut(&mut Log, Draft) -> Result<Outcome> + 'a;

type Targets = BTreeMap<SplitId, i64>;

/// Takes back the rows above `targets` in the newest state; after a conflict it is computed again. `generation`: that
/// of the reader that is followed. `None`: there was nothing to take back.
pub fn go_back(
    log: &mut Log,
    targets: &dyn Fn(&State) -> Result<Targets>,
    (by, generation): (&By, Option<u64>),
    parquet: &ParquetOptions,
    commit: &mut Commit<'_>,
) -> Result<Option<Committed>> {
    let mut why = String::new();
    for _ in 0..CONFLICTS_MAX {
        let to = targets(log.state())?;
        if to.is_empty() && generation.is_none() {
            return Ok(None);
        }
        log.make_readable()?;
        let back = log.state().back_to(&to).map_err(refused)?;
        let base = log.version();
        let coordinates = coordinates(log.state());
        let rests = back.straddling.iter().map(|straddling| {
            write_rest(log.store(), log.name(), straddling, &coordinates, parquet)
        });
        let rests = match rests.collect::<Result<Vec<_>>>() {
            Ok(rests) => rests,
            Err(error) => {
                // The file may have been removed meanwhile.
                log.refresh()?;
                if log.version() == base {
                    return Err(error);
                }
                continue;
            }
        };
        let rewind = Rewind {
            actor: by.actor.clone(),
            reason: by.reason.clone(),
            readers: Vec::new(),
            follows: generation,
        };
        let draft = Draft::Rewind {
            rewind,
            back,
            rests,
            base,
        };
        match commit(log, draft)? {
            Outcome::Committed { committed, .. } => {
                tracing::info!(
                    log = %log.name(), version = committed.version, files = committed.entry.remove.len(),
                    reason = by.reason, "rewound"
                );
                return Ok(Some(committed));
            }
            Outcome::Lost { dropped } => {
                why = dropped
                    .first()
                    .map_or_else(String::new, |d| d.reason.to_string());
                log.refresh()?;
            }
        }
    }
    Err(Error::new(
        Kind::Conflict,
        OP,
        format!("other processes write faster than the rewind is computed: {why}"),
    )
    .with("log", log.name())
    .hint("stop the pipeline, then try again"))
}

fn refused(violation: crate::commit::Violation) -> Error {
    let error = Error::new(Kind::ConfigInvalid, OP, violation.message);
    match violation.split {
        Some(split) => error.with("split", split),
        None => error,
    }
}

/// The coordinates of each split's rows, for all offsets.
fn coordinates(state: &State) -> Vec<SplitRange> {
    let splits = state.splits.iter();
    splits
        .map(|(id, split)| SplitRange {
            split: id.clone(),
            topic: split.topic.as_str().into(),
            partition: split.partition,
            from: i64::MIN,
            to: i64::MAX,
        })
        .collect()
}

/// B0, on two refreshed logs. Batches whose rows were taken back in the log that is read are taken back too, from the first
/// of them on: either the reader was set back (another generation), or it had not yet advanced over the batch (another epoch).
pub fn follow(
    own: &mut Log,
    input: &Log,
    by: &By,
    parquet: &ParquetOptions,
    commit: &mut Commit<'_>,
) -> Result<()> {
    let Some(reader) = input.state().readers.get(&own.name().to_string()) else {
        return not_left_behind(own, input);
    };
    let inputs = &input.state().splits;
    let registered =
        |id: &SplitId, own_start: i64| reader.position.get(id).copied().unwrap_or(own_start);
    let followed = own.state().follows;
    let missing = reader.position.iter().find(|(id, at)| {
        let start = inputs.get(*id).map_or(0, |c| c.readable_from());
        own.state().splits.get(*id).map_or(start, |c| c.to) < **at
    });
    if reader.generation < followed || missing.is_some() {
        return Err(Error::new(
            Kind::LogCorrupt,
            OP,
            "this zone's log and its position in the log it reads do not belong together",
        )
        .with("log", own.name())
        .with("reader", format!("generation {} in {}", reader.generation, input.name()))
        .with("generation", followed)
        .hint("one of the two zones was deleted or restored; to compute this one anew, give it another name (sink.zone)"));
    }
    let epochs_differ = own.state().splits.iter().any(|(id, split)| {
        split.to > registered(id, split.start())
            && inputs.get(id).map(|c| c.epoch) != Some(split.input_epoch)
    });
    if reader.generation == followed && !epochs_differ {
        return Ok(());
    }
    let targets = |state: &State| {
        let above = state.splits.iter().filter_map(|(id, split)| {
            let at = registered(id, split.start());
            (split.to > at).then(|| (id.clone(), at))
        });
        // Another process of this pipeline was first.
        let done = state.follows == reader.generation && reader.generation != followed;
        Ok(if done {
            Targets::new()
        } else {
            above.collect()
        })
    };
    let generation = (reader.generation > followed).then_some(reader.generation);
    let committed = go_back(own, &targets, (by, generation), parquet, commit)?;
    match committed {
        Some(committed) => own.publish(&committed),
        None => Ok(()),
    }
}

/// For a reader that is not registered: for the first time, or because somebody said that it never comes back
/// (`weir zone forget-reader`). Nothing waited for it, so rows that it has not read may have expired, or rows that it has read may
/// have been taken back.
fn not_left_behind(own: &Log, input: &Log) -> Result<()> {
    let inputs = &input.state().splits;
    let read = own.state().splits.iter();
    let mut read = read.filter(|(_, split)| split.to > split.start());
    let gone = read.find_map(|(id, split)| {
        let of = inputs.get(id)?;
        let what = match (of.readable_from() > split.to, of.epoch == split.input_epoch) {
            (true, _) => "rows that it has not read have expired",
            (false, false) => "rows that it has read were taken back",
            (false, true) => return None,
        };
        Some((id, split.to, of.readable_from(), what))
    });
    let Some((id, at, from, what)) = gone else {
        return Ok(());
    };
    let message = format!(
        "this pipeline was forgotten as a reader of {}, and {what}",
        input.name()
    );
    Err(Error::new(Kind::SourceLost, OP, message)
        .with("split", id)
        .with("position", at)
        .with("readable from", from)
        .hint("to go on with what is there, give this pipeline's zone another name (sink.zone and sink.table): it begins anew"))
}

/// The position that must be written to the other log; `None` if it is there already.
pub fn position(own: &Log, input: &Log, table: &str) -> Option<Reader> {
    let name = own.name().to_string();
    let known = input.state().readers.get(&name);
    let mut position: Targets = plan::splits_of_table(input.state(), table)
        .into_iter()
        .map(|(id, split)| (id.clone(), split.readable_from()))
        .collect();
    // If all rows of a split were taken back, nothing may show any more that it belongs to the table.
    position.extend(known.into_iter().flat_map(|k| k.position.clone()));
    for (id, at) in &mut position {
        *at = own.state().splits.get(id).map_or(*at, |c| c.to);
    }
    if known.is_some_and(|reader| reader.position == position) {
        return None;
    }
    Some(Reader {
        name,
        generation: own.state().follows,
        version: input.version(),
        position,
    })
}
