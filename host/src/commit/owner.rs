//! owners (body follows)
use super::LogName;
use crate::error::Result;
use crate::store::Store;

/// Claims a table (a directory directly below the root) for this log, once and for all. A table of another log is refused by
/// name.
pub fn own_table(store: &dyn Store, name: &LogName, table: &str) -> Result<()> { todo!() }
