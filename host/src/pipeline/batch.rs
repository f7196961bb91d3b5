//! A pipeline from a zone to a zone: batches over exact ranges of the other zone's log (docs/protocol.md §10).
//!
//! ```text
//! B0 refresh both logs, register as reader → B1 plan → B2 rows by coordinate, through the rules of the plan → B3 first wins
//! → B4 batch → B5 publish, advance
//! ```
//! A plan is in the log before anything is read. A crash leaves it open, and the next start runs the same plan again:
//! same ranges, same clock, same rules, same winners, same dead letters. Rules change between batches.

mod columns;
mod input;
mod leave;
mod through;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::input::{InputZone, Missing, nothing_there, open_input};
use super::archive::Archiver;
use super::positions::rewind;
use super::rules::Parts;
use super::rules::of_zone::{self, rows_files};
use super::rules::watch::Watched;
use super::start::{archiver, begun, forget, open_zone};
use super::{Host, Left, Rest, Shown, compact, plan, retry, stopped, until_settled};
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_schema::SchemaRef;

use crate::chain::TransformChain;
use crate::commit::{AddedFile, Committed, Draft, Input, Log, LogName, OpenPlan, Outcome, Rule};
use crate::commit::{Plan, PreparedCommit, Span, SplitState, State};
use crate::config::{PipelineConfig, ProcessedZoneConfig, Trigger, ZoneSourceConfig};
use crate::connectors::{self, zone::parquet_options};
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;
use crate::record::{SplitId, TIMESTAMP};
use crate::sink::Notes;
use crate::source::End;
use crate::store::Store;
use crate::zone::{self, Changed, LogOrder, PartitionBy, Processed, ProcessedBatch};
use crate::zone::{ProcessedOptions, SpillPlace, read_rows};

/// Time between two looks at a zone that has nothing new, with `trigger = continuous`. With other triggers it holds
/// until the first rows were taken: these do not wait for the interval.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// `memory.budget` divided by it bounds the rows of a plan, unless a single version has more. What a batch knows of each
/// row while it runs are two bits; the rows themselves wait on disk. So this bounds how long a batch takes.
const ROW_BYTES: usize = 8;
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
    let declared = of_zone::declared(host, config)?;
    let mut tables = BTreeSet::from([table.as_str()]);
    if declared.as_ref().is_some_and(|parts| !parts.is_empty()) || !config.transforms.is_empty() {
        tables.insert(&config.errors.dlq_table);
    }
    let mut input = open_input(host, source)?;
    let begun = begun(host, config, &tables, || {
        // Nobody looked at the config's rules, as the log was there: one that begins now would begin without them.
        let Some(parts) = declared.clone() else {
            let message = "the log was there before and is gone";
            return Err(Error::new(Kind::LogCorrupt, OP, message).with("pipeline", &config.name));
        };
        match &input {
            Some(input) => fits(host, (config, source), &table, input, &parts)?,
            None if config.trigger == Trigger::AvailableNow => {
                return Err(nothing_there(source, Kind::ConfigInvalid));
            }
            None => {}
        }
        parts.keep(&host.plugins)?;
        Ok(parts.rules())
    })?;
    let (store, log) = open_zone(host, config, &tables, &begun)?;
    let found = retry(host, || layout(config, source, &store, &log))?;
    if let Some(refused) = zone::refusal(&found) {
        return Err(refused);
    }
    let archiver = archiver(host, config, &log);
    let _compacting = compact::begin(host, config)?;
    let mut batches = Batches {
        host,
        config,
        source,
        zone,
        table,
        store,
        watched: config
            .watch
            .then(|| Watched::of(config, host.clock.elapsed())),
        generation: log.state().generation(),
        log,
        archiver,
        built: None,
        built_here: true,
        owns_letters: false,
        notes: Notes::default(),
    };
    if let Some(parts) = &declared {
        batches.declare(input.as_ref(), parts, None)?;
    }
    host.report.started(config, batches.log.state());
    let ended = match host.only_begins {
        true => batches.register(&mut input),
        false => batches.keep_looking(&mut input),
    };
    host.report.stands(batches.log.state());
    if let Some(input) = &input {
        host.report.left(0, batches.left(input));
    }
    ended
}

/// Checks before the first write that the rules can be built for the zone's columns, and that the keys name columns of the rows that
/// they make. Other problems of the zone are found when it is read.
fn fits(
    host: &Host,
    (config, source): (&PipelineConfig, &ZoneSourceConfig),
    table: &str,
    input: &InputZone,
    parts: &Parts,
) -> Result<()> {
    let read = retry(host, || of_zone::newest(source, &input.store, &input.log));
    let Ok(Some(read)) = read else {
        return Ok(());
    };
    let made = match parts.is_empty() {
        true => read,
        false => through::columns(&parts.chain_on(config, &read)?, &read),
    };
    let name = LogName::new(&config.name, &config.home.zone);
    let options = processed_options(config, source, name, table.to_owned())?;
    match options.check(&made) {
        Err(error) if error.kind() == Kind::ConfigInvalid => Err(error),
        _ => Ok(()),
    }
}

fn processed_options(
    config: &PipelineConfig,
    source: &ZoneSourceConfig,
    name: LogName,
    table: String,
) -> Result<ProcessedOptions> {
    let zone = &source.layout;
    Ok(ProcessedOptions {
        name,
        table,
        partition: Some(partition_by(zone)?),
        dedup: zone.dedup_key.clone(),
        lookback_days: zone.dedup_lookback_days,
        sort: zone.sort.clone(),
        bucket: connectors::zone::sink(config)?.bucket.clone(),
        parquet: parquet_options(config),
        target_bytes: TARGET_BYTES,
        memory: config.limits.memory_budget,
        spill: SpillPlace {
            dir: source.spill_dir.clone(),
            max_bytes: source.spill_max_bytes,
        },
    })
}

/// Whether the table that is there has the layout that the config asks for now.
pub fn layout(
    config: &PipelineConfig,
    source: &ZoneSourceConfig,
    store: &Arc<dyn Store>,
    log: &Log,
) -> Result<Vec<Finding>> {
    let table = connectors::zone::sink(config)?.table.of(&source.table);
    let name = log.name().clone();
    let wanted = processed_options(config, source, name, table.to_owned())?;
    let live: Vec<&AddedFile> = log.state().live.values().map(|live| &live.file).collect();
    zone::layout_of(&live, store, &wanted)
}

pub(super) fn partition_by(zone: &ProcessedZoneConfig) -> Result<PartitionBy> {
    let format = zone.partition_format.parse();
    Ok(PartitionBy {
        field: zone.partition_field.clone(),
        format: format.map_err(|e: String| Error::new(Kind::ConfigInvalid, OP, e))?,
        name: zone.partition_name.clone(),
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
    /// Copies what expired.
    archiver: Archiver,
    /// `watch`: files that decide about the rules.
    watched: Option<Watched>,
    /// Of the rules in force when this process last looked.
    generation: u64,
    /// The chain of the last batch.
    built: Option<Built>,
    /// Whether this process could build the rules that it needed last.
    built_here: bool,
    /// The table of dead letters is this log's.
    owns_letters: bool,
    /// Of the rows that the batch read; for reports.
    notes: Notes,
}

/// A chain, and what it was built of.
struct Built {
    rules: Vec<Rule>,
    input: SchemaRef,
    chain: TransformChain,
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
            self.follow_edits(input.as_ref())?;
            if let Some(input) = input {
                while !host.stop.asked() && self.next(input)? {}
            }
            self.let_leave(input.as_ref())?;
            let wait = match &config.trigger {
                Trigger::AvailableNow => return self.archive_the_rest(),
                Trigger::Cron(_) if input.is_some() && self.began() => {
                    return self.archive_the_rest();
                }
                Trigger::Every(every) if input.is_some() && self.began() => {
                    let wait = every.saturating_sub(host.clock.elapsed().saturating_sub(begun));
                    host.report.resting(Rest::Done, wait);
                    wait
                }
                Trigger::Every(every) => self.look_again().min(*every),
                Trigger::Cron(_) | Trigger::Continuous => self.look_again(),
            };
            if !self.began() {
                missing.empty(host, wait);
            }
            if self.rest(input.as_ref(), wait)? {
                return Ok(());
            }
            if self.began() {
                host.report.looks();
            }
        }
    }

    /// Before a first run that is not due yet: what is there now is kept for this reader.
    fn register(&mut self, input: &mut Option<InputZone>) -> Result<()> {
        match input {
            Some(input) => self.begin(input),
            None => Ok(()),
        }
    }

    fn look_again(&self) -> Duration {
        LOOK_AGAIN.max(self.store.news_every())
    }

    /// Puts the config's rules in force, unless those of the log win.
    fn declare(
        &mut self,
        input: Option<&InputZone>,
        parts: &Parts,
        edit: Option<&str>,
    ) -> Result<()> {
        let (host, source) = (self.host, self.source);
        let read = match input {
            Some(input) => retry(host, || of_zone::newest(source, &input.store, &input.log))?,
            None => None,
        };
        of_zone::put_in_force(
            host,
            self.config,
            &mut self.log,
            (parts, read.as_ref()),
            edit,
        )?;
        self.generation = self.log.state().generation();
        Ok(())
    }

    fn follow_edits(&mut self, input: Option<&InputZone>) -> Result<()> {
        let now = self.host.clock.elapsed();
        let Some(watched) = &mut self.watched else {
            return Ok(());
        };
        let Some(files) = watched.edited(self.config, now).map(str::to_owned) else {
            return Ok(());
        };
        match of_zone::declared(self.host, self.config)? {
            Some(parts) => self.declare(input, &parts, Some(&files)),
            None => Ok(()),
        }
    }

    /// Offsets of the other zone that wait to be read, as of the last time its log was read.
    fn left(&self, input: &InputZone) -> Left {
        let splits = plan::splits_of_table(input.log.state(), &self.source.table);
        Left {
            uncommitted: 0,
            lag: Some(self.behind(&splits)),
        }
    }

    fn behind(&self, splits: &[(&SplitId, &SplitState)]) -> u64 {
        let own = &self.log.state().splits;
        let behind = splits.iter().map(|(id, split)| {
            let at = own.get(*id).map_or(split.readable_from(), |own| own.to);
            u64::try_from(split.to - at).unwrap_or(0)
        });
        behind.sum()
    }

    /// Where the zone that is read ends, and how much of it waits.
    fn tell_ends(&self, input: &InputZone) {
        let splits = plan::splits_of_table(input.log.state(), &self.source.table);
        let end = |(id, split): (&SplitId, &SplitState)| End {
            split: id.clone(),
            next: split.to,
        };
        self.host.report.lag(0, Some(self.behind(&splits)));
        let ends: Vec<End> = splits.into_iter().map(end).collect();
        self.host.report.ends(0, &ends);
    }

    /// Whether anything was taken from the other zone, in this run or earlier.
    fn began(&self) -> bool {
        let mut splits = self.log.state().splits.values();
        splits.any(|split| split.to > split.start())
    }

    /// Plans and runs one batch. False: nothing was new.
    fn next(&mut self, input: &mut InputZone) -> Result<bool> {
        self.begin(input)?;
        self.tell_ends(input);
        let Some(open) = self.planned(input)? else {
            self.advance(input)?;
            return Ok(false);
        };
        self.execute(input, &open)?;
        self.advance(input)?;
        self.forget(input)?;
        Ok(true)
    }

    /// Registers before the first read (V11). Also B0, and the position after a batch that a crash interrupted.
    fn begin(&mut self, input: &mut InputZone) -> Result<()> {
        retry(self.host, || input.log.refresh())?;
        retry(self.host, || self.log.refresh())?;
        self.advance(input)?;
        let opens = plan::to_open(input.log.state(), self.log.state(), &self.source.table);
        if !opens.is_empty() {
            until_settled(self.host, &mut self.log, Draft::Open(opens))?;
        }
        Ok(())
    }

    /// This zone goes back where its input goes back, so it keeps what its oldest registered position needs.
    fn forget(&mut self, input: &InputZone) -> Result<()> {
        let held = input.log.state().oldest_cut(&self.log.name().to_string());
        forget(self.host, &mut self.log, held, &mut Log::redo)
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
        let mut last = Vec::new();
        for _ in 0..CONFLICTS_MAX {
            let Some(plan) = self.plan(input)? else {
                return Ok(None);
            };
            match until_settled(self.host, &mut self.log, Draft::Plan(plan))? {
                Outcome::Committed { .. } => return Ok(self.log.state().plan.clone()),
                // Another process planned first: its plan is used. Or somebody put other rules in force: this one is made anew.
                Outcome::Lost { dropped } if dropped.iter().all(|d| d.reason.moved) => {
                    retry(self.host, || self.log.refresh())?;
                    if let Some(open) = self.log.state().plan.clone() {
                        return Ok(Some(open));
                    }
                    last = dropped;
                }
                Outcome::Lost { dropped } => return Err(lost("plan", &dropped)),
            }
        }
        Err(lost("plan", &last))
    }

    /// What is new, by the rules in force. `None`: nothing is.
    fn plan(&mut self, input: &InputZone) -> Result<Option<Plan>> {
        let state = self.log.state();
        let most = plan::Most {
            rows: (self.config.limits.memory_budget / ROW_BYTES) as u64,
            spilled: self.source.spill_max_bytes,
        };
        let ranges = plan::next_ranges(input.log.state(), state, &self.source.table, most);
        if ranges.is_empty() {
            return Ok(None);
        }
        let rules = state.rules.clone();
        if rules.generation != self.generation {
            let generation = rules.generation;
            tracing::info!(generation, "other rules are in force, from this batch on");
            self.generation = generation;
        }
        self.columns_fit(input, &ranges, &rules.transforms)?;
        Ok(Some(Plan {
            log: input.log.name().to_string(),
            version: input.log.version(),
            ranges,
            rules,
            now: self.host.clock.now_micros(),
            dedup_key: self.zone.dedup_key.clone(),
        }))
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
            self.still()?;
            let begun = self.host.clock.elapsed();
            self.make_readable(input)?;
            let base = self.log.version();
            let seen = self.files_went_at(input);
            let processed = match self.process(input, open) {
                Err(error) if error.kind() == Kind::LogCorrupt => {
                    match self.removed_meanwhile(input, open, (seen, error))? {
                        Meanwhile::Rewound(mismatch) => Err(mismatch),
                        Meanwhile::Compacted => continue,
                        Meanwhile::Done => return Ok(()),
                    }
                }
                Err(error) if through::is_of_rules(&error) => {
                    return Err(self.leave(open, error)?);
                }
                done => done?,
            };
            let (processed, counters) = match processed {
                Ok(done) => done,
                Err(mismatch) => {
                    let voids = self.log.state().voids_of(&open.plan);
                    // An open plan would keep every start from going on.
                    self.void(open, mismatch.message())?;
                    return match voids >= VOIDS_MAX {
                        true => Err(mismatch),
                        false => Ok(()),
                    };
                }
            };
            let receipt = self.receipt(open, base, processed, counters)?;
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
                    return self.publish(input, &committed, begun);
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

    /// B5, and the report.
    fn publish(&mut self, input: &InputZone, committed: &Committed, begun: Duration) -> Result<()> {
        let proved = self.host.clock.elapsed();
        retry(self.host, || self.log.publish(committed))?;
        let now = self.host.clock.elapsed();
        self.tell_ends(input);
        let report = &self.host.report;
        report.shown(Shown {
            notes: std::mem::take(&mut self.notes),
            publish: now.saturating_sub(proved),
        });
        let took = now.saturating_sub(begun);
        report.committed(committed, self.log.state(), took);
        Ok(())
    }

    /// Rules cannot make the rows of a plan. Whoever mends the rules or the config begins with a plan of its own. But what lacks here
    /// another process has, which made the plan and may be carrying it out: then it stays. Where the rules were changed since, nobody waits
    /// for it any more.
    fn leave(&mut self, open: &OpenPlan, error: Error) -> Result<Error> {
        let in_force = open.plan.rules.transforms == self.log.state().rules.transforms;
        if !self.built_here && in_force {
            return Ok(error.with("plan", open.version));
        }
        self.void(open, error.message())?;
        Ok(error)
    }

    /// A missing file may have been removed by a rewind or a compaction since the logs were read.
    fn removed_meanwhile(
        &mut self,
        input: &mut InputZone,
        open: &OpenPlan,
        (seen, error): ((u64, u64), Error),
    ) -> Result<Meanwhile> {
        retry(self.host, || input.log.refresh())?;
        retry(self.host, || self.log.refresh())?;
        let still = self.log.state().plan.as_ref();
        if still.is_none_or(|now| now.version != open.version) {
            return Ok(Meanwhile::Done);
        }
        let splits = &input.log.state().splits;
        let same = |(id, range): (&SplitId, &crate::commit::PlanRange)| {
            splits.get(id).is_some_and(|c| c.epoch == range.epoch)
        };
        if !open.plan.ranges.iter().all(same) {
            let rewound = mismatch("the zone was rewound while it was read");
            return Ok(Meanwhile::Rewound(rewound));
        }
        // The same rows are in other files now, or have expired, in this zone or in the one that is read.
        match seen == self.files_went_at(input) {
            true => Err(error),
            false => Ok(Meanwhile::Compacted),
        }
    }

    fn files_went_at(&self, input: &InputZone) -> (u64, u64) {
        let of = |log: &Log| log.state().files_went_at();
        (of(&input.log), of(&self.log))
    }

    /// Reads the rows of the plan and writes the winners; the inner error says that the input is not what the plan saw.
    fn process(
        &mut self,
        input: &InputZone,
        open: &OpenPlan,
    ) -> Result<Result<(Processed, Counters)>> {
        let state = input.log.state();
        let expected = match rows_of(state, &open.plan) {
            Ok(expected) => expected,
            Err(mismatch) => return Ok(Err(mismatch)),
        };
        let ranges = columns::split_ranges(state, &open.plan.ranges);
        let files = rows_files(state, &self.source.table);
        let rules = &open.plan.rules.transforms;
        let (fitting, mut through) = self.course(input, &ranges, rules)?;
        let mut reader = read_rows(&input.store, input.log.name(), &files, &ranges, fitting);
        let splits: Vec<Option<&SplitState>> =
            ranges.iter().map(|r| state.splits.get(&r.split)).collect();
        let version_of = |split: usize, offset| (*splits.get(split)?)?.version_of(offset);
        let order = LogOrder {
            splits: ranges.clone(),
            version_of: &version_of,
        };
        let (store, options) = (self.store.clone(), self.options()?);
        let columns = match &through {
            Some(through) => through.columns(),
            None => reader.schema().clone(),
        };
        let mut batch = ProcessedBatch::new(store, options, columns, order)?;
        let mut read = 0;
        self.notes = Notes::default();
        for rows in reader.by_ref() {
            let rows = rows?;
            self.still()?;
            let times = rows.batch.column_by_name(TIMESTAMP);
            if let Some(times) =
                times.and_then(|t| t.as_primitive_opt::<TimestampMicrosecondType>())
            {
                self.notes.times.add(times);
            }
            read += rows.batch.num_rows() as u64;
            match &mut through {
                Some(through) => through.pass(rows, &ranges, &mut batch)?,
                None => batch.push(rows)?,
            }
        }
        if read != expected {
            return Ok(Err(mismatch(
                "the zone holds another number of rows than its log says",
            )
            .with("expected", expected)
            .with("found", read)
            .hint(format!("weir log {} --verify", self.source.at.url))));
        }
        let mut counters = Counters::new();
        let changed = reader.changed().clone();
        drop(reader);
        let letters = match through {
            Some(through) => self.done(through, changed, &mut counters)?,
            None => {
                add_counters(&mut counters, COLUMNS, changed);
                Vec::new()
            }
        };
        let live = self.log.state().live.values();
        let live: Vec<&AddedFile> = live.map(|l| &l.file).collect();
        let mut processed = batch.finish(&live, &|| self.still())?;
        processed.files.extend(letters);
        tracing::debug!(rows = read, spilled = processed.spilled, "batch written");
        Ok(Ok((processed, counters)))
    }

    /// Whether there is time for this batch: its plan stays open, and the next start runs it.
    fn still(&self) -> Result<()> {
        match self.host.stop.overdue() {
            true => Err(stopped()),
            false => Ok(()),
        }
    }

    fn options(&self) -> Result<ProcessedOptions> {
        let (name, table) = (self.log.name().clone(), self.table.clone());
        processed_options(self.config, self.source, name, table)
    }

    fn receipt(
        &self,
        open: &OpenPlan,
        base: u64,
        processed: Processed,
        counters: Counters,
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
            counters,
        })
    }
}

/// What happened to a plan while its rows were read.
enum Meanwhile {
    /// It is no longer open.
    Done,
    Rewound(Error),
    Compacted,
}

/// How many rows the zone that is read has for a plan; the error says that it is not what the plan saw.
fn rows_of(input: &State, plan: &Plan) -> Result<u64> {
    let mut rows = 0;
    for (id, range) in &plan.ranges {
        let split = input.splits.get(id).filter(|c| c.epoch == range.epoch);
        let split = split
            .ok_or_else(|| mismatch("the split's epoch is not the plan's").with("split", id))?;
        let of = split.rows_between(range.from, range.to);
        rows += of.ok_or_else(|| {
            mismatch("the plan's range does not end at borders").with("split", id)
        })?;
    }
    Ok(rows)
}

/// By transform, the sums of what it counted; and of [`COLUMNS`].
type Counters = BTreeMap<String, BTreeMap<String, u64>>;

fn add_counters(counters: &mut Counters, of: &str, more: Changed) {
    if more.is_empty() {
        return;
    }
    let sums = counters.entry(of.to_owned()).or_default();
    for (counter, amount) in more {
        *sums.entry(counter).or_default() += amount;
    }
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
