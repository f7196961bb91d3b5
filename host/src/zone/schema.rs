//! Schemas of files and their digest (a format).
//!
//! The digest is the sha256 of compact JSON `[{"name":…,"format":…,"nullable":…,"children":[…]},…]`, one object per
//! column in file order, `format` being the Arrow C data interface's format string, `children` left out where there are
//! none. Field metadata does not count.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, TimeUnit};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::hash::sha256;
use crate::record::{OFFSET, PARTITION, ROW, SYSTEM, TIMESTAMP, TOPIC, timestamp_type};

/// System columns of a zone's rows, in their order, after the columns of the rules.
pub fn system_fields() -> Vec<FieldRef> {
    [
        Field::new(TOPIC, DataType::Utf8, false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(ROW, DataType::Int32, false),
        Field::new(TIMESTAMP, timestamp_type(), true),
    ]
    .map(Arc::new)
    .to_vec()
}

pub fn is_system(name: &str) -> bool {
    SYSTEM.contains(&name)
}

/// `sha256:…` of the schema; refuses a type that a zone cannot store, and names the column.
pub fn schema_digest(schema: &Schema) -> Result<String> {
    let columns = columns(schema.fields().iter())?;
    let json = serde_json::to_vec(&columns).map_err(|e| {
        Error::new(
            Kind::Bug,
            "zone.schema",
            "a schema cannot be written as JSON",
        )
        .source(e)
    })?;
    Ok(sha256(&json))
}

#[derive(Serialize)]
struct ColumnJson<'a> {
    name: &'a str,
    format: String,
    nullable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<ColumnJson<'a>>,
}

fn columns<'a>(fields: impl Iterator<Item = &'a FieldRef>) -> Result<Vec<ColumnJson<'a>>> {
    let column = |field: &'a FieldRef| {
        Ok(ColumnJson {
            name: field.name(),
            format: format_string(field.data_type()).ok_or_else(|| unsupported(field))?,
            nullable: field.is_nullable(),
            children: match field.data_type() {
                DataType::List(item) | DataType::LargeList(item) => columns([item].into_iter())?,
                DataType::Struct(fields) => columns(fields.iter())?,
                _ => Vec::new(),
            },
        })
    };
    fields.map(column).collect()
}

fn unsupported(field: &Field) -> Error {
    Error::new(
        Kind::ConfigInvalid,
        "zone.schema",
        format!(
            "column `{}` has type {}, which a zone does not store",
            field.name(),
            field.data_type()
        ),
    )
    .hint("let the last transform make another type of it")
}

/// Format string of the Arrow C data interface; a dictionary counts as the type of its values.
pub fn format_string(data_type: &DataType) -> Option<String> {
    let fixed = match data_type {
        DataType::Boolean => "b",
        DataType::Int8 => "c",
        DataType::UInt8 => "C",
        DataType::Int16 => "s",
        DataType::UInt16 => "S",
        DataType::Int32 => "i",
        DataType::UInt32 => "I",
        DataType::Int64 => "l",
        DataType::UInt64 => "L",
        DataType::Float32 => "f",
        DataType::Float64 => "g",
        DataType::Binary => "z",
        DataType::LargeBinary => "Z",
        DataType::Utf8 => "u",
        DataType::LargeUtf8 => "U",
        DataType::Date32 => "tdD",
        DataType::Date64 => "tdm",
        DataType::List(_) => "+l",
        DataType::LargeList(_) => "+L",
        DataType::Struct(_) => "+s",
        DataType::Decimal128(precision, scale) => return Some(format!("d:{precision},{scale}")),
        DataType::FixedSizeBinary(width) => return Some(format!("w:{width}")),
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => "s",
                TimeUnit::Millisecond => "m",
                TimeUnit::Microsecond => "u",
                TimeUnit::Nanosecond => "n",
            };
            return Some(format!("ts{unit}:{}", zone.as_deref().unwrap_or("")));
        }
        DataType::Dictionary(_, value) => return format_string(value),
        _ => return None,
    };
    Some(fixed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> Schema {
        let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
            Field::new(*name, data_type.clone(), *nullable)
        };
        Schema::new(fields.iter().map(field).collect::<Vec<_>>())
    }

    #[test]
    fn the_digest_is_pinned() {
        let digest = schema_digest(&schema(&[
            ("id", DataType::Utf8, false),
            ("at", timestamp_type(), true),
            ("price", DataType::Decimal128(10, 2), true),
        ]));
        assert_eq!(
            digest.expect("supported"),
            "sha256:d959d005932c4f6f16f9eeaee578f04cca0e210af768ad79894335b0b8f27104"
        );
        let headers = schema(&[("h", crate::record::headers_type(), false)]);
        assert!(schema_digest(&headers).is_ok());
        let odd = schema(&[("x", DataType::Duration(TimeUnit::Second), true)]);
        let error = schema_digest(&odd).expect_err("unsupported");
        assert!(error.to_string().contains("column `x`"), "{error}");
    }
}
