//! Reads a whole Parquet file as one batch: for lookup tables of transforms, which are small.

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

/// Rows decoded at a time: a table can exceed its limit by this much before that is noticed.
const BATCH_ROWS: usize = 1024;

/// The largest allowed table. A Parquet file can be far smaller than its rows.
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    pub rows: usize,
    pub cells: usize,
    /// Bytes of all columns in memory.
    pub bytes: usize,
}

/// All rows of a Parquet file. Types are those of the Parquet schema alone: what another writer noted beside it about
/// its own types in memory (dictionaries, large strings) does not count.
pub fn read_table(file: &[u8], limits: TableLimits) -> Result<RecordBatch, String> {
    let broken = |e: &dyn std::fmt::Display| format!("not a readable Parquet file: {e}");
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let file = Bytes::copy_from_slice(file);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|e| broken(&e))?;
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
    let schema = builder.schema().clone();
    let cells = rows.saturating_mul(schema.fields().len());
    if rows > limits.rows || cells > limits.cells {
        return Err(format!(
            "{rows} rows and {cells} cells; a table has at most {} rows and {} cells",
            limits.rows, limits.cells
        ));
    }
    let reader = builder
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|e| broken(&e))?;
    let (mut batches, mut bytes) = (Vec::new(), 0usize);
    for batch in reader {
        let batch = batch.map_err(|e| broken(&e))?;
        bytes = bytes.saturating_add(batch.get_array_memory_size());
        if bytes > limits.bytes {
            return Err(format!(
                "its rows take more than {} bytes in memory",
                limits.bytes
            ));
        }
        batches.push(batch);
    }
    concat_batches(&schema, &batches).map_err(|e| broken(&e))
}
