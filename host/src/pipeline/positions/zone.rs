//! Moves back a pipeline that reads a zone: first its reader in the log that is read, then its own log.

use std::collections::BTreeMap;

use super::{
    Altered, EXPIRED, FORGOTTEN, Moved, OP, Order, RewindTarget, To, bad, newest_splits, once,
    rewind,
};
use crate::commit::{Draft, Log, Outcome, Reader, State};
use crate::config::PipelineConfig;
use crate::connectors::zone::parquet_options;
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;

/// First the reader goes back in the log that is read (generation + 1), then the pipeline's own log follows, as it
/// would follow a rewind there. Possible positions are those that the pipeline registered, of all its partitions
/// together: a dropped row may have been a duplicate of a row in another partition.
pub(super) fn alter(
    config: &PipelineConfig,
    (mut input, table): (Log, &str),
    own: &mut Log,
    wanted: &[RewindTarget],
    order: &Order<'_>,
) -> Result<Altered> {
    let by = &order.by();
    let name = own.name().to_string();
    // The own log must not be older than the position that it registered.
    own.refresh()?;
    let asked = asked_of_zone(own.state(), wanted)?;
    let before: BTreeMap<SplitId, i64> = own
        .state()
        .splits
        .iter()
        .map(|(id, split)| (id.clone(), split.to))
        .collect();
    let parquet = parquet_options(config);
    if !order.dry_run {
        own.redo()?;
        // After a crash, the reader's position is first brought up to the own log's.
        rewind::follow(own, &input, by, &parquet, &mut once)?;
        if let Some(reader) = rewind::position(own, &input, table) {
            register(&mut input, reader)?;
        }
    }
    let Some(reader) = input.state().readers.get(&name).cloned() else {
        return Err(bad("the pipeline has not read anything yet").with("reader", name));
    };
    let cut = cut_below(input.state(), &name, &asked)?;
    let target = input.state().position_at(&reader, &cut);
    if target != reader.position {
        let readable = input.state().check_readable("V11", &name, &target);
        readable.map_err(|gone| bad(gone.message).hint(EXPIRED))?;
    }
    let moved = moves(own.state(), &before, &asked, &target);
    if order.exact {
        all_exact(&moved)?;
    }
    if order.dry_run || target == reader.position {
        return Ok(Altered {
            version: None,
            moved,
        });
    }
    let back = Reader {
        generation: reader.generation + 1,
        version: input.version(),
        position: target,
        ..reader
    };
    register(&mut input, back)?;
    rewind::follow(own, &input, by, &parquet, &mut once)?;
    Ok(Altered {
        version: Some(own.version()),
        moved,
    })
}

/// The requests for splits, each with the resulting offset.
type Asked<'a> = BTreeMap<SplitId, (&'a RewindTarget, i64)>;

/// The last registered position that is at or below every requested offset.
fn cut_below(input: &State, reader: &str, asked: &Asked<'_>) -> Result<BTreeMap<SplitId, i64>> {
    let fits = |cut: &BTreeMap<SplitId, i64>| {
        asked
            .iter()
            .all(|(id, (_, offset))| cut.get(id).is_none_or(|at| at <= offset))
    };
    let cuts = input.cuts.get(reader).into_iter().flatten();
    let fitting = cuts.rev().find(|cut| fits(&cut.position));
    fitting.map(|cut| cut.position.clone()).ok_or_else(|| {
        let error = bad("no batch ended at or below these offsets");
        match input.horizon {
            0 => error.hint("`weir log` lists the batches; --all=start goes back before the first"),
            _ => error.hint(FORGOTTEN),
        }
    })
}

/// Which partitions go back, and where to.
fn moves(
    own: &State,
    before: &BTreeMap<SplitId, i64>,
    asked: &Asked<'_>,
    target: &BTreeMap<SplitId, i64>,
) -> Vec<Moved> {
    let of = |(id, from): (&SplitId, &i64)| {
        let split = own.splits.get(id)?;
        let to = target.get(id).copied().unwrap_or_else(|| split.start());
        (to < *from).then(|| Moved {
            topic: split.topic.clone(),
            partition: split.partition,
            from: *from,
            asked: asked.get(id).map_or(*from, |(_, offset)| *offset),
            to,
        })
    };
    before.iter().filter_map(of).collect()
}

fn all_exact(moved: &[Moved]) -> Result<()> {
    let Some(other) = moved.iter().find(|moved| moved.to != moved.asked) else {
        return Ok(());
    };
    let Moved {
        topic,
        partition,
        asked,
        to,
        ..
    } = other;
    Err(bad(format!(
        "a pipeline that reads a zone goes back by whole batches of all partitions: {topic}/{partition} would stand at {to}, not at {asked}"
    ))
    .hint("`weir log` lists the batches; `weir pipeline rewind` goes to the end of a batch"))
}

fn register(input: &mut Log, reader: Reader) -> Result<()> {
    match once(input, Draft::Reader(reader))? {
        Outcome::Committed { .. } => Ok(()),
        Outcome::Lost { dropped } => {
            let why = dropped.first().map(|d| d.reason.to_string());
            Err(Error::new(Kind::Conflict, OP, why.unwrap_or_default())
                .with("log", input.name())
                .hint(
                    "another process reads this zone under the same name: stop it, then try again",
                ))
        }
    }
}

/// Splits with what was requested for them.
fn asked_of_zone<'a>(state: &State, wanted: &'a [RewindTarget]) -> Result<Asked<'a>> {
    let newest = newest_splits(state);
    let mut asked = BTreeMap::new();
    for wanted in wanted {
        let at = (wanted.topic.clone(), wanted.partition);
        let place = format!("{}/{}", wanted.topic, wanted.partition);
        let found = newest
            .get(&at)
            .and_then(|id| Some((id, state.splits.get(id)?)));
        let Some((id, split)) = found else {
            return Err(bad("the pipeline has not read this partition").with("partition", place));
        };
        let offset = match wanted.to {
            To::Start => split.start(),
            To::Offset(offset) => offset,
        };
        if offset > split.to {
            return Err(bad(format!(
                "offset {offset} lies above the position, {}: a pipeline that reads a zone cannot skip",
                split.to
            ))
            .with("partition", place));
        }
        if offset < split.start() {
            return Err(bad(format!(
                "reading began at offset {}, {offset} lies below it",
                split.start()
            ))
            .with("partition", place));
        }
        asked.insert(id.clone(), (wanted, offset));
    }
    Ok(asked)
}
