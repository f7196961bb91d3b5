//! A table of PROCESSED that is there, beside the layout that a config asks for now. Rows of the two would not be found
//! as duplicates of each other, and engines refuse directories of two names side by side.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::keys::{KeyScheme, KeyStream};
use super::processed::ProcessedOptions;
use super::read::Located;
use crate::commit::{AddedFile, Role};
use crate::error::{Error, Kind, Result};
use crate::finding::{Finding, Verdict};
use crate::store::Store;

/// The keys that a finding is about.
pub const PARTITION: &str = "sink.partition";
pub const DEDUP: &str = "sink.dedup.key";

/// What can be done about a layout that does not fit.
const WAY: &str = "set it back; or write to a new zone; or take back all rows with `weir pipeline rewind` (docs/change-a-pipeline.md)";

/// One finding for the partitions and one for the dedup key. `live`: the files of the zone.
///
/// # Errors
/// Those of the store, and of a key file that is damaged.
pub fn layout_of(
    live: &[&AddedFile],
    store: &Arc<dyn Store>,
    wanted: &ProcessedOptions,
) -> Result<Vec<Finding>> {
    let prefix = format!("{}/", wanted.table);
    let is_row = |file: &&AddedFile| file.role == Role::Rows && file.path.starts_with(&prefix);
    let rows: Vec<&AddedFile> = live.iter().copied().filter(is_row).collect();
    Ok(vec![
        partitions(&rows, wanted),
        dedup(&rows, live, store, wanted)?,
    ])
}

fn partitions(rows: &[&AddedFile], wanted: &ProcessedOptions) -> Finding {
    let pass = |says: String| Finding::pass(PARTITION, None, says);
    let Some(by) = &wanted.partition else {
        return pass("no partitions".to_owned());
    };
    let other = rows.iter().find(|file| {
        let values = &file.partition_values;
        let value = values.get(&by.name);
        values.len() != 1 || value.is_none_or(|value| by.value(by.period(value)) != *value)
    });
    match other {
        Some(file) => {
            let named = file.partition_values.iter();
            let there: Vec<String> = named.map(|(name, v)| format!("{name}={v}")).collect();
            let says = format!(
                "the table has files in `{}/`, which `{}` with this format does not make",
                there.join("/"),
                by.name
            );
            Finding::fail(PARTITION, None, says, WAY)
        }
        None => {
            let values = rows.iter().flat_map(|file| file.partition_values.values());
            let values: BTreeSet<&String> = values.collect();
            pass(format!("`{}`, {} of it so far", by.name, values.len()))
        }
    }
}

fn dedup(
    rows: &[&AddedFile],
    live: &[&AddedFile],
    store: &Arc<dyn Store>,
    wanted: &ProcessedOptions,
) -> Result<Finding> {
    let keyed = rows.iter().any(|file| file.keys.is_some());
    let columns = wanted.dedup.join(",");
    if columns.is_empty() {
        return Ok(match keyed {
            false => Finding::pass(DEDUP, None, "none"),
            true => Finding::warn(
                DEDUP,
                None,
                "the table was deduplicated; what is written from now on is not",
                "once there are such files the key cannot be set again on this table: set it now, or keep it away for good",
            ),
        });
    }
    if let Some(file) = rows.iter().find(|file| file.keys.is_none()) {
        let says = format!(
            "the table has files without keys, such as {}: they were written without deduplication",
            file.path
        );
        return Ok(Finding::fail(DEDUP, None, says, WAY));
    }
    // One is enough: a file with other keys would have been refused here.
    let ids: BTreeSet<&str> = rows
        .iter()
        .filter_map(|file| file.keys.as_deref())
        .collect();
    let of_table = live.iter().filter(|file| ids.contains(file.id.as_str()));
    let Some(smallest) = of_table.min_by_key(|file| file.bytes) else {
        return Ok(Finding::pass(DEDUP, None, format!("`{columns}`")));
    };
    let located = Located::find(store, &wanted.name, smallest)?;
    match KeyStream::open(located, smallest, &KeyScheme::new(&wanted.dedup)) {
        Ok(_) => Ok(Finding::pass(
            DEDUP,
            None,
            format!("`{columns}`, as in the table"),
        )),
        Err(error) if error.kind() == Kind::ConfigInvalid => {
            Ok(Finding::fail(DEDUP, None, error.message(), WAY))
        }
        Err(error) => Err(error),
    }
}

/// The findings that forbid a start, as one error.
pub fn refusal(findings: &[Finding]) -> Option<Error> {
    let fails = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail);
    let says: Vec<String> = fails
        .map(|finding| {
            format!(
                "`{}.*`: {}",
                finding.look.trim_end_matches(".key"),
                finding.says
            )
        })
        .collect();
    (!says.is_empty()).then(|| {
        let message = format!(
            "the config does not fit the table that is there: {}",
            says.join("; ")
        );
        Error::new(Kind::ConfigInvalid, "zone.existing", message).hint(WAY)
    })
}
