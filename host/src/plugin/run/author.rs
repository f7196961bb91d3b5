//! Requests of plugin authors that no pipeline makes: the fuel that a batch costs, and columns in the contract's form,
//! to measure a native build with them.

use super::component::Component;
use super::transform::PluginTransform;
use crate::chain::{Column, Table};
use crate::error::{Error, Kind, Result};
use crate::plugin::boundary::lower;
use crate::plugin::boundary::types;
use crate::plugin::config::canonical::Canonical;
use crate::plugin::config::setup::{SetupError, Stage};

/// A column in the contract's form: the nodes of its type, and the buffers of each.
#[derive(Clone, Debug)]
pub struct Crossing {
    pub nodes: Vec<CrossingNode>,
    pub constant: bool,
}

#[derive(Clone, Debug)]
pub struct CrossingNode {
    pub name: String,
    pub format: String,
    pub nullable: bool,
    pub children: u32,
    pub extension: Option<String>,
    pub validity: Option<Vec<u8>>,
    pub offsets: Vec<i32>,
    pub data: Vec<u8>,
}

impl Component {
    /// Fuel that one call of `run` with the whole table burns. The plugin must accept the table in one call.
    pub fn fuel_of(
        &self,
        stage: Stage<'_>,
        config: Canonical,
        input: &Table,
    ) -> std::result::Result<u64, SetupError> {
        let transform = PluginTransform::new(self.clone(), stage, config)?;
        Ok(transform.fuel(input)?)
    }
}

/// Every column of the table; `Err` names a type that the contract cannot carry.
pub fn crossing(table: &Table) -> Result<Vec<Crossing>> {
    let fields = table.schema.fields().iter().zip(&table.columns);
    fields.map(|(field, column)| one(field, column)).collect()
}

fn one(field: &arrow_schema::Field, column: &Column) -> Result<Crossing> {
    let told = |e| Error::new(Kind::PluginRefused, "plugin.lower", e);
    let kinds = types::nodes(field).map_err(told)?;
    let mut buffers = Vec::new();
    lower::nodes(&column.values, 0..column.values.len(), &mut buffers);
    let nodes = kinds.into_iter().zip(&buffers).map(|(kind, node)| {
        let param = node.param();
        CrossingNode {
            name: kind.name,
            format: kind.format,
            nullable: kind.nullable,
            children: kind.children,
            extension: kind.extension,
            validity: param.validity.map(<[u8]>::to_vec),
            offsets: param.offsets.to_vec(),
            data: param.data.to_vec(),
        }
    });
    Ok(Crossing {
        nodes: nodes.collect(),
        constant: column.constant,
    })
}
