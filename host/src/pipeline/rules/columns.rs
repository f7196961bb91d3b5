//! How new rules change the columns of a table, and the one check before they come into force, whether by a start, a
//! swap, a watched edit or a config over HTTP.

use arrow_schema::{Field, Schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commit::{Role, State};
use crate::error::{Error, Kind, Result};
use crate::zone::is_system;

/// What a change means for readers of the table.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Effect {
    /// The columns in force are not known.
    Unknown,
    Same,
    /// Old and new files can be read together: a column that a file lacks is null.
    Additive,
    /// A query that worked may fail, or see less.
    Breaking,
}

impl Effect {
    pub fn word(self) -> &'static str {
        match self {
            Effect::Unknown => "unknown",
            Effect::Same => "same",
            Effect::Additive => "additive",
            Effect::Breaking => "breaking",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Change {
    pub column: String,
    /// `int32`, `utf8 or null`; empty if the column does not exist.
    pub from: String,
    pub to: String,
    pub effect: Effect,
}

/// All changes of columns, and the worst of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Columns {
    pub effect: Effect,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
    /// Why the columns in force are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Columns {
    /// The host's own columns exist under any rules.
    pub fn between(old: &Schema, new: &Schema) -> Columns {
        let changes = changes(old, new);
        Columns {
            effect: worst(&changes),
            changes: Some(changes),
            why: None,
        }
    }

    pub fn unknown(why: String) -> Columns {
        Columns {
            effect: Effect::Unknown,
            changes: None,
            why: Some(why),
        }
    }

    /// Refuses a change that breaks readers of the table, unless somebody allowed it (`allowed`). `way`: how it can be
    /// allowed here, for the message. A table without rows has no readers.
    pub fn admit(&self, state: &State, allowed: bool, way: &str) -> Result<()> {
        match self.refusal(way) {
            Some(error) if !allowed && has_rows(state) => Err(error),
            _ => Ok(()),
        }
    }

    /// Why readers would not accept it; `None`: they do.
    pub fn refusal(&self, way: &str) -> Option<Error> {
        if self.effect != Effect::Breaking {
            return None;
        }
        let told = |change: &Change| match (change.from.as_str(), change.to.as_str()) {
            (_, "") => format!("`{}` goes", change.column),
            (from, to) => format!("`{}` was {from} and becomes {to}", change.column),
        };
        let changes = self.changes.iter().flatten();
        let breaking = changes.filter(|change| change.effect == Effect::Breaking);
        let message = format!(
            "columns go or change their type: whoever reads the table would see it: {}",
            breaking.map(told).collect::<Vec<_>>().join(", ")
        );
        Some(Error::new(Kind::ConfigInvalid, "rules.columns", message).hint(way))
    }
}

/// Whether anybody can have read a row.
pub fn has_rows(state: &State) -> bool {
    let mut live = state.live.values();
    live.any(|live| live.file.role == Role::Rows)
}

/// How a person allows a breaking change when a config comes over HTTP.
pub const WAY_OVER_HTTP: &str = "a new column beside the old one breaks nobody; where the readers know: the same request \
    with ?allow_breaking=true, or --allow-breaking of `weir pipeline config` and `create`";

/// The same when a config is read from files.
pub fn way(pipeline: &str) -> String {
    format!(
        "a new column beside the old one breaks nobody; where the readers know: weir pipeline swap {pipeline} --reload \
         --allow-breaking"
    )
}

/// The columns that change, in the order of the old table, then what is new.
fn changes(old: &Schema, new: &Schema) -> Vec<Change> {
    let mut found = Vec::new();
    let own = |field: &&std::sync::Arc<Field>| !is_system(field.name());
    for field in old.fields().iter().filter(own) {
        let now = new.column_with_name(field.name()).map(|(_, now)| now);
        let effect = match now {
            None => Effect::Breaking,
            Some(now) if now.data_type() != field.data_type() => Effect::Breaking,
            Some(now) if now.is_nullable() && !field.is_nullable() => Effect::Breaking,
            Some(now) if now.is_nullable() != field.is_nullable() => Effect::Additive,
            Some(_) => continue,
        };
        found.push(change(Some(field), now, effect));
    }
    let added = new.fields().iter();
    let added = added
        .filter(own)
        .filter(|field| old.column_with_name(field.name()).is_none());
    found.extend(added.map(|field| change(None, Some(field), Effect::Additive)));
    found
}

fn change(from: Option<&Field>, to: Option<&Field>, effect: Effect) -> Change {
    let column = from.or(to).map_or("", |field| field.name());
    Change {
        column: column.to_owned(),
        from: from.map_or_else(String::new, shown),
        to: to.map_or_else(String::new, shown),
        effect,
    }
}

fn shown(field: &Field) -> String {
    let or_null = if field.is_nullable() { " or null" } else { "" };
    format!("{}{or_null}", field.data_type())
}

fn worst(changes: &[Change]) -> Effect {
    let effects = changes.iter().map(|change| change.effect);
    effects.max().unwrap_or(Effect::Same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::DataType;

    #[test]
    fn only_what_readers_would_miss_is_breaking() {
        let old = Schema::new(vec![
            Field::new("a", DataType::Int32, false),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Utf8, true),
            Field::new("d", DataType::Utf8, true),
        ]);
        let new = Schema::new(vec![
            Field::new("d", DataType::Utf8, true),
            Field::new("a", DataType::Int64, false),
            Field::new("b", DataType::Utf8, false),
            Field::new("e", DataType::Date32, true),
        ]);
        let found = changes(&old, &new);
        let seen: Vec<_> = found
            .iter()
            .map(|c| (c.column.as_str(), c.effect))
            .collect();
        assert_eq!(
            seen,
            [
                ("a", Effect::Breaking),
                ("b", Effect::Additive),
                ("c", Effect::Breaking),
                ("e", Effect::Additive)
            ]
        );
        assert_eq!(worst(&found), Effect::Breaking);
        assert_eq!(worst(&changes(&old, &old)), Effect::Same);
    }
}
