//! Rows that a sink cannot take although the rules made them: `errors.tolerance` and `errors.unit` hold for them too.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::chain::{Applied, Identity, Reason};
use crate::config::{ErrorsConfig, Tolerance, Unit};
use crate::error::{Error, Kind, Result};
use crate::record::Batch;

/// How a sink refuses rows, the same for all of them.
#[derive(Clone, Debug)]
pub struct Refusing {
    unit: Unit,
    /// `errors.tolerance = none`: a refused row stops the pipeline.
    pub none: bool,
    /// The identity that dead letters name as the one that refused.
    pub by: Arc<Identity>,
}

impl Refusing {
    /// `sink`: its name in `sink.type`.
    pub fn new(errors: &ErrorsConfig, sink: &str) -> Refusing {
        Refusing {
            unit: errors.unit,
            none: errors.tolerance == Tolerance::None,
            by: Arc::new(Identity {
                transform: "sink".to_owned(),
                plugin: sink.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                digest: String::new(),
                config_digest: String::new(),
            }),
        }
    }

    /// Makes dead letters of these rows (index and reason, ascending), or of their records. Returns the rows that `applied`
    /// has no more, by their index before.
    pub fn refuse(
        &self,
        batch: &Batch,
        applied: &mut Applied,
        rows: Vec<(usize, Reason)>,
    ) -> Result<BTreeSet<usize>> {
        let Some((first, reason)) = rows.first() else {
            return Ok(BTreeSet::new());
        };
        if self.none {
            let record = applied.record.get(*first).map_or(0, |at| *at as usize);
            let at = format!("{}@{}", batch.covers.tp, batch.offset.value(record));
            let message = "a row cannot be sent, and errors.tolerance is none";
            return Err(Error::new(Kind::RecordRefused, "sink.rows", message)
                .with("at", at)
                .with("code", &reason.code)
                .with("reason", &reason.message)
                .hint("errors.tolerance = \"all\" sends refused records to the dead letters"));
        }
        let pairs = |applied: &Applied| -> Vec<(u32, u32)> {
            let pairs = applied.record.iter().zip(&applied.piece);
            pairs.map(|(record, piece)| (*record, *piece)).collect()
        };
        let before = pairs(applied);
        applied.refuse_rows(rows, &self.by)?;
        if self.unit == Unit::Record {
            applied.refuse_their_records()?;
        }
        // More than those rows may be gone: all of a record. What stays is in order.
        let mut stays = pairs(applied).into_iter().peekable();
        let gone = |(row, pair): (usize, (u32, u32))| match stays.next_if_eq(&pair) {
            Some(_) => None,
            None => Some(row),
        };
        Ok(before.into_iter().enumerate().filter_map(gone).collect())
    }
}
