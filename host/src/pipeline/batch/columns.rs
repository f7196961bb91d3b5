//! Which columns a batch writes: those that its zone has, then further ones of the rows. The config decides what
//! happens when a type has changed.

use std::collections::BTreeMap;

use arrow_schema::{Field, Schema};

use super::through::{self, Through};
use super::{Batches, Built, InputZone, rows_files};
use crate::commit::{PlanRange, Rule, State};
use crate::error::{Kind, Result};
use crate::pipeline::rules::Parts;
use crate::record::{SplitId, fold};
use crate::zone::{Fitting, SplitRange, overlapping, schemas};

type PlanRanges = BTreeMap<SplitId, PlanRange>;

impl Batches<'_> {
    /// Checks before anything is planned that the next rows have the columns that the rules need, and that what these make of them
    /// fits this zone.
    pub(super) fn columns_fit(
        &mut self,
        input: &InputZone,
        ranges: &PlanRanges,
        rules: &[Rule],
    ) -> Result<()> {
        let ranges = split_ranges(input.log.state(), ranges);
        match self.course(input, &ranges, rules) {
            Ok((fitting, None)) => self.options()?.check(fitting.schema()),
            Ok((_, Some(through))) => {
                let columns = through.columns();
                self.keep_built(through, rules);
                self.options()?.check(&columns)
            }
            // A rewind has just removed a file; the plan will notice it.
            Err(error) if error.kind() == Kind::LogCorrupt => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// In which columns these rows are read, and what then makes those of this pipeline's zone of them.
    pub(super) fn course(
        &mut self,
        input: &InputZone,
        ranges: &[SplitRange],
        rules: &[Rule],
    ) -> Result<(Fitting, Option<Through>)> {
        let (on, keys) = (self.source.on_type_change, self.keys());
        let files = rows_files(input.log.state(), &self.source.table);
        let read = schemas(&input.store, input.log.name(), &overlapping(&files, ranges))?;
        if rules.is_empty() {
            return Ok((Fitting::new(&self.own_columns()?, &read, on, &keys)?, None));
        }
        let reading = Fitting::new(&Schema::empty(), &read, on, &[])?;
        if read.is_empty() {
            return Ok((reading, None));
        }
        let built = match self.built.take() {
            Some(built) if built.rules == rules && built.input == *reading.schema() => built,
            _ => {
                // Kept for what `execute` does with the error.
                self.built_here = false;
                let parts = Parts::in_force(&self.host.plugins, rules)?;
                let chain = parts.chain_on(self.config, reading.schema())?;
                self.built_here = true;
                Built {
                    rules: rules.to_vec(),
                    input: reading.schema().clone(),
                    chain,
                }
            }
        };
        let made = through::columns(&built.chain, reading.schema());
        let own = Fitting::of_made(&self.own_columns()?, &made, on, &keys)?;
        let letters = self.letters()?;
        Ok((
            reading,
            Some(Through::new(self.config, built, own, letters)),
        ))
    }

    fn keys(&self) -> Vec<String> {
        let zone = self.zone;
        let mut keys = vec![zone.partition_field.clone()];
        let sort = zone.sort.iter().map(|by| &by.column);
        keys.extend(zone.dedup_key.iter().chain(sort).cloned());
        keys
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
