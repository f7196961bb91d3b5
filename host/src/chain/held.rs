//! A transform that cannot decide about a record yet: the records before it go on, and it and those behind it wait.

use std::fmt;

use crate::error::{Error, Kind};

/// What an error of [`super::Transform::apply`] carries as its source if the records before one can go on; see [`held`].
#[derive(Debug)]
pub struct Held {
    /// The first row of the transform's input that waits; in an error of a chain, the first record of its batch.
    pub from: u32,
    pub on: On,
}

#[derive(Debug)]
pub enum On {
    /// Something is away, and comes back.
    Fault(Error),
    /// Other rules: its schema has fields that the one in force lacks.
    Schema(NewSchema),
}

/// The schema of a record that has more than the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSchema {
    pub schema: String,
    /// `schema 7`; for people.
    pub name: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.on {
            On::Fault(error) => f.write_str(&error.one_line()),
            On::Schema(new) => write!(f, "{} has fields that the schema in force lacks", new.name),
        }
    }
}

impl std::error::Error for Held {}

impl Held {
    /// The error that says it; where nobody waits, it stops as what it waits for would.
    pub fn error(self) -> Error {
        let error = match &self.on {
            On::Fault(error) => error.again(),
            On::Schema(_) => Error::new(Kind::Conflict, "chain.apply", self.to_string()),
        };
        error.source(self)
    }

    fn again(&self, from: u32) -> Held {
        Held {
            from,
            on: match &self.on {
                On::Fault(error) => On::Fault(error.again()),
                On::Schema(new) => On::Schema(new.clone()),
            },
        }
    }
}

/// What waits behind an error, if that is what it is about.
pub fn held(error: &Error) -> Option<&Held> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The same error, of records instead of rows. `record`: of each row.
pub(super) fn of_records(error: Error, record: &[u32]) -> Error {
    match held(&error) {
        Some(held) => {
            let first = record.get(held.from as usize).copied().unwrap_or(0);
            held.again(first).error()
        }
        None => error,
    }
}
