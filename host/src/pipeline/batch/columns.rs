//! Which columns a batch writes: those that its zone has, then further ones of the rows. The config decides what
//! happens when a type has changed.

use std::collections::BTreeMap;

use arrow_schema::{Field, Schema};

use super::{Batches, InputZone, rows_files};
use crate::commit::{PlanRange, State};
use crate::error::{Kind, Result};
use crate::record::{SplitId, fold};
use crate::zone::{Fitting, SplitRange, overlapping, schemas};

type PlanRanges = BTreeMap<SplitId, PlanRange>;

impl Batches<'_> {
    /// Checks before anything is planned that the columns of the next rows fit this zone.
    pub(super) fn columns_fit(&self, input: &InputZone, ranges: &PlanRanges) -> Result<()> {
        let ranges = split_ranges(input.log.state(), ranges);
        match self.fitting(input, &ranges) {
            Ok(fitting) => self.open_batch(fitting.schema()).map(drop),
            // A rewind has just removed a file; the plan will notice it.
            Err(error) if error.kind() == Kind::LogCorrupt => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How the columns of these rows are turned into those of this pipeline's zone.
    pub(super) fn fitting(&self, input: &InputZone, ranges: &[SplitRange]) -> Result<Fitting> {
        let zone = self.zone;
        let on = self.source.on_type_change;
        let mut keys = vec![zone.partition_field.clone()];
        keys.extend(zone.dedup_key.iter().chain(&zone.sort).cloned());
        let files = rows_files(input.log.state(), &self.source.table);
        let read = schemas(&input.store, input.log.name(), &overlapping(&files, ranges))?;
        Fitting::new(&self.own_columns()?, &read, on, &keys)
    }

    /// The columns of the live files; if they differ, the newest file with a column decides its type.
    fn own_columns(&self) -> Result<Schema> {
        let mut files = rows_files(self.log.state(), &self.table);
        files.reverse();
        let mut fields: Vec<Field> = Vec::new();
        for (_, schema) in schemas(&self.store, self.log.name(), &files)? {
            for field in schema.fields() {
                let mut known = fields.iter();
                if !known.any(|known| fold(known.name()) == fold(field.name())) {
                    fields.push(field.as_ref().clone());
                }
            }
        }
        Ok(Schema::new(fields))
    }
}

/// A plan's ranges in the zone that is read, as far as the zone still has them.
pub fn split_ranges(state: &State, ranges: &PlanRanges) -> Vec<SplitRange> {
    let known = ranges
        .iter()
        .filter_map(|(id, range)| Some((id, range, state.splits.get(id)?)));
    let of = |(id, range, split): (&SplitId, &PlanRange, &crate::commit::SplitState)| SplitRange {
        split: id.clone(),
        topic: split.topic.as_str().into(),
        partition: split.partition,
        from: range.from,
        to: range.to,
    };
    known.map(of).collect()
}
