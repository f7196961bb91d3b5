//! `sink.columns.<column>.*`: how single columns are written.

use std::collections::BTreeMap;

use crate::config::raw::Entry;
use crate::config::shape::unit::int;
use crate::config::shape::{Shape, Value};
use crate::config::{Bloom, Checker, ColumnFormat, problem, show_bytes};
use crate::nearest::nearest;
use crate::zone::bloom_bytes;

pub(super) const PREFIX: &str = "sink.columns.";

/// Of a hundred values that are not in a row group, one seems to be.
const FALSE_POSITIVES: u32 = 10_000;
/// Distinct values of a row group: 128 KiB for each column at a false positive rate of 1 %.
const VALUES: u64 = 100_000;
const VALUES_MAX: u64 = 100_000_000;

const OPTIONS: [(&str, Shape); 4] = [
    ("compression", Shape::Compression),
    ("bloom", Shape::Flag),
    ("fpp", Shape::Share),
    ("ndv", int(1, VALUES_MAX)),
];

/// The column and the option. A column's name may have dots, an option has none.
fn parts(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
        .filter(|(column, _)| !column.is_empty())
}

fn shape(option: &str) -> Option<Shape> {
    let mut options = OPTIONS.iter();
    options
        .find(|(name, _)| *name == option)
        .map(|(_, shape)| *shape)
}

pub(super) fn check(checker: &mut Checker<'_>, key: &str, name: &str, entry: &Entry) {
    let known = parts(name).and_then(|(_, option)| Some((option, shape(option)?)));
    let Some((_, shape)) = known else {
        let option = parts(name).map_or(name, |(_, option)| option);
        let near = nearest(option, OPTIONS.iter().map(|(name, _)| *name));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write sink.columns.<column>.compression, .bloom, .fpp or .ndv".to_owned(),
        };
        let message = format!("there is no key `{key}`");
        checker.problem(key, problem::UNKNOWN_KEY, message).hint = Some(hint);
        return;
    };
    let text = match entry.value.resolve() {
        Ok(text) => text,
        Err(error) => {
            let message = format!("`{key}`: {}", error.message());
            let hint = error.hint_text().map(str::to_owned);
            checker.problem(key, problem::UNRESOLVED, message).hint = hint;
            return;
        }
    };
    if let Err(refusal) = shape.parse(&text) {
        let found = entry.value.to_string();
        let message = format!("`{key}`: expected {}, found `{found}`", refusal.expected);
        checker.problem(key, refusal.code, message).hint = refusal.hint;
    }
}

/// The values that were typed for one column.
#[derive(Default)]
struct Typed {
    compression: Option<Value>,
    bloom: bool,
    fpp: Option<u32>,
    ndv: Option<u64>,
}

fn typed(checker: &Checker<'_>) -> BTreeMap<String, Typed> {
    let mut columns: BTreeMap<String, Typed> = BTreeMap::new();
    for (key, entry) in checker.raw.iter() {
        let of = key.strip_prefix(PREFIX).and_then(parts);
        let Some((column, option)) = of else { continue };
        let text = entry.value.resolve().ok();
        let value = text.and_then(|text| shape(option)?.parse(&text).ok());
        let typed = columns.entry(column.to_owned()).or_default();
        match value {
            Some(Value::Flag(flag)) => typed.bloom = flag,
            Some(Value::Share(share)) => typed.fpp = Some(share),
            Some(Value::Number(n)) => typed.ndv = Some(n),
            compression => typed.compression = compression,
        }
    }
    columns
}

/// Of keys without problems.
pub(super) fn formats(checker: &Checker<'_>) -> BTreeMap<String, ColumnFormat> {
    let typed = typed(checker).into_iter();
    typed
        .map(|(column, typed)| {
            let format = ColumnFormat {
                compression: match typed.compression {
                    Some(Value::Compression(compression)) => Some(compression),
                    _ => None,
                },
                bloom: typed.bloom.then_some(Bloom {
                    false_positives: typed.fpp.unwrap_or(FALSE_POSITIVES),
                    values: typed.ndv.unwrap_or(VALUES),
                }),
            };
            (column, format)
        })
        .collect()
}

/// Keys against each other, and filters against the memory of a task.
pub(super) fn together(checker: &mut Checker<'_>) {
    let mut bytes = 0;
    for (column, typed) in typed(checker) {
        let sizes = [("fpp", typed.fpp.is_some()), ("ndv", typed.ndv.is_some())];
        for (option, _) in sizes.iter().filter(|(_, given)| *given && !typed.bloom) {
            let key = format!("{PREFIX}{column}.{option}");
            let message = format!("`{key}` is of a bloom filter, and the column has none");
            let hint = format!("write {PREFIX}{column}.bloom = true, or take the key out");
            checker.contradiction(&key, message, &hint);
        }
        if typed.bloom {
            bytes += bloom_bytes(Bloom {
                false_positives: typed.fpp.unwrap_or(FALSE_POSITIVES),
                values: typed.ndv.unwrap_or(VALUES),
            });
        }
    }
    let (tasks, budget) = (checker.number("tasks.max"), checker.number("memory.budget"));
    let (Some(tasks), Some(budget)) = (tasks, budget) else {
        return;
    };
    // The same amount stays for the rows themselves.
    if bytes > budget / tasks.max(1) / 2 {
        let message = format!(
            "`memory.budget` of {} for {tasks} tasks does not hold the bloom filters of an open file, {}, twice in each task",
            show_bytes(budget),
            show_bytes(bytes)
        );
        let hint = "lower sink.columns.<column>.ndv, or tasks.max, or raise memory.budget";
        checker.contradiction("memory.budget", message, hint);
    }
}
