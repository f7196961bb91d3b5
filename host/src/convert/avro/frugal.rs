//! A few bytes of a value never stand for much memory. What is null has its whole width in a column, and what is missing its default.

use serde_json::Value;

use super::expand::kind;
use super::resolve::{by_name, fields, found, only};

/// Bytes of a row whose values are all null or missing: 8000 numbers that may be null.
const EMPTY_ROW_MAX: u64 = 64 << 10;
/// The same of an item of a list or a map, for each byte that it has in a value at least: a message of 1 MiB has up to a million items.
/// A field that is written has one byte, and up to 16 in memory; what needs this limit is what one byte leaves out as a whole, or
/// what the writer does not know.
const EMPTY_ITEM_MAX: u64 = 1 << 10;

/// Refuses a schema whose rows take much memory where a value has few bytes. Expanded.
pub fn rows(wanted: &Value) -> Result<(), String> {
    match empty(None, wanted, false) {
        0..=EMPTY_ROW_MAX => Ok(()),
        row => Err(format!(
            "a row of nulls and defaults takes {row} bytes, and at most {EMPTY_ROW_MAX} are allowed"
        )),
    }
}

/// The same for the items of lists and maps, as they are written by the one schema and read as the other.
pub fn items(written: &Value, wanted: &Value) -> Result<(), String> {
    match (written, wanted) {
        (_, Value::Array(branches)) => match only(branches) {
            Some(one) => items(written, one),
            // It is no column.
            None => Ok(()),
        },
        (Value::Array(branches), _) => {
            let mut same = branches.iter().filter(|one| kind(one) == kind(wanted));
            same.try_for_each(|one| items(one, wanted))
        }
        _ => match (kind(written), kind(wanted)) {
            ("record" | "error", "record" | "error") => {
                let known = by_name(written);
                for field in fields(wanted) {
                    let from = found(&known, field).and_then(|from| from.get("type"));
                    if let (Some(from), Some(to)) = (from, field.get("type")) {
                        items(from, to)?;
                    }
                }
                Ok(())
            }
            ("array", "array") => of_a_list(written, wanted, "items", 0),
            // Its key has a byte at least.
            ("map", "map") => of_a_list(written, wanted, "values", 1),
            _ => Ok(()),
        },
    }
}

fn of_a_list(written: &Value, wanted: &Value, key: &str, more: u64) -> Result<(), String> {
    let (Some(written), Some(wanted)) = (written.get(key), wanted.get(key)) else {
        return Ok(());
    };
    let taken = empty(Some(written), wanted, false);
    let bytes = fewest(written).saturating_add(more).max(1);
    match taken > EMPTY_ITEM_MAX.saturating_mul(bytes) {
        true => Err(format!(
            "an item of a list or a map takes {taken} bytes where it is null or has defaults, and at most {EMPTY_ITEM_MAX} are allowed for each byte of it in a message, which may be {bytes}"
        )),
        false => items(written, wanted),
    }
}

/// Bytes in memory of a value that has next to none itself. `null`: it is null. What lists hold is not counted. `written`: what is
/// written of it; a field that is no part of it has its default.
fn empty(written: Option<&Value>, wanted: &Value, null: bool) -> u64 {
    let width = match (wanted, kind(wanted)) {
        (Value::Array(branches), _) => {
            let all = branches
                .iter()
                .map(|one| empty(branch(written, one), one, true));
            return all.fold(0, u64::saturating_add);
        }
        (_, "record" | "error") => {
            let known = branch(written, wanted).map(by_name);
            let all = fields(wanted).iter().map(|field| {
                let of = field.get("type").unwrap_or(&Value::Null);
                let from = known
                    .as_ref()
                    .and_then(|known| found(known, field)?.get("type"));
                match field.get("default").filter(|_| from.is_none()) {
                    Some(default) => empty(None, of, true).max(length(default)),
                    None => empty(from, of, null),
                }
            });
            return all.fold(0, u64::saturating_add);
        }
        (_, "fixed") => size(wanted).max(16),
        (_, "null") => 0,
        (_, "boolean") => 1,
        (_, "int" | "float" | "enum" | "array" | "map") => 4,
        (_, "long" | "double") => 8,
        _ => match wanted.get("logicalType").and_then(Value::as_str) {
            Some("decimal" | "uuid") => 16,
            _ => 4,
        },
    };
    match null {
        true => width,
        false => 0,
    }
}

/// What is written as this type.
fn branch<'a>(written: Option<&'a Value>, wanted: &Value) -> Option<&'a Value> {
    match written? {
        Value::Array(branches) => branches.iter().find(|one| kind(one) == kind(wanted)),
        one => Some(one),
    }
}

/// Bytes of the shortest value.
fn fewest(written: &Value) -> u64 {
    match (written, kind(written)) {
        (Value::Array(branches), _) => {
            let least = branches.iter().map(fewest).min();
            least.unwrap_or(0).saturating_add(1)
        }
        (_, "record" | "error") => {
            let all = fields(written).iter();
            let all = all.map(|field| field.get("type").map_or(0, fewest));
            all.fold(0, u64::saturating_add)
        }
        (_, "fixed") => size(written),
        (_, "null") => 0,
        (_, "float") => 4,
        (_, "double") => 8,
        _ => 1,
    }
}

fn size(fixed: &Value) -> u64 {
    fixed.get("size").and_then(Value::as_u64).unwrap_or(0)
}

fn length(default: &Value) -> u64 {
    let length = match default {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    };
    length as u64
}
