//! A task's rows until they are printed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;

use super::show::Shown;
use super::{ConsoleConfig, Form};
use crate::chain::{Applied, Column};
use crate::commit::{Delivery, FileRange, Role, new_file_id};
use crate::error::Result;
use crate::record::{Batch, SYSTEM, SplitId};
use crate::sink::covered::Gathering;
use crate::sink::json;
use crate::sink::{Deliver, Fence, Finish, Gathered, Prepared, Sealed, Sink, SinkContext};
use crate::zone::{LetterFiles, LettersTable};

pub(super) struct ConsoleSink {
    config: ConsoleConfig,
    letters: LetterFiles,
    gathering: Gathering,
    printed: Printed,
}

/// What one commit prints.
#[derive(Debug, Default)]
struct Printed {
    shown: Vec<Shown>,
    so_far: usize,
    /// Rows of each split, the others too, with the name of its partition.
    ranges: BTreeMap<SplitId, (String, FileRange)>,
}

impl ConsoleSink {
    pub(super) fn new(
        config: ConsoleConfig,
        context: SinkContext,
        letters: LettersTable,
    ) -> ConsoleSink {
        ConsoleSink {
            config,
            letters: LetterFiles::new(letters),
            gathering: Gathering::new(context.base, context.clock),
            printed: Printed::default(),
        }
    }

    /// Rows as text; those beyond the limit are counted.
    fn show(&mut self, batch: &Batch, applied: &Applied) {
        let table = &applied.table;
        if let (Some(first), Some(last)) = (applied.record.first(), applied.record.last()) {
            let offset = |record: u32| batch.offset.value(record as usize);
            let split = &batch.covers.split;
            let range = self.printed.ranges.entry(split.clone());
            let (_, range) = range.or_insert_with(|| {
                let range = FileRange {
                    split: split.clone(),
                    from: offset(*first),
                    to: 0,
                    rows: 0,
                };
                (batch.covers.tp.to_string(), range)
            });
            range.to = offset(*last) + 1;
            range.rows += table.rows as u64;
        }
        let left = self.config.rows.saturating_sub(self.printed.so_far);
        let rows = table.rows.min(left);
        if rows == 0 {
            return;
        }
        self.printed.so_far += rows;
        let fields = table.schema.fields().iter().zip(&table.columns);
        let kept: Vec<(String, &Column)> = fields
            .filter(|(field, _)| !SYSTEM.contains(&field.name().as_str()))
            .map(|(field, column)| (field.name().clone(), column))
            .collect();
        let names: Vec<String> = kept.iter().map(|(name, _)| name.clone()).collect();
        if !self
            .printed
            .shown
            .last()
            .is_some_and(|last| last.is_of(&names))
        {
            self.printed.shown.push(Shown::new(names));
        }
        let Some(shown) = self.printed.shown.last_mut() else {
            return;
        };
        let form = self.config.form;
        for row in 0..rows {
            shown.push(
                kept.iter()
                    .map(|(_, column)| text(column, row, form))
                    .collect(),
            );
        }
    }
}

/// A value as text: in a table text stands without quotes.
fn text(column: &Column, row: usize, form: Form) -> Option<String> {
    let row = if column.constant { 0 } else { row };
    let values = &column.values;
    if values.is_null(row) {
        return None;
    }
    if let (Form::Table, Some(texts)) = (form, values.as_string_opt::<i32>()) {
        return Some(texts.value(row).to_owned());
    }
    let mut out = Vec::new();
    json::write_value(&mut out, values, row);
    Some(String::from_utf8_lossy(&out).into_owned())
}

impl Sink for ConsoleSink {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        if batch.covers.range.from == batch.covers.range.to {
            return Ok(());
        }
        self.gathering.cover(batch, &applied)?;
        self.letters.add(batch, &applied.dead_letters)?;
        self.show(batch, &applied);
        Ok(())
    }

    fn should_roll(&self) -> bool {
        let age = self.gathering.age();
        age.is_some_and(|age| age >= self.config.commit_age)
    }

    fn seal(&mut self) -> Result<Option<Sealed>> {
        let mut files: Vec<Box<dyn Finish>> = Vec::new();
        for written in self.letters.close()? {
            files.push(Box::new(written));
        }
        let printed = std::mem::take(&mut self.printed);
        let mut deliveries: Vec<Box<dyn Deliver>> = Vec::new();
        if !printed.ranges.is_empty() {
            deliveries.push(Box::new(Print {
                printed,
                form: self.config.form,
                truncate: self.config.truncate,
            }));
        }
        Ok(self.gathering.seal(files, deliveries))
    }

    fn discard(&mut self) {
        self.gathering.discard();
        self.letters.discard();
        self.printed = Printed::default();
    }

    fn gathered(&self) -> Gathered {
        self.gathering.gathered(self.config.commit_age)
    }

    fn memory(&self) -> usize {
        let shown: usize = self.printed.shown.iter().map(Shown::bytes).sum();
        shown + self.letters.memory()
    }
}

impl fmt::Debug for ConsoleSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSink")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What was sealed, on its way to stdout.
#[derive(Debug)]
struct Print {
    printed: Printed,
    form: Form,
    truncate: usize,
}

impl Deliver for Print {
    /// A reader of stdout that has gone (`| head`) misses rows that are committed: nothing holds them for it.
    fn prepare(self: Box<Self>, fence: &dyn Fence) -> Result<Prepared> {
        fence.holds()?;
        let rows: u64 = self
            .printed
            .ranges
            .values()
            .map(|(_, range)| range.rows)
            .sum();
        let mut text = String::new();
        if self.form == Form::Table {
            let ranges = self.printed.ranges.values();
            let of = ranges.map(|(tp, FileRange { from, to, rows, .. })| {
                format!("{rows} rows of {tp}, offsets {from} to {to}")
            });
            text = format!("{}\n", of.collect::<Vec<_>>().join(", "));
        }
        for shown in &self.printed.shown {
            text.push_str(&shown.text(self.form, self.truncate));
        }
        let more = rows.saturating_sub(self.printed.so_far as u64);
        if more > 0 && self.form == Form::Table {
            let _unfailing = writeln!(
                text,
                "only showing top {} rows; {more} more",
                self.printed.so_far
            );
        }
        let mut stdout = std::io::stdout().lock();
        let _closed = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        let deliveries = self
            .printed
            .ranges
            .into_values()
            .map(|(_, range)| Delivery {
                id: new_file_id(),
                role: Role::Rows,
                sink: super::SINK.name.to_owned(),
                target: "stdout".to_owned(),
                rows: range.rows,
                ranges: vec![range],
                token: None,
            });
        Ok(Prepared {
            deliveries: deliveries.collect(),
            ..Prepared::default()
        })
    }

    fn abandon(self: Box<Self>) {}
}
