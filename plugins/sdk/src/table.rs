//! Lookup tables: read-only rows that a config key names and the host reads (`"format": "weir-table"` in the schema).
//!
//! From CSV every column is a text, named by the header, and an empty cell is null; Parquet brings its own types. A
//! table exists only during `init`: keep what is needed for the rows, in a form that is quick to search.
use crate::cells::Access;
use crate::config::Config;
use crate::contract::Setup;
use crate::rowwise::{self, InputRow};
use crate::schema::Schema;
use crate::view::Columns;

/// The table of one key.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    pub schema: Schema<'a>,
    pub columns: Columns<'a>,
    rows: usize,
}

impl<'a> Table<'a> {
    pub fn of(setup: &'a Setup, key: &str) -> Option<Self> {
        let table = setup.tables.iter().find(|table| table.key == key)?;
        Some(Self {
            schema: Schema(&table.fields),
            columns: Columns::new(table.rows, &table.columns),
            rows: table.rows as usize,
        })
    }

    /// The table of `key`; a problem where the key is missing or the host gave no table for it.
    pub fn require(
        setup: &'a Setup,
        key: &str,
        meaning: &str,
        config: &mut Config,
    ) -> Option<Self> {
        let named = config.require(key, meaning);
        let found = Self::of(setup, key);
        if found.is_none() && !named.is_empty() {
            let message = format!("the host gave no table for `{key}`");
            config.problem(key, "missing_table", message);
        }
        found
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Each row as an `input!` struct, whose fields are columns by name; an error names all that do not fit.
    pub fn rows_as<R: InputRow<'a>>(&self) -> Result<Vec<R>, String> {
        let found = rowwise::found(&R::wanted(), self.schema, &[]);
        let found = found.map_err(|problems| problems.join("; "))?;
        let (at, access): (Vec<usize>, Vec<Access>) = found.into_iter().unzip();
        let views = rowwise::viewed::<R>(self.columns, at.into_iter(), &access)?;
        Ok((0..self.rows).map(|row| R::get(&views, row)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;
    use crate::{Type, Value};

    #[test]
    fn a_table_is_seen_by_name_and_type() {
        let rows = [Some("1.50"), None, Some("-2")];
        let setup = Bench::default()
            .table(
                "prices",
                &[
                    ("sku", "string", &[Some("a"), Some("b"), None]),
                    ("price", "decimal(9,2)", &rows),
                ],
            )
            .setup();
        let table = Table::of(&setup, "prices").unwrap();
        assert_eq!((table.rows(), table.schema.len()), (3, 2));
        let n = table.schema.find("price").unwrap();
        assert_eq!(table.schema.kind(n), Ok(Type::Decimal(9, 2)));
        let view = table.columns.values(n, &Type::Decimal(9, 2)).unwrap();
        let values: Vec<_> = (0..3).map(|row| view.get(row)).collect();
        let expected = [Some(Value::Decimal(150)), None, Some(Value::Decimal(-200))];
        assert_eq!(values, expected);
        assert_eq!(table.columns.text(0).unwrap().get(1), Some("b"));
        let said = table.schema.find("prise").unwrap_err();
        assert!(said.contains("did you mean `price`?"), "{said}");
        assert!(Table::of(&setup, "other").is_none());
    }

    #[test]
    fn a_table_that_the_host_did_not_give_is_a_problem() {
        let setup = Bench::default().key("a", "x.csv").setup();
        let mut config = Config::parse(&setup.config);
        assert!(Table::require(&setup, "a", "rows", &mut config).is_none());
        assert!(Table::require(&setup, "b", "rows", &mut config).is_none());
        let problems = config.finish().unwrap_err();
        let told: Vec<_> = problems.iter().map(|p| (&*p.at, &*p.code)).collect();
        assert_eq!(told, [("/a", "missing_table"), ("/b", "missing_key")]);
    }
}
