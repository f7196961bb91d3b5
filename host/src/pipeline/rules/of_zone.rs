//! Rules of a pipeline that reads a zone. They are put in force between batches: each plan names those that make its rows.
//!
//! A zone has the columns that its own rules give it, and these may change from one plan to the next. So rules are built for the
//! columns of each plan. Before the zone has rows nothing is known of them: a log then begins with rules that were not built yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{FieldRef, Schema, SchemaRef};

use super::in_force::{BETWEEN_RUNS, Declares, Parts, always_read, settled};
use crate::clock::Clock;
use crate::commit::rules_digest;
use crate::commit::{AddedFile, LiveFile, Log, LogName, Role, SplitState, State, Writer};
use crate::config::{self, OnTypeChange, PipelineConfig, Source, ZoneSourceConfig};
use crate::error::Result;
use crate::pipeline::Host;
use crate::pipeline::start;
use crate::plugin::Plugins;
use crate::record::{SplitId, input_schema};
use crate::store::{self, Store};
use crate::zone::{Fitting, RowReader, SplitRange, host_fields, is_system, read_rows, schemas};

/// The columns that the first transform sees now. `None`: the zone that is read has no rows yet.
///
/// # Errors
/// Those of the store of the zone that is read.
pub fn columns_read(config: &PipelineConfig, clock: &Arc<dyn Clock>) -> Result<Option<SchemaRef>> {
    let source = match &config.source {
        Source::Records(_) => return Ok(always_read(config)),
        Source::Zone(source) => source,
    };
    match opened(source, clock)? {
        Some((store, log)) => newest(source, &store, &log),
        None => Ok(None),
    }
}

/// The columns that the rules of the zone which is read make of records, where it has no rows at this moment: all of them expired, or were
/// taken back. `None`: they cannot be built here, or it reads a zone itself.
pub fn columns_promised(
    config: &PipelineConfig,
    plugins: &Plugins,
    clock: &Arc<dyn Clock>,
) -> Option<SchemaRef> {
    let Source::Zone(source) = &config.source else {
        return None;
    };
    let (_, log) = opened(source, clock).ok()??;
    let rules = &log.state().rules.transforms;
    if rules.is_empty() {
        return None;
    }
    let parts = Parts::in_force(plugins, rules).ok()?;
    let made = parts.columns_on(config, &input_schema()).ok()?;
    let own = made.fields().iter().filter(|f| !is_system(f.name()));
    let fields: Vec<FieldRef> = own.cloned().chain(host_fields(false)).collect();
    Some(Arc::new(Schema::new(fields)))
}

type Opened = (Arc<dyn Store>, Log);

/// The zone that is read; no entry is written there.
fn opened(source: &ZoneSourceConfig, clock: &Arc<dyn Clock>) -> Result<Option<Opened>> {
    let Some(store) = store::open_existing(&source.at)? else {
        return Ok(None);
    };
    let name = LogName::new(&source.pipeline, &source.zone);
    let writer = Writer::this_process(clock.as_ref());
    let Some(mut log) = Log::open(store.clone(), name, clock.clone(), writer)? else {
        return Ok(None);
    };
    // O8: what its writer has committed and not published yet cannot be read on some stores.
    log.make_readable()?;
    Ok(Some((store, log)))
}

/// All rows that the zone has now, for somebody who looks. `None`: it has none yet.
///
/// # Errors
/// Those of its store.
pub fn rows_read(source: &ZoneSourceConfig, clock: &Arc<dyn Clock>) -> Result<Option<RowReader>> {
    rows_read_in(source, None, clock)
}

/// The same, only those in these ranges of offsets. `None`: there are none.
///
/// # Errors
/// Those of its store.
pub fn rows_read_in(
    source: &ZoneSourceConfig,
    ranges: Option<&BTreeMap<SplitId, (i64, i64)>>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<RowReader>> {
    let Some((store, log)) = opened(source, clock)? else {
        return Ok(None);
    };
    let files = rows_files(log.state(), &source.table);
    let read = schemas(&store, log.name(), &files)?;
    if read.is_empty() {
        return Ok(None);
    }
    let fitting = Fitting::new(&Schema::empty(), &read, OnTypeChange::NewColumn, &[])?;
    let splits = log.state().splits.iter();
    let wanted = |(id, split): (&SplitId, &SplitState)| {
        let whole = (split.readable_from(), split.to);
        let (from, to) = match ranges {
            None => whole,
            Some(ranges) => {
                let (from, to) = ranges.get(id)?;
                ((*from).max(whole.0), (*to).min(whole.1))
            }
        };
        (from < to).then(|| SplitRange {
            split: id.clone(),
            topic: split.topic.as_str().into(),
            partition: split.partition,
            from,
            to,
        })
    };
    let wanted: Vec<SplitRange> = splits.filter_map(wanted).collect();
    if ranges.is_some() && wanted.is_empty() {
        return Ok(None);
    }
    Ok(Some(read_rows(
        &store,
        log.name(),
        &files,
        &wanted,
        fitting,
    )))
}

/// The columns of the file that was committed last.
pub fn newest(
    source: &ZoneSourceConfig,
    store: &Arc<dyn Store>,
    log: &Log,
) -> Result<Option<SchemaRef>> {
    let newest = rows_files(log.state(), &source.table).pop();
    let read = schemas(store, log.name(), newest.as_slice())?;
    match read.is_empty() {
        true => Ok(None),
        false => Ok(Some(Fitting::of(&read)?.schema().clone())),
    }
}

/// The files with rows of a table, in the order in which the rows were committed: a compaction adds old rows with a new version.
pub fn rows_files(state: &State, table: &str) -> Vec<AddedFile> {
    let in_table = |file: &AddedFile| {
        file.role == Role::Rows && file.path.split_once('/').is_some_and(|(of, _)| of == table)
    };
    let committed = |live: &LiveFile| {
        let splits = live.file.ranges.iter();
        let of = splits.filter_map(|r| state.splits.get(&r.split)?.version_of(r.from));
        of.min().unwrap_or(live.version).min(live.version)
    };
    let mut live: Vec<_> = state.live.values().filter(|l| in_table(&l.file)).collect();
    live.sort_by_key(|l| (committed(l), l.version));
    live.into_iter().map(|l| l.file.clone()).collect()
}

/// What the config declares now; `None`: the log alone decides, or the config declares the same as before.
pub fn declared(host: &Host, config: &PipelineConfig) -> Result<Option<Parts>> {
    let Some(last) = host.declared.last() else {
        let parts = Parts::declared(&host.plugins, config);
        return parts
            .map(Some)
            .map_err(|problems| config::refused(&problems));
    };
    if !config.watch {
        return Ok(None);
    }
    match Parts::declared(&host.plugins, &config::reloaded(config)) {
        Ok(parts) => Ok((rules_digest(&parts.rules()) != last).then_some(parts)),
        Err(problems) => {
            super::change::refused(config, &config::refused(&problems));
            Ok(None)
        }
    }
}

/// Puts what the config declares in force, unless the log's rules win (as at every start). `input`: the columns of the zone that is
/// read, if it has rows. `edit`: the files that were edited while it ran.
pub fn put_in_force(
    host: &Host,
    config: &PipelineConfig,
    log: &mut Log,
    (parts, input): (&Parts, Option<&SchemaRef>),
    edit: Option<&str>,
) -> Result<()> {
    let first = host.declared.last().is_none();
    let mut new = match input {
        Some(input) if parts.is_empty() => Ok(Some(input.clone())),
        Some(input) => parts
            .chain_on(config, input)
            .map(|chain| Some(chain.output_schema())),
        None => Ok(None),
    };
    if let (Err(error), false) = (&new, first) {
        super::change::refused(config, error);
        return Ok(());
    }
    parts.keep(&host.plugins)?;
    if !parts.is_empty() {
        start::keep_rules_at(host, log.store().url(), log.name());
    }
    let none = Arc::new(Schema::empty());
    let input = input.unwrap_or(&none);
    let edit = edit.map(|files| format!("edited: {files}"));
    let declares = Declares {
        parts,
        input,
        edit: edit.as_deref().unwrap_or(BETWEEN_RUNS),
    };
    settled(host, config, log, declares, &mut new).map(drop)
}
