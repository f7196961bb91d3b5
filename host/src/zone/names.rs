//! The columns of a table are one namespace: those of the rules, the host's own, and those that engines read from its
//! paths. Names are compared as SQL engines do: `id` and `ID` are the same.

use std::collections::BTreeMap;
use std::fmt;

use super::layout::{INGEST_DATE, INGEST_HOUR};
use super::write::ORIGINALS;
use crate::record::{SYSTEM, fold};

/// Where a column of a table comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A transform made it, by its name in the pipeline.
    Transform(String),
    /// The record's own, unchanged: `value`, `key`, `headers`.
    Record,
    /// The files of the zone that is read have it.
    Source,
    /// The host writes it into each row of every zone.
    System,
    /// The host writes it because of `sink.keep.value`.
    Original,
    /// A part of the path of each file; the config key that names it, if there is one.
    Path(&'static str),
}

/// Two columns that are the same for an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The one to rename, with where it comes from.
    pub column: String,
    pub by: Origin,
    pub other: String,
    pub other_by: Origin,
}

/// Names that no rule may give a column of RAW.
pub fn reserved(keep_value: bool) -> Vec<(&'static str, Origin)> {
    let originals = ORIGINALS.iter().filter(|_| keep_value);
    (SYSTEM.iter().map(|name| (*name, Origin::System)))
        .chain(originals.map(|name| (*name, Origin::Original)))
        .chain([INGEST_DATE, INGEST_HOUR].map(|name| (name, Origin::Path(""))))
        .collect()
}

/// The clashes of `columns` with those that are `taken` and among themselves; each column is reported once.
pub fn clashes<'a>(
    taken: impl IntoIterator<Item = (&'a str, Origin)>,
    columns: impl IntoIterator<Item = (&'a str, Origin)>,
) -> Vec<Clash> {
    let mut names: BTreeMap<String, (&str, Origin)> = BTreeMap::new();
    for (name, origin) in taken {
        names.entry(fold(name)).or_insert((name, origin));
    }
    let mut found = Vec::new();
    for (name, origin) in columns {
        match names.get(&fold(name)) {
            Some((other, other_by)) => found.push(Clash {
                column: name.to_owned(),
                by: origin,
                other: (*other).to_owned(),
                other_by: other_by.clone(),
            }),
            None => drop(names.insert(fold(name), (name, origin))),
        }
    }
    found
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Transform(name) => write!(f, "of the transform `{name}`"),
            Origin::Record => f.write_str("of the record itself"),
            Origin::Source => f.write_str("of the zone that is read"),
            Origin::System => f.write_str("that every zone has from the host"),
            Origin::Original => f.write_str("that sink.keep.value adds"),
            Origin::Path("") => f.write_str("in the path of each file"),
            Origin::Path(key) => write!(f, "in the path of each file ({key})"),
        }
    }
}

/// "column `id` of … and column `ID` of … are one name to SQL engines".
impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "column `{}` {} and column `{}` {} are one name to SQL engines",
            self.column, self.by, self.other, self.other_by
        )?;
        if self.column != self.other {
            f.write_str(", which do not tell names by upper and lower case")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_whatever_its_case() {
        let made = |name| (name, Origin::Transform("t".to_owned()));
        let columns = ["id", "ID", "_OFFSET", "Ingest_Date", "_value", "Ä", "ä"].map(made);
        let found = clashes(reserved(false), columns.clone());
        let pairs: Vec<(&str, &str)> = found
            .iter()
            .map(|c| (c.column.as_str(), c.other.as_str()))
            .collect();
        let expected = [
            ("ID", "id"),
            ("_OFFSET", "_offset"),
            ("Ingest_Date", "ingest_date"),
            ("ä", "Ä"),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(clashes(reserved(true), columns).len(), 5);
        let told = found[1].to_string();
        for part in ["`_OFFSET`", "transform `t`", "`_offset`", "from the host"] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
}
