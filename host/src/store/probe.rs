//! probe (body follows)
use super::Store;
use crate::error::Result;
/// Proves before anything is written that a second create is refused and that renames cross from staging to tables.
pub fn probe(store: &dyn Store) -> Result<()> { todo!() }
