//! Writes the remaining rows of a file of which other rows are taken back: rows of some of its splits, in a new file of
//! the same partition.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use super::file::{Birth, Plain, RowsFile};
use super::read::{SplitRange, read_file};
use super::{ParquetOptions, layout::Partition};
use crate::chain::Column;
use crate::commit::{AddedFile, LogName, Straddling, new_file_id};
use crate::error::{Error, Kind, Result};
use crate::record::{OFFSET, PARTITION, TOPIC};
use crate::sink::Finish as _;
use crate::store::Store;

const OP: &str = "zone.rest";

/// The file is sealed when this returns. `coordinates` say how rows of each split are recognised.
pub fn write_rest(
    store: &Arc<dyn Store>,
    name: &LogName,
    straddling: &Straddling,
    coordinates: &[SplitRange],
    parquet: &ParquetOptions,
) -> Result<AddedFile> {
    let Straddling { file, rest } = straddling;
    let wrong = |message: &str| {
        Error::new(Kind::LogCorrupt, OP, message)
            .with("file", &file.path)
            .hint("`weir log --verify` lists every problem")
    };
    let wanted: Vec<&SplitRange> = coordinates
        .iter()
        .filter(|c| rest.iter().any(|r| r.split == c.split))
        .collect();
    let rows = read_file(store, name, file)?;
    let id = new_file_id();
    let (dir, was) = file.path.rsplit_once('/').unwrap_or_default();
    // A bucketed file stays in its bucket.
    let tail = was.split_once('.').map_or("parquet", |(_, tail)| tail);
    let birth = Birth {
        place: name.place(&id, &format!("{dir}/{id}.{tail}")),
        role: file.role,
        partition: file
            .partition_values
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Partition>(),
        pipeline: name.pipeline.clone(),
    };
    let schema = rows.schema().clone();
    let mut out = RowsFile::create(store, birth, &schema, parquet, Plain::new())?;
    for batch in rows {
        let batch = batch?;
        let mask = mask(&batch, &wanted, &mut out)
            .ok_or_else(|| wrong("a file without the columns _topic, _partition and _offset"))?;
        if mask.true_count() == 0 {
            continue;
        }
        let kept = filter_record_batch(&batch, &mask)
            .map_err(|e| Error::new(Kind::Bug, OP, "rows cannot be picked").source(e))?;
        let columns: Vec<Column> = kept
            .columns()
            .iter()
            .map(|values| Column {
                values: values.clone(),
                constant: false,
            })
            .collect();
        out.write(&columns, kept.num_rows())?;
    }
    let (written, _) = out.close()?;
    let added = Box::new(written).finish()?;
    if added.ranges != *rest || added.schema != file.schema {
        return Err(wrong("the file does not hold the rows that its entry says"));
    }
    Ok(added)
}

/// Which rows to keep; notes them in `out`. `None`: Weir did not write this file.
fn mask(batch: &RecordBatch, wanted: &[&SplitRange], out: &mut RowsFile) -> Option<BooleanArray> {
    let column = |name: &str| batch.column_by_name(name).map(|c| c.as_ref() as &dyn Array);
    let topics = column(TOPIC)?.as_string_opt::<i32>()?;
    let partitions = column(PARTITION)?.as_primitive_opt::<Int32Type>()?.values();
    let offsets = column(OFFSET)?.as_primitive_opt::<Int64Type>()?.values();
    let mut mask = vec![false; batch.num_rows()];
    for range in wanted {
        let (mut from, mut to, mut rows) = (i64::MAX, i64::MIN, 0);
        for (i, keep) in mask.iter_mut().enumerate() {
            let here = partitions[i] == range.partition
                && (range.from..range.to).contains(&offsets[i])
                && topics.value(i) == &*range.topic;
            if here {
                *keep = true;
                (from, to, rows) = (from.min(offsets[i]), to.max(offsets[i] + 1), rows + 1);
            }
        }
        out.cover(&range.split, from, to, rows);
    }
    Some(mask.into())
}
