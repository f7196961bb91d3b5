//! The two ledgers that close at every commit (V7 of docs/protocol.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Records: `read = with_rows + refused + filtered`; of the first two, `refused_in_part` had some pieces refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Records {
    pub read: u64,
    pub with_rows: u64,
    pub refused: u64,
    pub filtered: u64,
    pub refused_in_part: u64,
}

impl Records {
    /// Refused, whole or in part: so many at least. A record of which every piece was refused is in both numbers.
    pub fn refused_at_least(&self) -> u64 {
        self.refused.max(self.refused_in_part)
    }
}

/// Rows: `made = written + refused + filtered + duplicates + late`; `late` is 0 until event time exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Rows {
    pub made: u64,
    pub written: u64,
    pub refused: u64,
    pub filtered: u64,
    pub duplicates: u64,
    pub late: u64,
}

/// Both ledgers, and the number of dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub records: Records,
    pub rows: Rows,
    /// Rows of the dead-letter table: whole records and single pieces.
    pub dead_letters: u64,
}

impl Ledger {
    pub fn closes(&self) -> bool {
        let Ledger { records, rows, .. } = self;
        records.read == records.with_rows + records.refused + records.filtered
            && records.refused_in_part <= records.with_rows + records.refused
            && rows.made
                == rows.written + rows.refused + rows.filtered + rows.duplicates + rows.late
    }

    pub fn add(&mut self, other: &Ledger) {
        self.each(other, |a, b| *a += b);
    }

    /// What was added since `earlier`, an earlier state of the same sums.
    pub fn since(&self, earlier: &Ledger) -> Ledger {
        let mut since = *self;
        since.each(earlier, |a, b| *a = a.saturating_sub(b));
        since
    }

    fn each(&mut self, other: &Ledger, with: impl Fn(&mut u64, u64)) {
        let (a, b) = (&mut self.records, &other.records);
        with(&mut a.read, b.read);
        with(&mut a.with_rows, b.with_rows);
        with(&mut a.refused, b.refused);
        with(&mut a.filtered, b.filtered);
        with(&mut a.refused_in_part, b.refused_in_part);
        let (a, b) = (&mut self.rows, &other.rows);
        with(&mut a.made, b.made);
        with(&mut a.written, b.written);
        with(&mut a.refused, b.refused);
        with(&mut a.filtered, b.filtered);
        with(&mut a.duplicates, b.duplicates);
        with(&mut a.late, b.late);
        with(&mut self.dead_letters, other.dead_letters);
    }
}
