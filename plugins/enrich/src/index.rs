//! The index of a table's keys: from the bytes of a key to the row that has it. The same table gives the same index.
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use weir_sdk::{Type, Value};

/// Any number would do; a fixed one makes equal tables equal.
const SEED: u64 = 0x77_65_69_72;

/// Keys lie one behind the other in `bytes`, that of row n before `ends[n]`; a row that cannot be found has none.
#[derive(Debug)]
pub struct Index {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    found: HashTable<u32>,
    hasher: FixedState,
}

impl Index {
    /// Room for so many keys of so many bytes: growing by doubling would need the memory twice.
    pub fn with_capacity(keys: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(keys),
            found: HashTable::with_capacity(keys),
            hasher: FixedState::with_seed(SEED),
        }
    }

    /// The table's row with this key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<u32> {
        let same = |row: &u32| span_of(&self.bytes, &self.ends, *row) == key;
        self.found.find(self.hasher.hash_one(key), same).copied()
    }

    /// The key of the next row of the table, or the earlier row that has it already.
    pub fn insert(&mut self, key: &[u8]) -> Result<(), u32> {
        if let Some(earlier) = self.get(key) {
            self.skip();
            return Err(earlier);
        }
        let row = self.ends.len() as u32;
        self.bytes.extend_from_slice(key);
        self.skip();
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.found
            .insert_unique(self.hasher.hash_one(key), row, |row| {
                hasher.hash_one(span_of(bytes, ends, *row))
            });
        Ok(())
    }

    /// The next row of the table cannot be found.
    pub fn skip(&mut self) {
        self.ends.push(self.bytes.len() as u32); // a guest has far less than 4 GiB
    }
}

fn span_of<'a>(bytes: &'a [u8], ends: &[u32], row: u32) -> &'a [u8] {
    let row = row as usize;
    let from = if row == 0 { 0 } else { ends[row - 1] };
    &bytes[from as usize..ends[row] as usize]
}

/// What may be a key: equal values have equal bytes, so no floating point.
pub fn can_be_key(kind: &Type) -> bool {
    !matches!(kind, Type::Double)
}

/// Whether a table's column of type `table` can match a row's column of type `row`: the table's values are read as the
/// row's type once, when the pipeline starts.
pub fn meets(table: &Type, row: &Type) -> bool {
    let whole = |kind: &Type| matches!(kind, Type::Int | Type::Long);
    let number = |kind: &Type| whole(kind) || matches!(kind, Type::Decimal(..));
    table.format() == row.format()
        || *table == Type::Text
        || *row == Type::Text
        || whole(table) && whole(row)
        || number(table) && matches!(row, Type::Decimal(..))
}

/// One column's part of a key. `last`: nothing follows, so a text needs no length before it.
#[inline]
pub fn encode(value: Value<'_>, fold: bool, last: bool, key: &mut Vec<u8>) {
    match value {
        Value::Text(text) if fold && !text.is_ascii() => {
            span(text.to_lowercase().as_bytes(), last, key);
        }
        Value::Text(text) => {
            let from = span(text.as_bytes(), last, key);
            if fold {
                key[from..].make_ascii_lowercase();
            }
        }
        Value::Int(v) | Value::Date(v) => key.extend_from_slice(&i64::from(v).to_le_bytes()),
        Value::Long(v) | Value::Timestamp(v) => key.extend_from_slice(&v.to_le_bytes()),
        Value::Decimal(v) => key.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => key.push(u8::from(v)),
        Value::Double(v) => key.extend_from_slice(&v.to_bits().to_le_bytes()),
    }
}

fn span(text: &[u8], last: bool, key: &mut Vec<u8>) -> usize {
    if !last {
        key.extend_from_slice(&(text.len() as u32).to_le_bytes());
    }
    key.extend_from_slice(text);
    key.len() - text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_and_a_second_one_names_the_first() {
        let mut index = Index::with_capacity(10, 0);
        for row in 0..1000u32 {
            assert_eq!(index.insert(&row.to_le_bytes()), Ok(()));
        }
        index.skip();
        assert_eq!(index.insert(&7u32.to_le_bytes()), Err(7));
        assert_eq!(index.insert(&1002u32.to_le_bytes()), Ok(()));
        for row in (0..1000u32).chain([1002]) {
            assert_eq!(index.get(&row.to_le_bytes()), Some(row));
        }
        assert_eq!(index.get(&1000u32.to_le_bytes()), None);
        assert_eq!(index.get(b""), None);
    }

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        let key = |a: &str, b: &str| {
            let mut key = Vec::new();
            encode(Value::Text(a), false, false, &mut key);
            encode(Value::Text(b), false, true, &mut key);
            key
        };
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_eq!(key("a", "b"), key("a", "b"));
    }

    #[test]
    fn case_is_folded_beyond_ascii() {
        let key = |text: &str| {
            let mut key = Vec::new();
            encode(Value::Text(text), true, false, &mut key);
            key
        };
        assert_eq!(key("ÄRGER"), key("ärger"));
        assert_eq!(key("DE"), key("de"));
    }
}
