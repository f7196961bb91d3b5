//! Arrow types in the contract's form: a list of nodes in depth-first order, each with a format string.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::bindings::exports::weir::plugin::transform::FieldResult;

const EXTENSION: &str = "ARROW:extension:name";
/// Depth of nested lists and structs.
const MAX_DEPTH: usize = 16;

/// One node of an input column's type.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub format: String,
    pub nullable: bool,
    pub children: u32,
    pub extension: Option<String>,
}

/// Nodes of `field`; `Err` names a type that the contract has no format for.
pub fn nodes(field: &Field) -> Result<Vec<Node>, String> {
    let mut out = Vec::new();
    push_nodes(field, &mut out)?;
    Ok(out)
}

fn push_nodes(field: &Field, out: &mut Vec<Node>) -> Result<(), String> {
    let children: Vec<&FieldRef> = match field.data_type() {
        DataType::List(item) => vec![item],
        DataType::Struct(fields) => fields.iter().collect(),
        _ => Vec::new(),
    };
    out.push(Node {
        name: field.name().clone(),
        format: format(field.data_type())
            .ok_or_else(|| format!("column `{}` has type {}", field.name(), field.data_type()))?,
        nullable: field.is_nullable(),
        children: children.len() as u32,
        extension: field.metadata().get(EXTENSION).cloned(),
    });
    children
        .into_iter()
        .try_for_each(|child| push_nodes(child, out))
}

fn format(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "b".into(),
        DataType::Int32 => "i".into(),
        DataType::Int64 => "l".into(),
        DataType::Float64 => "g".into(),
        DataType::Decimal128(precision, scale) => format!("d:{precision},{scale}"),
        DataType::Utf8 => "u".into(),
        DataType::Binary => "z".into(),
        DataType::Date32 => "tdD".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "tsu:".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => {
            "tsu:UTC".into()
        }
        DataType::List(_) => "+l".into(),
        DataType::Struct(_) => "+s".into(),
        _ => return None,
    })
}

/// The one column that `nodes` describe.
pub fn field(nodes: &[FieldResult]) -> Result<Field, String> {
    let mut rest = nodes.iter();
    let field = next_field(&mut rest, 0)?;
    match rest.len() {
        0 => Ok(field),
        n => Err(format!(
            "column `{}`: {n} nodes belong to no parent",
            field.name()
        )),
    }
}

fn next_field(
    nodes: &mut std::slice::Iter<'_, FieldResult>,
    depth: usize,
) -> Result<Field, String> {
    let node = nodes
        .next()
        .ok_or("a column's type has fewer nodes than it says")?;
    if depth == MAX_DEPTH {
        return Err(format!("`{}` is nested deeper than {MAX_DEPTH}", node.name));
    }
    // Each child takes one of the existing nodes, so a huge number gives an error above and does not fill the memory.
    let mut children = Vec::new();
    for _ in 0..node.children {
        children.push(next_field(nodes, depth + 1)?);
    }
    let data_type = match (node.format.as_str(), children.len()) {
        ("+l", 1) => DataType::List(Arc::new(children.remove(0))),
        ("+s", 1..) => DataType::Struct(Fields::from(children)),
        ("+l" | "+s", n) => return Err(format!("`{}`: {} with {n} children", node.name, node.format)),
        (format, 0) => scalar(format).ok_or_else(|| {
            format!(
                "`{}`: format `{format}` is not known; this host knows b i l g d:P,S u z tdD tsu: tsu:UTC +l +s",
                node.name
            )
        })?,
        (format, n) => return Err(format!("`{}`: {format} with {n} children", node.name)),
    };
    let field = Field::new(&node.name, data_type, node.nullable);
    Ok(match &node.extension {
        Some(name) => field.with_metadata(HashMap::from([(EXTENSION.to_owned(), name.clone())])),
        None => field,
    })
}

fn scalar(format: &str) -> Option<DataType> {
    Some(match format {
        "b" => DataType::Boolean,
        "i" => DataType::Int32,
        "l" => DataType::Int64,
        "g" => DataType::Float64,
        "u" => DataType::Utf8,
        "z" => DataType::Binary,
        "tdD" => DataType::Date32,
        "tsu:" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "tsu:UTC" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => {
            let (precision, scale) = format.strip_prefix("d:")?.split_once(',')?;
            let (precision, scale): (u8, i8) = (precision.parse().ok()?, scale.parse().ok()?);
            let sound = (1..=38).contains(&precision) && (0..=precision as i8).contains(&scale);
            sound.then_some(DataType::Decimal128(precision, scale))?
        }
    })
}
