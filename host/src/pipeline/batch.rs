//! A pipeline from a zone to a zone: batches over exact ranges of the other zone's log (docs/protocol.md §10).
//!
//! ```text
//! B0 refresh both logs, register as reader → B1 plan → B2 rows by coordinate → B3 first wins → B4 batch → B5 publish, advance
//! ```
//! A plan is in the log before anything is read. A crash leaves it open, and the next start runs the same plan again:
//! same ranges, same clock, same winners.

mod columns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::positions::rewind;
use super::start::{begun, open_zone};
use super::{Host, Left, Rest, plan, retry, stopped, until_settled};
use arrow_schema::{Schema, SchemaRef};

use crate::commit::{AddedFile, Draft, Input, Log, LogName, OpenPlan, Outcome};
use crate::commit::{Plan, PreparedCommit, Role, Span, State, Writer};
use crate::config::{OnTypeChange, PipelineConfig, ProcessedZoneConfig, Trigger, ZoneSourceConfig};
use crate::connectors::{self, zone::parquet_options};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;
use crate::store::{self, Store};
use crate::zone::{Changed, Fitting, PartitionBy, Processed, ProcessedBatch, SplitRange};
use crate::zone::{ProcessedOptions, overlapping, read_rows, schemas};

/// Time between two looks at a zone that has nothing new, with `trigger = continuous`. With other triggers it holds
/// until the first rows were taken: these do not wait for the interval.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// If the zone to be read does not exist after this time, a message says so: perhaps its name is mistyped.
const EXPECTED_WITHIN: Duration = Duration::from_secs(30);
/// About how much memory a row of a batch takes while rows are sorted. `memory.budget` divided by it bounds the rows of
/// a plan; a single version with more rows is still one plan.
const ROW_BYTES: usize = 300;
/// At this size, the rows of one date in a batch continue in another file.
const TARGET_BYTES: u64 = 256 << 20;
/// If the same range was voided this often, something is wrong with the zone that is read.
const VOIDS_MAX: u32 = 2;
/// The position in the other log is overtaken this often in a row only if two processes of one pipeline compete.
const CONFLICTS_MAX: usize = 16;

/// The log's counters have this name for values whose column or type changed on the way.
const COLUMNS: &str = "columns";

const OP: &str = "batch";

/// Runs until asked to stop, or once through what is there (`available-now`).
pub fn run(host: &Host, config: &PipelineConfig, source: &ZoneSourceConfig) -> Result<()> {
    let zone = &source.layout;
    let table = connectors::zone::sink(config)?
        .table
        .of(&source.table)
        .to_owned();
    let tables = BTreeSet::from([table.as_str()]);
    let mut input = open_input(host, source)?;
    let begun = begun(host, config, &tables, || {
        match &input {
            Some(input) => fits(host, config, source, zone, &table, input)?,
            None if config.trigger == Trigger::AvailableNow => {
                return Err(nothing_there(source, Kind::ConfigInvalid));
            }
            None => {}
        }
        Ok(Vec::new())
    })?;
    let (store, log) = open_zone(host, config, &tables, &begun)?;
    host.report.started(config, log.state());
    let mut batches = Batches {
        host,
        config,
        source,
        zone,
        table,
        store,
        log,
    };
    let ended = batches.keep_looking(&mut input);
    host.report.stands(batches.log.state());
    if let Some(input) = &input {
        host.report.left(0, batches.left(input));
    }
    ended
}

/// Which messages about a zone without rows were already given: one that it has none yet, one that this is unusual.
#[derive(Default)]
struct Missing {
    said: bool,
    since: Option<Duration>,
    warned: bool,
}

impl Missing {
    fn empty(&mut self, host: &Host, wait: Duration) {
        if !std::mem::replace(&mut self.said, true) {
            host.report.resting(Rest::NothingYet, wait);
        }
    }

    fn still_missing(&mut self, host: &Host, source: &ZoneSourceConfig) {
        let now = host.clock.elapsed();
        let since = *self.since.get_or_insert(now);
        if !self.warned && now.saturating_sub(since) >= EXPECTED_WITHIN {
            self.warned = true;
            let error = nothing_there(source, Kind::SourceUnavailable);
            host.report.waiting(&error);
        }
    }

    fn found(&mut self, host: &Host) {
        if std::mem::take(&mut self.warned) {
            host.report.resumed();
        }
    }
}

/// `None`: its pipeline has not begun yet.
fn open_input(host: &Host, source: &ZoneSourceConfig) -> Result<Option<InputZone>> {
    retry(host, || {
        let Some(store) = store::open_existing(&source.at)? else {
            return Ok(None);
        };
        let name = LogName::new(&source.pipeline, &source.zone);
        let writer = Writer::this_process(host.clock.as_ref());
        let Some(mut log) = Log::open(store.clone(), name, host.clock.clone(), writer)? else {
            return Ok(None);
        };
        log.make_readable()?;
        Ok(Some(InputZone { store, log }))
    })
}

fn nothing_there(source: &ZoneSourceConfig, kind: Kind) -> Error {
    let message = format!(
        "pipeline '{}' has no log in {} yet",
        source.pipeline, source.at.url
    );
    Error::new(kind, OP, message)
        .hint("source.url, source.pipeline and source.zone must name a zone that has been written")
}

/// Checks before the first write that the keys name columns of the zone's rows. Other problems of the zone are found
/// when it is read.
fn fits(
    host: &Host,
    config: &PipelineConfig,
    source: &ZoneSourceConfig,
    zone: &ProcessedZoneConfig,
    table: &str,
    input: &InputZone,
) -> Result<()> {
    let state = input.log.state();
    let whole = plan::splits_of_table(state, &source.table).into_iter();
    let whole: Vec<SplitRange> = whole
        .map(|(id, split)| SplitRange {
            split: id.clone(),
            topic: split.topic.as_str().into(),
            partition: split.partition,
            from: split.start(),
            to: split.to,
        })
        .collect();
    let files = rows_files(state, &source.table);
    let schema = retry(host, || {
        let read = schemas(&input.store, input.log.name(), &overlapping(&files, &whole))?;
        // The batch that meets a changed type deals with it.
        let fitting = Fitting::new(&Schema::empty(), &read, OnTypeChange::NewColumn, &[])?;
        Ok(fitting.schema().clone())
    });
    let name = LogName::new(&config.name, &config.home.zone);
    let opened = schema.and_then(|schema| {
        let options = processed_options(config, zone, name, table.to_owned())?;
        ProcessedBatch::new(input.store.clone(), options, schema)
    });
    match opened {
        Err(error) if error.kind() == Kind::ConfigInvalid => Err(error),
        _ => Ok(()),
    }
}

fn processed_options(
    config: &PipelineConfig,
    zone: &ProcessedZoneConfig,
    name: LogName,
    table: String,
) -> Result<ProcessedOptions> {
    let format = zone.partition_format.parse();
    Ok(ProcessedOptions {
        name,
        table,
        partition: Some(PartitionBy {
            field: zone.partition_field.clone(),
            format: format.map_err(|e: String| Error::new(Kind::ConfigInvalid, OP, e))?,
            name: zone.partition_name.clone(),
        }),
        dedup: zone.dedup_key.clone(),
        lookback_days: zone.dedup_lookback_days,
        sort: zone.sort.clone(),
        parquet: parquet_options(config),
        target_bytes: TARGET_BYTES,
    })
}

struct Batches<'a> {
    host: &'a Host,
    config: &'a PipelineConfig,
    source: &'a ZoneSourceConfig,
    zone: &'a ProcessedZoneConfig,
    table: String,
    store: Arc<dyn Store>,
    log: Log,
}

/// The zone that is read.
struct InputZone {
    store: Arc<dyn Store>,
    log: Log,
}

impl Batches<'_> {
    /// Runs until asked to stop, or once through what is there.
    fn keep_looking(&mut self, input: &mut Option<InputZone>) -> Result<()> {
        let (host, config) = (self.host, self.config);
        let mut missing = Missing::default();
        loop {
            let begun = host.clock.elapsed();
            if input.is_none() {
                *input = open_input(host, self.source)?;
                match &input {
                    Some(_) => missing.found(host),
                    None if config.trigger == Trigger::AvailableNow => {
                        return Err(nothing_there(self.source, Kind::ConfigInvalid));
                    }
                    None => missing.still_missing(host, self.source),
                }
            }
            if let Some(input) = input {
                while !host.stop.asked() && self.next(input)? {}
            }
            let wait = match config.trigger {
                Trigger::AvailableNow => return Ok(()),
                Trigger::Every(every) if self.began() => {
                    let wait = every.saturating_sub(host.clock.elapsed().saturating_sub(begun));
                    host.report.resting(Rest::Done, wait);
                    wait
                }
                Trigger::Every(every) => every.min(self.look_again()),
                Trigger::Continuous => self.look_again(),
            };
            if !self.began() {
                missing.empty(host, wait);
            }
            if host.stop.wait(wait) {
                return Ok(());
            }
        }
    }

    fn look_again(&self) -> Duration {
        LOOK_AGAIN.max(self.store.news_every())
    }

    /// Offsets of the other zone that wait to be read, as of the last time its log was read.
    fn left(&self, input: &InputZone) -> Left {
        let own = &self.log.state().splits;
        let splits = plan::splits_of_table(input.log.state(), &self.source.table);
        let behind = splits.into_iter().map(|(id, split)| {
            let at = own.get(id).map_or(split.start(), |own| own.to);
            u64::try_from(split.to - at).unwrap_or(0)
        });
        Left {
            uncommitted: 0,
            lag: Some(behind.sum()),
        }
    }

    /// Whether anything was taken from the other zone, in this run or earlier.
    fn began(&self) -> bool {
        let mut splits = self.log.state().splits.values();
        splits.any(|split| split.to > split.start())
    }

    /// Plans and runs one batch. False: nothing was new.
    fn next(&mut self, input: &mut InputZone) -> Result<bool> {
        retry(self.host, || input.log.refresh())?;
        retry(self.host, || self.log.refresh())?;
        // Registers before the first read (V11). Also B0, and the position after a batch that a crash interrupted.
        self.advance(input)?;
        let opens = plan::to_open(input.log.state(), self.log.state(), &self.source.table);
        if !opens.is_empty() {
            until_settled(self.host, &mut self.log, Draft::Open(opens))?;
        }
        let Some(open) = self.planned(input)? else {
            self.advance(input)?;
            return Ok(false);
        };
        self.execute(input, &open)?;
        self.advance(input)?;
        Ok(true)
    }

    /// B0, then B5: the position in the other log is written after the batch is committed; it may lag, it never leads, and
    /// it never covers rows that were taken back.
    fn advance(&mut self, input: &mut InputZone) -> Result<()> {
        let host = self.host;
        let parquet = parquet_options(self.config);
        let mut last = None;
        for _ in 0..CONFLICTS_MAX {
            let by = rewind::By::pipeline(&input.log);
            let commit = &mut |log: &mut Log, draft| until_settled(host, log, draft);
            rewind::follow(&mut self.log, &input.log, &by, &parquet, commit)?;
            let Some(reader) = rewind::position(&self.log, &input.log, &self.source.table) else {
                return Ok(());
            };
            match until_settled(host, &mut input.log, Draft::Reader(reader))? {
                Outcome::Committed { .. } => return Ok(()),
                // The zone was rewound just now, or another process of this pipeline was first.
                Outcome::Lost { dropped } if dropped.iter().all(|d| d.reason.moved) => {
                    last = Some(dropped);
                    retry(host, || input.log.refresh())?;
                    retry(host, || self.log.refresh())?;
                }
                Outcome::Lost { dropped } => return Err(lost("reader", &dropped)),
            }
        }
        Err(lost("reader", &last.unwrap_or_default()))
    }

    /// The open plan, or a new one. B1.
    fn planned(&mut self, input: &mut InputZone) -> Result<Option<OpenPlan>> {
        if let Some(open) = self.log.state().plan.clone() {
            let same = open.plan.dedup_key == self.zone.dedup_key;
            if same {
                return Ok(Some(open));
            }
            self.void(&open, "sink.dedup.key changed since the plan was made")?;
        }
        self.make_readable(input)?;
        let state = self.log.state();
        let rows_max = (self.config.limits.memory_budget / ROW_BYTES) as u64;
        let ranges = plan::next_ranges(input.log.state(), state, &self.source.table, rows_max);
        if ranges.is_empty() {
            return Ok(None);
        }
        self.columns_fit(input, &ranges)?;
        let plan = Plan {
            log: input.log.name().to_string(),
            version: input.log.version(),
            ranges,
            rules: state.rules.clone(),
            now: self.host.clock.now_micros(),
            dedup_key: self.zone.dedup_key.clone(),
        };
        match until_settled(self.host, &mut self.log, Draft::Plan(plan))? {
            Outcome::Committed { .. } => Ok(self.log.state().plan.clone()),
            // Another process planned first: its plan is used.
            Outcome::Lost { dropped } if dropped.iter().all(|d| d.reason.moved) => {
                retry(self.host, || self.log.refresh())?;
                Ok(self.log.state().plan.clone())
            }
            Outcome::Lost { dropped } => Err(lost("plan", &dropped)),
        }
    }

    /// O8: makes the live files of both zones readable.
    fn make_readable(&mut self, input: &mut InputZone) -> Result<()> {
        retry(self.host, || input.log.make_readable())?;
        retry(self.host, || self.log.make_readable())
    }

    fn void(&mut self, open: &OpenPlan, reason: &str) -> Result<()> {
        let dedup = self.log.version();
        let input = Input {
            plan: open.version,
            dedup_version: dedup,
            reason: reason.to_owned(),
        };
        tracing::warn!(plan = open.version, reason, "batch plan voided");
        until_settled(self.host, &mut self.log, Draft::Void(input)).map(drop)
    }

    /// B2–B4, repeated from the dedup on if another batch came in between.
    fn execute(&mut self, input: &mut InputZone, open: &OpenPlan) -> Result<()> {
        loop {
            if self.host.stop.overdue() {
                return Err(stopped());
            }
            let begun = self.host.clock.elapsed();
            self.make_readable(input)?;
            let base = self.log.version();
            let processed = match self.process(input, open) {
                Err(error) if error.kind() == Kind::LogCorrupt => {
                    match self.removed_meanwhile(input, open, error)? {
                        Some(mismatch) => Err(mismatch),
                        None => return Ok(()),
                    }
                }
                done => done?,
            };
            let (processed, changed) = match processed {
                Ok(done) => done,
                Err(mismatch) => {
                    if self.log.state().voids_of(&open.plan) >= VOIDS_MAX {
                        return Err(mismatch);
                    }
                    return self.void(open, mismatch.message());
                }
            };
            let receipt = self.receipt(open, base, processed, changed)?;
            let batch = Input {
                plan: open.version,
                dedup_version: base,
                reason: String::new(),
            };
            match until_settled(
                self.host,
                &mut self.log,
                Draft::Batch {
                    input: batch,
                    receipt,
                },
            )? {
                Outcome::Committed { committed, .. } => {
                    retry(self.host, || self.log.publish(&committed))?;
                    let took = self.host.clock.elapsed().saturating_sub(begun);
                    self.host
                        .report
                        .committed(&committed, self.log.state(), took);
                    return Ok(());
                }
                Outcome::Lost { dropped } => {
                    if !dropped.iter().all(|d| d.reason.moved) {
                        return Err(lost("batch", &dropped));
                    }
                    retry(self.host, || self.log.refresh())?;
                    let still = self.log.state().plan.as_ref();
                    if still.is_none_or(|now| now.version != open.version) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A missing file may have been removed by a rewind since the logs were read. `None`: this plan is no longer open.
    fn removed_meanwhile(
        &mut self,
        input: &mut InputZone,
        open: &OpenPlan,
        error: Error,
    ) -> Result<Option<Error>> {
        let before = input.log.version();
        retry(self.host, || input.log.refresh())?;
        retry(self.host, || self.log.refresh())?;
        let still = self.log.state().plan.as_ref();
        if still.is_none_or(|now| now.version != open.version) {
            return Ok(None);
        }
        let splits = &input.log.state().splits;
        let same = |(id, range): (&SplitId, &crate::commit::PlanRange)| {
            splits.get(id).is_some_and(|c| c.epoch == range.epoch)
        };
        if before == input.log.version() || open.plan.ranges.iter().all(same) {
            return Err(error);
        }
        Ok(Some(mismatch("the zone was rewound while it was read")))
    }

    /// Reads the rows of the plan and writes the winners; the inner error says that the input is not what the plan saw.
    fn process(&self, input: &InputZone, open: &OpenPlan) -> Result<Result<(Processed, Changed)>> {
        let state = input.log.state();
        let mut expected = 0;
        for (id, range) in &open.plan.ranges {
            let Some(split) = state.splits.get(id).filter(|c| c.epoch == range.epoch) else {
                return Ok(Err(
                    mismatch("the split's epoch is not the plan's").with("split", id)
                ));
            };
            let Some(rows) = split.rows_between(range.from, range.to) else {
                return Ok(Err(
                    mismatch("the plan's range does not end at borders").with("split", id)
                ));
            };
            expected += rows;
        }
        let ranges = columns::split_ranges(state, &open.plan.ranges);
        let files = rows_files(state, &self.source.table);
        let fitting = self.fitting(input, &ranges)?;
        let mut reader = read_rows(&input.store, input.log.name(), &files, &ranges, fitting);
        let mut batch = self.open_batch(reader.schema())?;
        let mut read = 0;
        for rows in reader.by_ref() {
            let rows = rows?;
            read += rows.batch.num_rows() as u64;
            batch.push(rows)?;
        }
        if read != expected {
            return Ok(Err(mismatch(
                "the zone holds another number of rows than its log says",
            )
            .with("expected", expected)
            .with("found", read)
            .hint(format!("weir log {} --verify", self.source.at.url))));
        }
        let live: Vec<AddedFile> = self
            .log
            .state()
            .live
            .values()
            .map(|l| l.file.clone())
            .collect();
        let version_of = |id: &SplitId, offset| state.splits.get(id)?.version_of(offset);
        let processed = batch.finish(&live, &version_of)?;
        Ok(Ok((processed, reader.changed().clone())))
    }

    fn open_batch(&self, schema: &SchemaRef) -> Result<ProcessedBatch> {
        let (name, table) = (self.log.name().clone(), self.table.clone());
        let options = processed_options(self.config, self.zone, name, table)?;
        ProcessedBatch::new(self.store.clone(), options, schema.clone())
    }

    fn receipt(
        &self,
        open: &OpenPlan,
        base: u64,
        processed: Processed,
        changed: Changed,
    ) -> Result<PreparedCommit> {
        let mut files = Vec::new();
        for file in processed.files {
            files.push(file.finish()?);
        }
        let spans = open.plan.ranges.iter().map(|(id, range)| {
            let ledger = processed.ledgers.get(id).copied().unwrap_or_default();
            Span {
                split: id.clone(),
                epoch: self.log.state().splits.get(id).map_or(0, |c| c.epoch),
                from: range.from,
                to: range.to,
                lost: 0,
                records: ledger.records,
                rows: ledger.rows,
                dead_letters: ledger.dead_letters,
            }
        });
        Ok(PreparedCommit {
            base,
            generation: open.plan.rules.generation,
            spans: spans.collect(),
            files,
            deliveries: Vec::new(),
            counters: match changed.is_empty() {
                true => BTreeMap::new(),
                false => BTreeMap::from([(COLUMNS.to_owned(), changed)]),
            },
        })
    }
}

fn rows_files(state: &State, table: &str) -> Vec<AddedFile> {
    let in_table = |file: &AddedFile| {
        file.role == Role::Rows && file.path.split_once('/').is_some_and(|(of, _)| of == table)
    };
    // Sorted by version: the order in which rows were committed.
    let mut live: Vec<_> = state.live.values().filter(|l| in_table(&l.file)).collect();
    live.sort_by_key(|l| l.version);
    live.into_iter().map(|l| l.file.clone()).collect()
}

fn mismatch(message: &str) -> Error {
    Error::new(Kind::LogCorrupt, "batch.read", message)
}

fn lost(what: &str, dropped: &[crate::commit::Dropped]) -> Error {
    let why = dropped
        .first()
        .map_or_else(String::new, |d| d.reason.to_string());
    Error::new(
        Kind::LogCorrupt,
        OP,
        format!("the log refuses this {what}: {why}"),
    )
}
