//! Columns by name: those of the stage before, or those of a lookup table.
use crate::config::nearest;
use crate::contract::{Field, Setup};
use crate::types::Type;

/// Names and types of columns, one list of nodes each.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a>(pub &'a [Vec<Field>]);

impl<'a> Schema<'a> {
    /// The columns of the stage before.
    pub fn of(setup: &'a Setup) -> Self {
        Self(&setup.input)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn name(&self, n: usize) -> &'a str {
        self.root(n).map_or("", |field| field.name.as_str())
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let schema = *self;
        (0..schema.len()).map(move |n| schema.name(n))
    }

    /// All nodes of column `n`.
    pub fn nodes(&self, n: usize) -> &'a [Field] {
        self.0.get(n).map_or(&[], Vec::as_slice)
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.names().position(|known| known == name)
    }

    /// The position of column `name`, or words that say which columns there are.
    pub fn find(&self, name: &str) -> Result<usize, String> {
        self.position(name).ok_or_else(|| {
            let near = nearest(name, self.names());
            let there = self.names().collect::<Vec<_>>().join(", ");
            format!("no column `{name}`{near}; there are: {there}")
        })
    }

    /// The type of column `n`, or words that say that it has none of ours.
    pub fn kind(&self, n: usize) -> Result<Type, String> {
        let format = self.root(n).map_or("", |field| field.format.as_str());
        Type::of_format(format).ok_or_else(|| {
            let what = match format {
                "z" => "bytes",
                "+l" => "a list",
                "+s" => "a struct",
                other => other,
            };
            format!(
                "`{}` is {what}: expected a text, number, boolean, date or timestamp",
                self.name(n)
            )
        })
    }

    fn root(&self, n: usize) -> Option<&'a Field> {
        self.0.get(n)?.first()
    }
}
