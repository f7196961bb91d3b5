//! Rows of the zone that is read, through the rules of a plan: what they make becomes rows of the batch, what they refuse becomes
//! dead letters of it, files of the same entry.
//!
//! A row keeps its coordinates, whatever the rules do with its columns. Rules are pure functions of rows, and rows come in the order
//! of the zone's files: so the same plan makes the same rows and the same dead letters, however often it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, FieldRef, Schema, SchemaRef};
use arrow_select::take::take;

use super::{Batches, Built, COLUMNS, Counters, add_counters, retry};
use crate::chain::{Applied, Column, DeadLetter, Table, TransformChain};
use crate::commit::{Rule, own_table};
use crate::config::{PipelineConfig, TableName, Tolerance};
use crate::connectors::zone::parquet_options;
use crate::error::{Error, Kind, Result};
use crate::record::{OFFSET, OffsetRange, TopicPartition};
use crate::sink::{Finish, Notes};
use crate::zone::{Changed, Fitting, LeftOut, LetterFiles, LettersTable, ProcessedBatch, Rows};
use crate::zone::{SplitRange, deadletter, is_system};

const OP: &str = "batch.rules";

/// The columns that rules make of rows with the columns `read`: their own, then those of the host, which are the ones of the zone
/// that is read.
pub fn columns(chain: &TransformChain, read: &SchemaRef) -> SchemaRef {
    let made = chain.output_schema();
    let own = made.fields().iter().filter(|f| !is_system(f.name()));
    let system = read.fields().iter().filter(|f| is_system(f.name()));
    let fields: Vec<FieldRef> = own.chain(system).cloned().collect();
    Arc::new(Schema::new(fields))
}

/// Whether the same plan would fail in the same way until somebody changes the rules or the config. A plan holds the rules that it was
/// made with, so it must not stay open then.
pub fn is_of_rules(error: &Error) -> bool {
    let kinds = [
        Kind::ConfigInvalid,
        Kind::RecordRefused,
        Kind::PluginRefused,
        Kind::PluginBroken,
    ];
    kinds.contains(&error.kind())
}

/// The rules of one plan at work.
pub struct Through {
    built: Built,
    /// From what the rules make to the columns of the zone that is written.
    own: Fitting,
    made: SchemaRef,
    changed: Changed,
    counters: Counters,
    letters: LetterFiles,
    /// Of the dead letters.
    pub notes: Notes,
    refuse_none: bool,
    /// Most rows, and about most bytes, in one call.
    at_once: (usize, usize),
}

impl Batches<'_> {
    /// In a table that is this log's, wherever the rules came from.
    pub(super) fn letters(&mut self) -> Result<LetterFiles> {
        let table = &self.config.errors.dlq_table;
        if !self.owns_letters {
            let (store, name) = (self.store.clone(), self.log.name());
            retry(self.host, || own_table(store.as_ref(), name, table))?;
            self.owns_letters = true;
        }
        Ok(LetterFiles::new(LettersTable {
            store: self.store.clone(),
            clock: self.host.clock.clone(),
            log: self.log.name().clone(),
            table: TableName::Fixed(table.clone()),
            parquet: parquet_options(self.config),
        }))
    }

    /// Keeps the chain for the next plan.
    pub(super) fn keep_built(&mut self, through: Through, rules: &[Rule]) {
        debug_assert!(through.built.rules == rules);
        self.built = Some(through.built);
    }

    /// After the last row: what was counted, and the files of dead letters. `changed`: values that were cast when they were read.
    pub(super) fn done(
        &mut self,
        mut through: Through,
        changed: Changed,
        counters: &mut Counters,
    ) -> Result<Vec<Box<dyn Finish>>> {
        let files = through.letters.close()?.into_iter();
        let far = self.store.is_far();
        let files = files.map(|file| {
            let file = if far { file.settle()? } else { file };
            Ok(Box::new(file) as Box<dyn Finish>)
        });
        let files = files.collect::<Result<_>>()?;
        add_counters(counters, COLUMNS, changed);
        add_counters(counters, COLUMNS, std::mem::take(&mut through.changed));
        for (of, sums) in std::mem::take(&mut through.counters) {
            add_counters(counters, &of, sums);
        }
        self.notes.merge(&through.notes);
        self.built = Some(through.built);
        Ok(files)
    }
}

impl Through {
    pub(super) fn new(
        config: &PipelineConfig,
        built: Built,
        own: Fitting,
        letters: LetterFiles,
    ) -> Through {
        Through {
            made: columns(&built.chain, &built.input),
            built,
            own,
            changed: Changed::new(),
            counters: Counters::new(),
            letters,
            notes: Notes::default(),
            refuse_none: config.errors.tolerance == Tolerance::None,
            at_once: (config.limits.batch_rows, config.limits.batch_bytes),
        }
    }

    /// The columns of the rows that come to the batch.
    pub fn columns(&self) -> SchemaRef {
        self.own.schema().clone()
    }

    /// `splits`: those that rows name by their index.
    pub fn pass(
        &mut self,
        rows: Rows,
        splits: &[SplitRange],
        batch: &mut ProcessedBatch<'_>,
    ) -> Result<()> {
        let all = rows.batch.num_rows();
        let (most, bytes) = self.at_once;
        let width = rows.batch.get_array_memory_size() / all.max(1);
        let most = most.min(bytes / width.max(1)).max(1);
        for from in (0..all).step_by(most) {
            let len = most.min(all - from);
            let part = Rows {
                splits: rows.splits[from..from + len].to_vec(),
                batch: rows.batch.slice(from, len),
                file: rows.file.clone(),
            };
            self.part(part, splits, batch)?;
        }
        Ok(())
    }

    fn part(
        &mut self,
        rows: Rows,
        splits: &[SplitRange],
        batch: &mut ProcessedBatch<'_>,
    ) -> Result<()> {
        let mut applied = self
            .built
            .chain
            .apply_rows(Table::of(&rows.batch))
            .map_err(|error| error.with("file", &rows.file))?;
        let letters = one_each(std::mem::take(&mut applied.dead_letters));
        let offsets = offsets(&rows.batch)?;
        if let (true, Some(letter)) = (self.refuse_none, letters.first()) {
            return Err(refused(&rows, letter, splits, &offsets));
        }
        let made = self.assembled(&rows.batch, &applied)?;
        let kept = Rows {
            splits: (applied.record.iter())
                .map(|row| rows.splits[*row as usize])
                .collect(),
            batch: self.own.fit(&made, &mut self.changed)?,
            file: rows.file.clone(),
        };
        batch.push(kept)?;
        batch.leave_out(left_out(&rows, &applied, &letters, &offsets))?;
        // Rows of one record follow each other.
        self.notes.add_letters(&letters, |letter| {
            let row = letter.record as usize;
            (rows.splits[row], offsets[row])
        });
        self.write(&rows, letters, splits, &offsets)?;
        for (transform, counter, amount) in applied.counters {
            let sums = self.counters.entry(transform).or_default();
            *sums.entry(counter).or_default() += amount;
        }
        Ok(())
    }

    /// The columns of the rules, with the host's of the row that each came from.
    fn assembled(&self, read: &RecordBatch, applied: &Applied) -> Result<RecordBatch> {
        let rows = applied.table.rows;
        let from = UInt32Array::from(applied.record.clone());
        let wrong = |e: ArrowError| {
            let message = "what the rules made does not fit the rows they made it of";
            Error::new(Kind::Bug, OP, message).source(e)
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.made.fields().len());
        let own = applied.table.schema.fields().iter();
        for (field, Column { values, constant }) in own.zip(&applied.table.columns) {
            if is_system(field.name()) {
                continue;
            }
            columns.push(match constant {
                true => take(values, &UInt32Array::from(vec![0; rows]), None).map_err(wrong)?,
                false => values.clone(),
            });
        }
        let system = read.schema_ref().fields().iter().zip(read.columns());
        for (_, values) in system.filter(|(field, _)| is_system(field.name())) {
            columns.push(take(values, &from, None).map_err(wrong)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.made.clone(), columns, &options).map_err(wrong)
    }

    /// Dead letters, those of each split by themselves.
    fn write(
        &mut self,
        rows: &Rows,
        letters: Vec<DeadLetter>,
        splits: &[SplitRange],
        offsets: &[i64],
    ) -> Result<()> {
        let mut by_split: BTreeMap<u32, Vec<DeadLetter>> = BTreeMap::new();
        for letter in letters {
            let split = rows.splits[letter.record as usize];
            by_split.entry(split).or_default().push(letter);
        }
        for (split, letters) in by_split {
            let at = letters.iter().map(|l| offsets[l.record as usize]);
            let (from, last) = at.fold((i64::MAX, i64::MIN), |(from, last), at| {
                (from.min(at), last.max(at))
            });
            let of = &splits[split as usize];
            let tp = TopicPartition {
                topic: of.topic.clone(),
                partition: of.partition,
            };
            let range = OffsetRange { from, to: last + 1 };
            let table = deadletter::of_rows(&rows.batch, &rows.file, &letters)?;
            self.letters.put(&of.split, &tp, range, &table)?;
        }
        Ok(())
    }
}

fn offsets(rows: &RecordBatch) -> Result<Vec<i64>> {
    let column = rows.column_by_name(OFFSET);
    let column = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
    match column {
        Some(column) => Ok(column.values().to_vec()),
        None => Err(Error::new(
            Kind::LogCorrupt,
            OP,
            "rows of a zone without `_offset`",
        )),
    }
}

/// One dead letter for each row, with all reasons: so a refused row counts once, in its table as in the ledger.
fn one_each(letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
    let mut rows: Vec<DeadLetter> = Vec::with_capacity(letters.len());
    for letter in letters {
        match rows.last_mut() {
            Some(last) if last.record == letter.record => last.reasons.extend(letter.reasons),
            _ => rows.push(letter),
        }
    }
    rows
}

/// What does not come to the batch. `applied.record` and the letters ascend.
fn left_out(
    rows: &Rows,
    applied: &Applied,
    letters: &[DeadLetter],
    offsets: &[i64],
) -> Vec<(u32, i64, LeftOut)> {
    let mut kept = applied.record.iter().peekable();
    let mut refused = letters.iter().map(|letter| letter.record).peekable();
    let mut out = Vec::new();
    for (row, (split, offset)) in (0..).zip(rows.splits.iter().zip(offsets)) {
        if kept.next_if(|kept| **kept == row).is_some() {
            continue;
        }
        let why = match refused.next_if_eq(&row) {
            Some(_) => LeftOut::Refused,
            None => LeftOut::Filtered,
        };
        out.push((*split, *offset, why));
    }
    out
}

fn refused(rows: &Rows, letter: &DeadLetter, splits: &[SplitRange], offsets: &[i64]) -> Error {
    let row = letter.record as usize;
    let of = &splits[rows.splits[row] as usize];
    let reason = letter.reasons.first();
    let message = "a row of the zone was refused and errors.tolerance is none";
    Error::new(Kind::RecordRefused, OP, message)
        .with(
            "at",
            format!("{}/{}@{}", of.topic, of.partition, offsets[row]),
        )
        .with("file", &rows.file)
        .with("transform", &letter.by.transform)
        .with("code", reason.map_or("", |r| &r.code))
        .with("reason", reason.map_or("", |r| &r.message))
        .hint(
            "errors.tolerance = \"all\" sends refused rows to the dead letters; or change the rule",
        )
}
