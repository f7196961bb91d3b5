//! One batch of PROCESSED: takes rows, drops duplicates, writes sorted files per date.
//!
//! `memory` bounds what is held, whatever the number of rows, their width and the number of dates: rows, keys and
//! records are laid aside in sorted runs (`spill.*`) and merged at the end. Each touched partition gets one file, or
//! several of about `target_bytes`, each with its key sidecar. Rows keep their columns and coordinates; the partition
//! column is only in the path, so a column of that name is left out of the file.

mod files;
mod piece;
mod runs;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema, SchemaRef};

use self::piece::{Mark, Shape};
use self::runs::Gathered;
use crate::chain::{Ledger, Rows as LedgerRows};
use crate::commit::{AddedFile, LogName, Role};
use crate::error::{Error, Kind, Result};
use crate::record::{OFFSET, ROW, SplitId};
use crate::sink::Finish;
use crate::store::Store;

use crate::config::{Bucket, SortBy, TableName, order_of};
use crate::zone::ParquetOptions;
use crate::zone::bits::Bits;
use crate::zone::bucket::{buckets, fitting as fitting_buckets};
use crate::zone::dedup::{Candidate, mark_known, mark_within};
use crate::zone::format::unknown;
use crate::zone::keys::{KeyScheme, KeyStream};
use crate::zone::layout::table_of;
use crate::zone::names::{Origin, clashes};
use crate::zone::partition::{PartitionBy, Period, WHOLE};
use crate::zone::read::{Located, Rows, SplitRange};
use crate::zone::sorter::{Record, Sorted, Sorter};
use crate::zone::spill::{Spill, SpillPlace};

/// Rows gathered and encoded at a time …
const CHUNK_ROWS: usize = 8192;
/// … or so many bytes of them, if they are wide.
const CHUNK_BYTES: usize = 1 << 20;
/// Of `memory`: rows before they are laid aside, and the chunks of those that are merged; three eighths.
const ROWS_SHARE: usize = 3;
/// Keys of rows; later those of one file. One eighth.
const KEYS_SHARE: usize = 1;
const EIGHTHS: usize = 8;
/// Which offsets had how many rows, and a bit for each row: a sixteenth each. What is left is for what others hold
/// meanwhile: decoded pages, and the row group that is written.
const SIXTEENTH: usize = 16;

#[derive(Clone, Debug)]
pub struct ProcessedOptions {
    pub name: LogName,
    /// Without `${topic}`: a table may gather several topics.
    pub table: String,
    /// `None`: files lie in the table's directory.
    pub partition: Option<PartitionBy>,
    /// Key columns; empty = no deduplication and no sidecars.
    pub dedup: Vec<String>,
    /// Partitions within this many days are searched too.
    pub lookback_days: u32,
    /// Empty = the key columns, or coordinates if there are none.
    pub sort: Vec<SortBy>,
    /// Rows of a partition are divided by it; each bucket has files of its own.
    pub bucket: Option<Bucket>,
    pub parquet: ParquetOptions,
    /// A partition's rows beyond this go to another file.
    pub target_bytes: u64,
    /// Bytes that the batch may hold.
    pub memory: usize,
    pub spill: SpillPlace,
}

/// The splits that rows come from, and the order of their log.
#[derive(Clone)]
pub struct LogOrder<'a> {
    pub splits: Vec<SplitRange>,
    /// Version of RAW whose span covers an offset of the split with this index.
    pub version_of: &'a dyn Fn(usize, i64) -> Option<u64>,
}

/// A batch being gathered.
pub struct ProcessedBatch<'a> {
    target: Target,
    version_of: &'a dyn Fn(usize, i64) -> Option<u64>,
    /// By index of [`LogOrder::splits`]: place in the order of topic id and partition.
    ranks: Vec<u32>,
    /// `None`: there will be no rows.
    rows: Option<Gathered>,
    count: u64,
    candidates: Sorter<Candidate>,
    records: Sorter<Pieces>,
    /// The record whose rows came last.
    open: Option<Pieces>,
    touched: Touched,
}

/// What files are written for.
struct Target {
    store: Arc<dyn Store>,
    options: ProcessedOptions,
    schema: SchemaRef,
    scheme: KeyScheme,
    /// By rank.
    splits: Vec<SplitRange>,
    spill: Spill,
}

/// Bytes for each part of the work.
struct Shares {
    rows: usize,
    keys: usize,
    small: usize,
}

impl Target {
    fn shares(&self) -> Shares {
        let memory = self.options.memory;
        Shares {
            rows: memory / EIGHTHS * ROWS_SHARE,
            keys: memory / EIGHTHS * KEYS_SHARE,
            small: memory / SIXTEENTH,
        }
    }
}

/// Rows of one record that followed each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Pieces {
    rank: u32,
    offset: i64,
    /// Number of the first.
    number: u64,
    count: u32,
    /// Beside those: rows that the rules refused or took out.
    refused: u32,
    filtered: u32,
}

impl Record for Pieces {
    const BYTES: usize = 32;

    fn head(&self) -> u64 {
        u64::from(self.rank)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.rank.to_le_bytes());
        out.extend(self.count.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.number.to_le_bytes());
        out.extend(self.refused.to_le_bytes());
        out.extend(self.filtered.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Pieces {
        let (mut four, mut eight) = ([0; 4], [0; 8]);
        let mut int = |at: usize| {
            four.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(four)
        };
        let (rank, count) = (int(0), int(4));
        let (refused, filtered) = (int(24), int(28));
        let mut long = |at: usize| {
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        let (offset, number) = (long(8) as i64, long(16));
        Pieces {
            rank,
            offset,
            number,
            count,
            refused,
            filtered,
        }
    }
}

/// Why a row that was read does not come to a batch: each counts in the ledger of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It is a dead letter.
    Refused,
    /// A transform took it out.
    Filtered,
}

/// The partitions of rows.
#[derive(Debug)]
struct Touched {
    all: HashSet<i32>,
    /// Some that are known, by their last digits: most rows need no look into the set.
    lately: [Option<i32>; 64],
}

impl Touched {
    fn add(&mut self, period: i32) {
        let lately = &mut self.lately[(period & 63) as usize];
        if *lately != Some(period) {
            *lately = Some(period);
            self.all.insert(period);
        }
    }

    fn sorted(&self) -> Vec<i32> {
        let mut all: Vec<i32> = self.all.iter().copied().collect();
        all.sort_unstable();
        all
    }
}

/// The result of a batch.
#[derive(Debug)]
pub struct Processed {
    /// Rows files, each followed by its sidecar.
    pub files: Vec<Box<dyn Finish>>,
    /// Per split that had rows. A record none of whose rows is written counts as refused if one of them was, else as filtered.
    pub ledgers: BTreeMap<SplitId, Ledger>,
    /// The column that is left out of the files because the partition column has its name.
    pub dropped_column: Option<String>,
    /// Bytes of runs that were laid aside.
    pub spilled: u64,
}

impl ProcessedOptions {
    /// Refuses options that do not fit the columns of the rows; without columns nothing is known yet.
    pub fn check(&self, schema: &SchemaRef) -> Result<()> {
        table_of(&TableName::Fixed(self.table.clone()), "")?;
        if schema.fields().is_empty() {
            return Ok(());
        }
        self.fit(schema)?;
        KeyScheme::new(&self.dedup).keys(&RecordBatch::new_empty(schema.clone()))?;
        Shape::new(schema, &self.order()).map(drop)
    }
}

impl ProcessedOptions {
    fn fit(&self, schema: &SchemaRef) -> Result<()> {
        let known = |name: &str| schema.field_with_name(name).ok();
        let missing = |key: &'static str, name: &str| {
            Error::new(
                Kind::ConfigInvalid,
                "zone.processed",
                format!("{key} names `{name}`, which is not a column of the rows"),
            )
            .with("columns", names(schema))
        };
        if let Some(by) = &self.partition {
            let field = known(&by.field);
            let field = field.ok_or_else(|| missing("sink.partition.field", &by.field))?;
            by.check(field.data_type())?;
        }
        self.one_name_each(schema)?;
        for name in &self.dedup {
            known(name).ok_or_else(|| missing("sink.dedup.key", name))?;
        }
        for by in &self.sort {
            known(&by.column).ok_or_else(|| missing("sink.sort", &by.column))?;
        }
        if let Some(bucket) = &self.bucket {
            fitting_buckets(schema.fields(), bucket)?;
        }
        if let Some(name) = unknown(schema, self.parquet.columns.keys()).first() {
            return Err(missing("sink.columns", name));
        }
        Ok(())
    }

    fn order(&self) -> Vec<SortBy> {
        order_of(&self.sort, &self.dedup)
    }
}

impl ProcessedOptions {
    /// A partition may have its field's own name: the field is then left out of the files.
    fn one_name_each(&self, schema: &Schema) -> Result<()> {
        let by = self.partition.as_ref();
        let left_out = |name: &str| by.is_some_and(|by| by.name == name && by.field == name);
        let columns = schema.fields().iter().map(|field| field.name().as_str());
        let columns = columns.filter(|name| !left_out(name));
        let path = by.map(|by| (by.name.as_str(), Origin::Path("sink.partition.name")));
        let found = clashes(path, columns.map(|name| (name, Origin::Source)));
        let Some(clash) = found.first() else {
            return Ok(());
        };
        let (message, hint) = match &clash.other_by {
            Origin::Path(key) => (
                format!(
                    "{key} `{}` is also a column of the rows, `{}`: engines would read one for the other",
                    clash.other, clash.column
                ),
                "set sink.partition.name to a name that no column has",
            ),
            _ => (
                clash.to_string(),
                "give one of them another name in the pipeline that writes the zone; files that have both stay in the \
                 way until that pipeline is rewound behind them",
            ),
        };
        Err(Error::new(Kind::ConfigInvalid, "zone.processed", message).hint(hint))
    }
}

impl<'a> ProcessedBatch<'a> {
    /// `schema`: that of all rows to come; without columns if there will be no rows.
    pub fn new(
        store: Arc<dyn Store>,
        options: ProcessedOptions,
        schema: SchemaRef,
        order: LogOrder<'a>,
    ) -> Result<ProcessedBatch<'a>> {
        options.check(&schema)?;
        let mut sorted: Vec<usize> = (0..order.splits.len()).collect();
        sorted.sort_by_key(|i| place_of(order.splits[*i].split.as_str()));
        let mut ranks = vec![0; sorted.len()];
        for (rank, split) in (0..).zip(&sorted) {
            ranks[*split] = rank;
        }
        let spill = Spill::new(options.spill.clone());
        let target = Target {
            splits: sorted.iter().map(|i| order.splits[*i].clone()).collect(),
            scheme: KeyScheme::new(&options.dedup),
            store,
            options,
            schema,
            spill: spill.clone(),
        };
        let shares = target.shares();
        let rows = match target.schema.fields().is_empty() {
            true => None,
            false => {
                let shape = Shape::new(&target.schema, &target.options.order())?;
                Some(Gathered::new(Arc::new(shape), &spill, shares.rows))
            }
        };
        Ok(ProcessedBatch {
            target,
            version_of: order.version_of,
            ranks,
            rows,
            count: 0,
            candidates: Sorter::new(&spill, shares.keys),
            records: Sorter::new(&spill, shares.small),
            open: None,
            touched: Touched {
                all: HashSet::new(),
                lately: [None; 64],
            },
        })
    }

    /// Rows in any order.
    pub fn push(&mut self, rows: Rows) -> Result<()> {
        let Rows { splits, batch, .. } = rows;
        let Some(gathered) = &self.rows else {
            return Err(bug("rows of a batch that has no columns"));
        };
        let shape = gathered.shape.clone();
        if *batch.schema_ref() != self.target.schema {
            return Err(bug("rows of another schema than the batch began with"));
        }
        let marks = self.marks(&splits, &batch)?;
        for mark in marks.iter().filter(|mark| mark.keyed) {
            self.candidates.push(mark.at)?;
        }
        self.records(&marks)?;
        let piece = shape.carry(&batch, marks)?;
        match &mut self.rows {
            Some(gathered) => gathered.push(piece),
            None => Ok(()),
        }
    }

    /// Rows that were read and that the rules keep from coming here, each by the index of its split and its offset.
    pub fn leave_out(&mut self, rows: impl IntoIterator<Item = (u32, i64, LeftOut)>) -> Result<()> {
        let mut open: Option<Pieces> = None;
        for (split, offset, why) in rows {
            let rank = self.rank(split as usize)?;
            let same = |open: &Pieces| (open.rank, open.offset) == (rank, offset);
            if let Some(done) = open.take_if(|open| !same(open)) {
                self.records.push(done)?;
            }
            let open = open.get_or_insert(Pieces {
                rank,
                offset,
                ..Pieces::default()
            });
            match why {
                LeftOut::Refused => open.refused += 1,
                LeftOut::Filtered => open.filtered += 1,
            }
        }
        match open {
            Some(done) => self.records.push(done),
            None => Ok(()),
        }
    }

    fn marks(&mut self, splits: &[u32], batch: &RecordBatch) -> Result<Vec<Mark>> {
        let offsets = numbers::<arrow_array::types::Int64Type>(batch, OFFSET)?;
        let rows = numbers::<arrow_array::types::Int32Type>(batch, ROW)?;
        let options = &self.target.options;
        let periods = match &options.partition {
            Some(by) => match batch.column_by_name(&by.field) {
                Some(column) => by.periods(column)?,
                None => return Err(bug("the partition field is gone")),
            },
            None => vec![WHOLE; batch.num_rows()],
        };
        let keys = match options.dedup.is_empty() {
            true => vec![None; batch.num_rows()],
            false => self.target.scheme.keys(batch)?,
        };
        let buckets = match &options.bucket {
            Some(bucket) => {
                let columns = fitting_buckets(batch.schema_ref().fields(), bucket)?;
                let columns = columns.iter().map(|at| batch.column(*at).clone());
                buckets(&columns.collect::<Vec<_>>(), batch.num_rows(), bucket)
            }
            None => vec![0; batch.num_rows()],
        };
        let alone = options.lookback_days == 0;
        let mut last = None;
        let mut marks = Vec::with_capacity(batch.num_rows());
        for (i, (key, period)) in keys.into_iter().zip(periods).enumerate() {
            let here = (splits[i], offsets[i]);
            let (rank, version) = match last {
                Some((at, rank, version)) if at == here => (rank, version),
                _ => self.origin(here.0 as usize, here.1)?,
            };
            last = Some((here, rank, version));
            let period = period.code();
            self.touched.add(period);
            let group = if alone { period } else { 0 };
            let mut at = Candidate::new(group, period, key.unwrap_or_default());
            (at.version, at.rank) = (version, rank);
            (at.offset, at.row, at.number) = (offsets[i], rows[i], self.count);
            self.count += 1;
            let keyed = key.is_some();
            let bucket = buckets[i];
            marks.push(Mark { at, keyed, bucket });
        }
        Ok(marks)
    }

    /// Counts the rows of records.
    fn records(&mut self, marks: &[Mark]) -> Result<()> {
        for mark in marks {
            let (rank, offset) = (mark.at.rank, mark.at.offset);
            match &mut self.open {
                Some(open) if (open.rank, open.offset) == (rank, offset) => open.count += 1,
                _ => {
                    let next = Pieces {
                        rank,
                        offset,
                        number: mark.at.number,
                        count: 1,
                        ..Pieces::default()
                    };
                    if let Some(done) = self.open.replace(next) {
                        self.records.push(done)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn origin(&self, split: usize, offset: i64) -> Result<(u32, u64)> {
        let rank = self.rank(split)?;
        let version = (self.version_of)(split, offset).ok_or_else(|| {
            Error::new(
                Kind::LogCorrupt,
                "zone.processed",
                "a row whose offset no commit of the source zone covers",
            )
            .with("split", &self.target.splits[rank as usize].split)
            .with("offset", offset)
        })?;
        Ok((rank, version))
    }

    fn rank(&self, split: usize) -> Result<u32> {
        let rank = self.ranks.get(split).copied();
        rank.ok_or_else(|| bug("rows of a split that the batch was not told of"))
    }

    pub fn len(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Deduplicates against `live` (the files of this zone at version D) and writes. `still` is asked again and again
    /// whether to go on: a large batch takes minutes.
    pub fn finish(self, live: &[&AddedFile], still: &dyn Fn() -> Result<()>) -> Result<Processed> {
        let ProcessedBatch {
            target,
            rows,
            candidates,
            mut records,
            open,
            touched,
            ..
        } = self;
        let mut duplicate = Bits::new(&target.spill, target.shares().small);
        let candidates = candidates.finish()?;
        let known = match target.options.dedup.is_empty() {
            true => Vec::new(),
            false => target.known(live, &touched.sorted())?,
        };
        target.duplicates(&known, candidates, &mut duplicate, still)?;
        if let Some(open) = open {
            records.push(open)?;
        }
        let ledgers = target.ledgers(records.finish()?, &mut duplicate)?;
        let dropped_column = target.dropped_column();
        let files = match rows {
            Some(rows) => {
                let (shape, mut rows) = (rows.shape.clone(), rows.finish(still)?);
                let dropped = dropped_column.as_deref();
                let mut kept = files::Kept {
                    rows: &mut rows,
                    duplicate: &mut duplicate,
                };
                files::write(&target, &shape, &mut kept, dropped, still)?
            }
            None => Vec::new(),
        };
        Ok(Processed {
            files,
            ledgers,
            dropped_column,
            spilled: target.spill.written(),
        })
    }
}

impl Target {
    /// Whether rows of one partition can be duplicates of rows of the other.
    fn near(&self, a: Period, b: Period) -> bool {
        match &self.options.partition {
            Some(by) => by.near(a, b, self.options.lookback_days),
            None => true,
        }
    }

    /// Whether a partition is near one of those, which are sorted: the next of them on each side is the nearest.
    fn near_any(&self, touched: &[i32], period: Period) -> bool {
        let at = touched.partition_point(|t| *t < period.code());
        let beside = [at.checked_sub(1), Some(at)].into_iter().flatten();
        let mut beside = beside.filter_map(|i| touched.get(i));
        beside.any(|t| self.near(Period::of_code(*t), period))
    }

    fn duplicates(
        &self,
        known: &[(Period, &AddedFile)],
        candidates: Sorted<Candidate>,
        duplicate: &mut Bits,
        still: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let near = |a, b| self.near(a, b);
        if known.is_empty() {
            return mark_within(candidates.iter()?, near, duplicate);
        }
        let mut candidates = candidates.flat(&self.spill)?;
        for (period, sidecar) in known {
            still()?;
            let located = Located::find(&self.store, &self.options.name, sidecar)?;
            let keys = KeyStream::open(located, sidecar, &self.scheme)?;
            let group = match self.options.lookback_days {
                0 => period.code(),
                _ => 0,
            };
            let reaches = |of| self.near(of, *period);
            mark_known(&mut candidates, group, keys, reaches, duplicate)?;
        }
        mark_within(candidates.iter(), near, duplicate)
    }

    /// The sidecars of files in whose partitions keys of these rows may be, with their partitions.
    fn known<'f>(
        &self,
        live: &[&'f AddedFile],
        touched: &[i32],
    ) -> Result<Vec<(Period, &'f AddedFile)>> {
        let keys = live.iter().filter(|f| f.role == Role::Keys);
        let sidecars: BTreeMap<&str, &AddedFile> = keys.map(|f| (f.id.as_str(), *f)).collect();
        let prefix = format!("{}/", self.options.table);
        let mut known = Vec::new();
        for rows in live {
            if rows.role != Role::Rows || !rows.path.starts_with(&prefix) {
                continue;
            }
            let period = self.period_of(rows)?;
            if self.near_any(touched, period) {
                known.push((period, sidecar(rows, &sidecars)?));
            }
        }
        Ok(known)
    }

    fn period_of(&self, file: &AddedFile) -> Result<Period> {
        let Some(by) = &self.options.partition else {
            return Ok(WHOLE);
        };
        let value = file.partition_values.get(&by.name).ok_or_else(|| {
            Error::new(
                Kind::ConfigInvalid,
                "zone.processed",
                format!(
                    "the zone has files that are not partitioned by `{}`",
                    by.name
                ),
            )
            .with("file", &file.path)
            .hint("set sink.partition.* back, or write to a new zone")
        })?;
        Ok(by.period(value))
    }

    fn ledgers(
        &self,
        records: Sorted<Pieces>,
        duplicate: &mut Bits,
    ) -> Result<BTreeMap<SplitId, Ledger>> {
        let mut by_rank: Vec<Ledger> = vec![Ledger::default(); self.splits.len()];
        let mut of = None;
        let mut rows = LedgerRows::default();
        let mut count = |of: Option<(u32, i64)>, rows: &LedgerRows| {
            if let Some(ledger) = of.and_then(|(rank, _)| by_rank.get_mut(rank as usize)) {
                count_record(ledger, rows);
            }
        };
        for pieces in records.iter()? {
            let pieces = pieces?;
            let record = Some((pieces.rank, pieces.offset));
            if of != record {
                count(of, &rows);
                (of, rows) = (record, LedgerRows::default());
            }
            let (refused, filtered) = (u64::from(pieces.refused), u64::from(pieces.filtered));
            rows.refused += refused;
            rows.filtered += filtered;
            rows.made += u64::from(pieces.count) + refused + filtered;
            for number in pieces.number..pieces.number + u64::from(pieces.count) {
                rows.duplicates += u64::from(duplicate.get(number)?);
            }
        }
        count(of, &rows);
        let ledgers = self.splits.iter().map(|of| of.split.clone()).zip(by_rank);
        Ok(ledgers
            .filter(|(_, ledger)| ledger.records.read > 0)
            .collect())
    }

    fn dropped_column(&self) -> Option<String> {
        let by = self.options.partition.as_ref()?;
        self.schema
            .field_with_name(&by.name)
            .ok()
            .map(|field| field.name().clone())
    }
}

/// A record and its rows, of which those count as written that nothing else became of.
fn count_record(ledger: &mut Ledger, rows: &LedgerRows) {
    let gone = rows.refused + rows.filtered + rows.duplicates;
    let written = rows.made.saturating_sub(gone);
    let records = &mut ledger.records;
    records.read += 1;
    match (written > 0, rows.refused > 0) {
        (true, _) => records.with_rows += 1,
        (false, true) => records.refused += 1,
        (false, false) => records.filtered += 1,
    }
    // A record of one row is refused as a whole.
    records.refused_in_part += u64::from(rows.made > 1 && rows.refused > 0);
    ledger.rows.made += rows.made;
    ledger.rows.written += written;
    ledger.rows.refused += rows.refused;
    ledger.rows.filtered += rows.filtered;
    ledger.rows.duplicates += rows.duplicates;
    ledger.dead_letters += rows.refused;
}

impl fmt::Debug for ProcessedBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessedBatch")
            .field("name", &self.target.options.name)
            .field("rows", &self.count)
            .finish_non_exhaustive()
    }
}

fn sidecar<'a>(
    rows: &AddedFile,
    sidecars: &BTreeMap<&str, &'a AddedFile>,
) -> Result<&'a AddedFile> {
    let found = rows.keys.as_deref().and_then(|id| sidecars.get(id));
    found.copied().ok_or_else(|| {
        Error::new(
            Kind::ConfigInvalid,
            "zone.processed",
            "a file of the zone has no key sidecar: it was written without deduplication",
        )
        .with("file", &rows.path)
        .hint("write deduplicated rows to a new zone")
    })
}

/// `kafka/<cluster>/<topic id>/12` sorts by the text before the number, then by the number.
fn place_of(split: &str) -> (&str, i64) {
    let parts = split.rsplit_once('/');
    let parsed = parts.and_then(|(prefix, n)| Some((prefix, n.parse().ok()?)));
    parsed.unwrap_or((split, 0))
}

fn numbers<T: arrow_array::ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
) -> Result<Vec<T::Native>> {
    use arrow_array::cast::AsArray;
    let column = batch
        .column_by_name(name)
        .and_then(|c| c.as_primitive_opt::<T>());
    let column =
        column.ok_or_else(|| bug("rows without their coordinates").with("column", name))?;
    Ok(column.values().to_vec())
}

fn names(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.join(",")
}

fn arrow_failed(e: ArrowError) -> Error {
    bug("gathering rows failed").source(e)
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, "zone.processed", message)
}
