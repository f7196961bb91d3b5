//! Connect's transforms: their names and keys. `translate` says what each becomes.

use super::framework::Def;
use super::framework::Value::{Is, Null, Required};
use super::framework::{PLUGIN, TRANSFORM, defs};

const PACKAGE: &str = "org.apache.kafka.connect.transforms.";

/// One of Connect's transforms, with the side (key or value) on which it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smt {
    /// `Cast`.
    pub name: &'static str,
    pub side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Key,
    Value,
    /// It has no `$Key` and `$Value`.
    Record,
}

/// Name, whether it has `$Key` and `$Value`, its keys.
static SMTS: &[(&str, bool, &[Def])] = &[
    (
        "Cast",
        true,
        defs! { "Transforms" {
            "spec": List, Required, High, [], "`field:type` pairs, or one type for the whole value.";
        } },
    ),
    (
        "DropHeaders",
        false,
        defs! { "Transforms" {
            "headers": List, Required, High, [], "Names of headers. Headers are not written, so nothing changes.";
        } },
    ),
    (
        "ExtractField",
        true,
        defs! { "Transforms" {
            "field": String, Required, Medium, [], "The field that the value is replaced by.";
            "field.syntax.version": String, Is("V1"), High, ["V1", "V2"], "V2: the field is a dotted path.";
        } },
    ),
    ("Filter", false, &[]),
    (
        "Flatten",
        true,
        defs! { "Transforms" {
            "delimiter": String, Is("."), Medium, [], "Stands between the parts of a name.";
        } },
    ),
    (
        "HeaderFrom",
        true,
        defs! { "Transforms" {
            "fields": List, Required, High, [], "Fields that become headers.";
            "headers": List, Required, High, [], "Names of the headers.";
            "operation": String, Required, High, ["move", "copy"], "Only `copy` changes no row.";
        } },
    ),
    (
        "HoistField",
        true,
        defs! { "Transforms" {
            "field": String, Required, Medium, [], "Name of the column that holds the whole value.";
        } },
    ),
    (
        "InsertField",
        true,
        defs! { "Transforms" {
            "topic.field": String, Null, Medium, [], "Not honoured: the topic is in column _topic.";
            "partition.field": String, Null, Medium, [], "Not honoured: the partition is in column _partition.";
            "offset.field": String, Null, Medium, [], "Not honoured: the offset is in column _offset.";
            "timestamp.field": String, Null, Medium, [], "Not honoured: the record's time is in column _timestamp.";
            "static.field": String, Null, Medium, [], "Name of a column with one text in every row.";
            "static.value": String, Null, Medium, [], "That text.";
        } },
    ),
    (
        "InsertHeader",
        false,
        defs! { "Transforms" {
            "header": String, Required, High, [], "Headers are not written, so nothing changes.";
            "value.literal": String, Required, High, [], "Its value.";
        } },
    ),
    (
        "MaskField",
        true,
        defs! { "Transforms" {
            "fields": List, Required, High, [], "Fields that are masked.";
            "replacement": String, Null, Low, [], "The text in their place.";
        } },
    ),
    (
        "RegexRouter",
        false,
        defs! { "Transforms" {
            "regex": String, Required, High, [], "Not honoured: tables are named by topics.";
            "replacement": String, Required, High, [], "Not honoured: tables are named by topics.";
        } },
    ),
    (
        "ReplaceField",
        true,
        defs! { "Transforms" {
            "exclude": List, Is(""), Medium, [], "Fields to drop; it wins over include.";
            "include": List, Is(""), Medium, [], "Fields to keep.";
            "renames": List, Is(""), Medium, [], "`old:new` pairs.";
        } },
    ),
    (
        "SetSchemaMetadata",
        true,
        defs! { "Transforms" {
            "schema.name": String, Null, High, [], "Schemas have no name here, so nothing changes.";
            "schema.version": Int, Null, High, [], "Schemas have no version here, so nothing changes.";
        } },
    ),
    (
        "TimestampConverter",
        true,
        defs! { "Transforms" {
            "field": String, Is(""), High, [], "The column.";
            "target.type": String, Required, High, ["Timestamp", "Date"], "What it becomes.";
            "format": String, Is(""), Medium, [], "Pattern of the texts it is made of.";
            "unix.precision": String, Is("milliseconds"), Low, ["milliseconds", "seconds", "microseconds"], "Unit of the numbers it is made of.";
        } },
    ),
    (
        "TimestampRouter",
        false,
        defs! { "Transforms" {
            "topic.format": String, Is("${topic}-${timestamp}"), High, [], "Not honoured: tables are named by topics.";
            "timestamp.format": String, Is("yyyyMMdd"), High, [], "Not honoured: tables are named by topics.";
        } },
    ),
    (
        "ValueToKey",
        false,
        defs! { "Transforms" {
            "fields": List, Required, High, [], "Keys are not written, so nothing changes.";
        } },
    ),
];

impl Smt {
    /// By full or simple name; `None`: it is none of Connect's.
    pub fn find(class: &str) -> Option<Smt> {
        let class = class.trim();
        let simple = class.strip_prefix(PACKAGE).unwrap_or(class);
        let (name, side) = match simple.split_once('$') {
            None => (simple, Side::Record),
            Some((name, "Key")) => (name, Side::Key),
            Some((name, "Value")) => (name, Side::Value),
            Some(_) => return None,
        };
        let (name, sided, _) = SMTS.iter().find(|(known, ..)| *known == name)?;
        (*sided == (side != Side::Record)).then_some(Smt { name, side })
    }

    pub fn keys(self) -> &'static [Def] {
        SMTS.iter()
            .find(|(name, ..)| *name == self.name)
            .map_or(&[], |(_, _, keys)| keys)
    }
}

/// Keys of one transform, by what its `type` says.
pub fn keys(class: &str, ours: bool) -> Vec<Def> {
    if ours {
        return PLUGIN.to_vec();
    }
    let own = Smt::find(class).map_or(&[][..], Smt::keys);
    TRANSFORM.iter().chain(own).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_full_or_simple_and_have_the_sides_they_have() {
        let cast = Smt::find("org.apache.kafka.connect.transforms.Cast$Value").expect("Cast");
        assert_eq!((cast.name, cast.side), ("Cast", Side::Value));
        assert_eq!(Smt::find("Cast$Key").expect("Cast").side, Side::Key);
        for none in [
            "Cast",
            "Filter$Value",
            "cast",
            "io.debezium.transforms.ByLogicalTableRouter",
            "Cast$Other",
        ] {
            assert!(Smt::find(none).is_none(), "{none}");
        }
        assert!(
            keys("Cast$Value", false)
                .iter()
                .any(|def| def.name == "spec")
        );
        assert!(
            !keys("cast@0.1", true)
                .iter()
                .any(|def| def.name == "predicate")
        );
    }
}
