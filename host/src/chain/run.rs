//! Runs the transforms of a pipeline over one batch, tracks where rows came from and counts the ledgers.
//!
//! Ledger rules: with an exploding transform, rows are counted from there on (`made` = the rows it returned + the
//! pieces it refused); without one, every record is one row from the start. A record refused before its rows exist
//! counts as a record only.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::new_empty_array;
use arrow_schema::SchemaRef;
use sha2::{Digest as _, Sha256};

use super::{
    Applied, Column, DeadLetter, Identity, Ledger, NewSchema, Output, Reason, Reject, RowMap, held,
    refuse,
};
use super::{Table, Transform};
use crate::config::Unit;
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use crate::record::{Batch, input_schema};

const OP: &str = "chain.apply";

#[derive(Debug)]
pub struct TransformChain {
    transforms: Vec<Box<dyn Transform>>,
    identities: Vec<Arc<Identity>>,
    explodes_at: Option<usize>,
    unit: Unit,
    keeps_bytes: bool,
    rules: Arc<str>,
}

impl TransformChain {
    /// Without transforms, the record's own columns are written. Two exploding ones are refused: `_row` would have two
    /// meanings.
    pub fn new(transforms: Vec<Box<dyn Transform>>, unit: Unit) -> Result<TransformChain> {
        let exploding: Vec<usize> = (0..transforms.len())
            .filter(|i| transforms[*i].explodes())
            .collect();
        if let [first, second, ..] = exploding[..] {
            let name = |i: usize| transforms[i].identity().transform.clone();
            return Err(Error::new(
                Kind::ConfigInvalid,
                "chain.new",
                format!(
                    "transforms '{}' and '{}' both make several rows of one; a chain may hold one such transform",
                    name(first),
                    name(second)
                ),
            )
            .hint("take one of them out; a plugin of your own can do both steps (docs/write-a-plugin.md)"));
        }
        let identities: Vec<Arc<Identity>> = transforms
            .iter()
            .map(|t| Arc::new(t.identity().clone()))
            .collect();
        Ok(TransformChain {
            transforms,
            rules: rules(&identities, unit),
            identities,
            explodes_at: exploding.first().copied(),
            unit,
            keeps_bytes: false,
        })
    }

    /// Says that the sink writes a record's original bytes beside each of its rows (`sink.keep.value`), so that these
    /// bytes are bounded.
    pub fn keeping_bytes(mut self, keeps: bool) -> TransformChain {
        self.keeps_bytes = keeps;
        self
    }

    pub fn output_schema(&self) -> SchemaRef {
        self.transforms
            .last()
            .map_or_else(input_schema, |t| t.output_schema().clone())
    }

    /// For each column of the output: whether it is a column of the record that no transform has changed.
    pub fn untouched(&self) -> Vec<bool> {
        let mut from: Vec<Option<usize>> = (0..input_schema().fields().len()).map(Some).collect();
        for transform in &self.transforms {
            let columns = 0..transform.output_schema().fields().len();
            from = columns
                .map(|n| from.get(transform.carries(n)?).copied().flatten())
                .collect();
        }
        from.iter().map(Option::is_some).collect()
    }

    /// See [`Transform::leave_out`].
    pub fn leave_out(&mut self, new: &NewSchema) {
        self.transforms.iter_mut().for_each(|t| t.leave_out(new));
    }

    /// In the order of the chain.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities.iter().map(Arc::as_ref)
    }

    pub fn apply(&mut self, batch: &Batch) -> Result<Applied> {
        let at = |error: Error| {
            error
                .with("at", &batch.covers.tp)
                .with("from", batch.covers.range.from)
        };
        let mut applied = self.run(input(batch))?;
        if self.unit == Unit::Record {
            refuse::records_with_a_bad_piece(&mut applied)?;
        }
        refuse::too_many_letters(&mut applied)?;
        if let (true, Some(at)) = (self.keeps_bytes, self.explodes_at) {
            refuse::too_many_bytes(&mut applied, batch, &self.identities[at])?;
        }
        count_records(&mut applied);
        closes(&applied).map_err(at)?;
        Ok(applied)
    }

    /// The same for rows that have columns already: each row takes the place of a record, and becomes one row or none. The chain
    /// must not [explode](Self::exploding).
    pub fn apply_rows(&mut self, rows: Table) -> Result<Applied> {
        if let Some(by) = self.exploding() {
            return Err(Error::new(
                Kind::Bug,
                OP,
                "rows of a zone went through a transform that makes several of one",
            )
            .with("transform", &by.transform));
        }
        let mut applied = self.run(rows)?;
        count_records(&mut applied);
        closes(&applied)?;
        Ok(applied)
    }

    /// The transform that makes several rows of one, if there is one.
    pub fn exploding(&self) -> Option<&Identity> {
        self.explodes_at.map(|at| self.identities[at].as_ref())
    }

    fn run(&mut self, mut table: Table) -> Result<Applied> {
        let mut books = RowTracker::open(table.rows, self.explodes_at.is_none());
        for (at, transform) in self.transforms.iter_mut().enumerate() {
            if table.rows == 0 {
                break;
            }
            let output = transform.apply(&table);
            let output = output.map_err(|error| held::of_records(error, &books.record))?;
            let by = &self.identities[at];
            if Some(at) == self.explodes_at {
                books.explode(&output, by)?;
            } else {
                books.pass(&output, table.rows, by)?;
            }
            for (name, amount) in transform.counters().iter().zip(&output.counters) {
                books
                    .counters
                    .push((by.transform.clone(), name.clone(), *amount));
            }
            table = output.table;
        }
        if table.rows == 0 {
            table = empty(self.output_schema());
        }
        let mut applied = books.close(table);
        applied.rules = self.rules.clone();
        Ok(applied)
    }
}

fn closes(applied: &Applied) -> Result<()> {
    match applied.ledger.closes() {
        true => Ok(()),
        false => Err(
            Error::new(Kind::Bug, OP, "the ledgers of a batch do not close")
                .with("ledger", format!("{:?}", applied.ledger)),
        ),
    }
}

/// What decides which rows a record becomes, as one digest.
fn rules(identities: &[Arc<Identity>], unit: Unit) -> Arc<str> {
    let mut hash = Sha256::new();
    hash.update([u8::from(unit == Unit::Record)]);
    for identity in identities {
        let Identity {
            transform,
            plugin,
            version,
            digest,
            config_digest,
        } = identity.as_ref();
        for part in [transform, plugin, version, digest, config_digest] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize()).into()
}

fn input(batch: &Batch) -> Table {
    let columns = batch.columns().into_iter();
    Table {
        schema: input_schema(),
        rows: batch.len(),
        columns: columns
            .map(|(values, constant)| Column { values, constant })
            .collect(),
    }
}

fn empty(schema: SchemaRef) -> Table {
    let columns = schema
        .fields()
        .iter()
        .map(|f| Column {
            values: new_empty_array(f.data_type()),
            constant: false,
        })
        .collect();
    Table {
        schema,
        rows: 0,
        columns,
    }
}

/// Tracks where the rows now in the table came from, and what happened to the others.
struct RowTracker {
    record: Vec<u32>,
    piece: Vec<u32>,
    /// Rows are counted: an exploding transform has run, or there is none.
    rows_count: bool,
    exploded: bool,
    dead_letters: Vec<DeadLetter>,
    ledger: Ledger,
    counters: Vec<(String, String, u64)>,
}

impl RowTracker {
    fn open(records: usize, rows_count: bool) -> RowTracker {
        let mut ledger = Ledger::default();
        ledger.records.read = records as u64;
        if rows_count {
            ledger.rows.made = records as u64;
        }
        RowTracker {
            record: (0..records as u32).collect(),
            piece: vec![0; records],
            rows_count,
            exploded: false,
            dead_letters: Vec::new(),
            ledger,
            counters: Vec::new(),
        }
    }

    /// A transform that makes at most one row of each input row.
    fn pass(&mut self, output: &Output, rows: usize, by: &Arc<Identity>) -> Result<()> {
        let refused = group(&output.rejects, rows)?;
        for ((row, part), reasons) in &refused {
            if part.is_some_and(|p| p > 0) {
                return Err(broken(
                    by,
                    format!("part {part:?} of row {row} refused, but it does not explode"),
                ));
            }
            let piece = self.exploded.then(|| self.piece[*row as usize]);
            self.letter(self.record[*row as usize], piece, by, reasons);
        }
        let origin = match &output.rows {
            RowMap::Every if output.table.rows == rows => None,
            RowMap::Every => return Err(broken(by, "every row claimed, another number given")),
            RowMap::Origin(origin) => Some(checked(origin, output.table.rows, rows, by)?),
        };
        let refused = refused
            .keys()
            .map(|(row, _)| row)
            .collect::<std::collections::BTreeSet<_>>();
        if self.rows_count {
            let gone = (rows - output.table.rows) as u64;
            let refused = refused.len() as u64;
            self.ledger.rows.refused += refused;
            self.ledger.rows.filtered += gone
                .checked_sub(refused)
                .ok_or_else(|| broken(by, "a row was both refused and given on"))?;
        }
        if let Some(origin) = origin {
            self.record = origin.iter().map(|i| self.record[*i as usize]).collect();
            self.piece = origin.iter().map(|i| self.piece[*i as usize]).collect();
        }
        Ok(())
    }

    /// Numbers the pieces of each record: refused pieces keep their numbers, the others get the remaining ones in
    /// order.
    fn explode(&mut self, output: &Output, by: &Arc<Identity>) -> Result<()> {
        let rows = self.record.len();
        let every: Vec<u32>;
        let origin = match &output.rows {
            RowMap::Every => {
                every = (0..rows as u32).collect();
                checked(&every, output.table.rows, rows, by)?
            }
            RowMap::Origin(origin) => checked(origin, output.table.rows, rows, by)?,
        };
        let refused = group(&output.rejects, rows)?;
        let mut record = Vec::with_capacity(origin.len());
        let mut piece = Vec::with_capacity(origin.len());
        let mut next = 0;
        for (at, row) in origin.iter().enumerate() {
            if at == 0 || origin[at - 1] != *row {
                next = 0;
            }
            while refused.contains_key(&(*row, Some(next))) {
                next += 1;
            }
            record.push(self.record[*row as usize]);
            piece.push(next);
            next += 1;
        }
        for ((row, part), reasons) in &refused {
            if part.is_some() {
                self.ledger.rows.made += 1;
                self.ledger.rows.refused += 1;
            }
            self.letter(self.record[*row as usize], *part, by, reasons);
        }
        self.ledger.rows.made += origin.len() as u64;
        (self.record, self.piece) = (record, piece);
        (self.rows_count, self.exploded) = (true, true);
        Ok(())
    }

    fn letter(&mut self, record: u32, piece: Option<u32>, by: &Arc<Identity>, reasons: &[&Reject]) {
        let reasons = reasons.iter().map(|r| Reason {
            code: r.code.clone(),
            field: r.field.clone(),
            message: r.message.clone(),
        });
        self.dead_letters.push(DeadLetter {
            record,
            piece,
            by: by.clone(),
            reasons: reasons.collect(),
        });
    }

    fn close(mut self, table: Table) -> Applied {
        self.dead_letters.sort_by_key(|l| (l.record, l.piece));
        self.ledger.rows.written = table.rows as u64;
        self.ledger.dead_letters = self.dead_letters.len() as u64;
        if table.rows == 0 {
            self.record.clear();
            self.piece.clear();
        }
        Applied {
            table,
            record: self.record,
            piece: self.piece,
            dead_letters: self.dead_letters,
            ledger: self.ledger,
            counters: self.counters,
            rules: "".into(),
        }
    }
}

type Refused<'a> = BTreeMap<(u32, Option<u32>), Vec<&'a Reject>>;

/// Groups all reasons of one row or piece. The refusal of a whole row does not hide those of its pieces.
fn group(rejects: &[Reject], rows: usize) -> Result<Refused<'_>> {
    let mut refused = Refused::new();
    for reject in rejects {
        if reject.row as usize >= rows {
            return Err(
                Error::new(Kind::PluginBroken, OP, "a refused row is not in the batch")
                    .with("row", reject.row),
            );
        }
        refused
            .entry((reject.row, reject.part))
            .or_default()
            .push(reject);
    }
    Ok(refused)
}

fn checked<'a>(origin: &'a [u32], given: usize, rows: usize, by: &Identity) -> Result<&'a [u32]> {
    let in_range = origin.last().is_none_or(|last| (*last as usize) < rows);
    if origin.len() == given && in_range && origin.is_sorted() {
        Ok(origin)
    } else {
        Err(broken(by, "its row map does not fit its rows"))
    }
}

fn broken(by: &Identity, message: impl Into<String>) -> Error {
    Error::new(Kind::PluginBroken, OP, message)
        .with("transform", &by.transform)
        .with("plugin", format!("{}@{}", by.plugin, by.version))
        .with("digest", &by.digest)
}

/// Counts how records ended. `record` and `dead_letters` are both sorted by record.
pub(super) fn count_records(applied: &mut Applied) {
    let mut with_rows = 0;
    let mut previous = None;
    for record in &applied.record {
        if previous != Some(*record) {
            with_rows += 1;
            previous = Some(*record);
        }
    }
    let mut refused = 0;
    let mut in_part = 0;
    for letters in applied.dead_letters.chunk_by(|a, b| a.record == b.record) {
        let record = letters[0].record;
        refused += u64::from(applied.record.binary_search(&record).is_err());
        in_part += u64::from(letters.iter().any(|l| l.piece.is_some()));
    }
    let records = &mut applied.ledger.records;
    records.with_rows = with_rows;
    records.refused = refused;
    records.filtered = records.read - with_rows - refused;
    records.refused_in_part = in_part;
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
