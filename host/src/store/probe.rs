//! Does this store keep the two promises that the commit log stands on? Asked before anything is written to it.

use super::{Created, Renamed, Store};
use crate::error::{Error, Kind, Result};

/// Proves that a second create of a name is refused, and that a rename crosses from the staging directory to the table's
/// and refuses to overwrite there. Leaves nothing behind; a kill may leave an empty file `.probe-…` that no reader takes for data.
pub fn probe(store: &dyn Store, staging_dir: &str, table_dir: &str) -> Result<()> {
    let name = format!(".probe-{}", ulid::Ulid::generate());
    let staged = format!("{staging_dir}/{name}");
    let published = format!("{table_dir}/{name}");
    let proved = prove(store, &staged, &published);
    for path in [&staged, &published] {
        let deleted = store.delete(path);
        if proved.is_ok() {
            deleted?;
        }
    }
    proved
}

fn prove(store: &dyn Store, staged: &str, published: &str) -> Result<()> {
    let refuse = |message: &str, hint: &str| {
        Error::new(Kind::ConfigInvalid, "store.probe", message)
            .with("store", store.url())
            .with("staging", staged)
            .with("table", published)
            .hint(hint)
    };
    let unfit = "use a store with put-if-absent and renames that never overwrite";
    if store.create(staged, b"1")? != Created::Done {
        return Err(refuse("a new name is said to exist already", unfit));
    }
    if store.create(staged, b"2")? != Created::Exists {
        return Err(refuse("a second create of one name is not refused", unfit));
    }
    if store.get(staged)?.as_deref() != Some(b"1") {
        return Err(refuse("what was created does not read back", unfit));
    }
    let one_disk = "keep _system and the tables on one file system";
    match store.rename(staged, published) {
        Ok(Renamed::Done) => {}
        Ok(_) => {
            return Err(refuse(
                "a rename from staging to the table does nothing",
                unfit,
            ));
        }
        Err(e) => return Err(refuse("cannot rename from staging to the table", one_disk).source(e)),
    }
    if store.get(staged)?.is_some() || store.get(published)?.as_deref() != Some(b"1") {
        return Err(refuse("a rename left both names, or neither", unfit));
    }
    store.create(staged, b"2")?;
    if store.rename(staged, published)? != Renamed::TargetExists
        || store.get(published)?.as_deref() != Some(b"1")
    {
        return Err(refuse("a rename overwrites", unfit));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Fault, FaultStore, Script, Verb, open};
    use super::*;

    #[test]
    fn honest_stores_pass_and_are_left_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        for url in [
            format!("file:{}", dir.path().display()),
            "memory:probe".to_owned(),
        ] {
            let store = open(&url).unwrap();
            probe(&*store, "_system/p/z/staging", "books").unwrap();
            assert_eq!(store.list("").unwrap(), vec![]);
        }
    }

    #[test]
    fn a_store_that_only_says_so_is_refused() {
        for (verb, nth) in [(Verb::Create, 0), (Verb::Rename, 0), (Verb::Rename, 1)] {
            let script = Script::on(verb, "", nth, Fault::Lying);
            let store = FaultStore::new(open("memory:probe-lying").unwrap(), Arc::new(script));
            let refused = probe(&*store, "_system/p/z/staging", "books").unwrap_err();
            assert_eq!(
                refused.kind(),
                Kind::ConfigInvalid,
                "{verb:?} {nth}: {refused}"
            );
        }
    }
}
