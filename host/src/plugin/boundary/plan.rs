//! The answer of a plugin's `init`, checked against its input.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{FieldRef, Schema, SchemaRef};

use super::bindings::exports::weir::plugin::transform as wit;
use super::types;
use crate::plugin::{MAX_COLUMNS, MAX_COUNTER_NAME, MAX_COUNTERS};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Planned {
    /// Input column.
    Carry(usize),
    /// Index into [`Plan::makes`].
    Make(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub reads: Vec<usize>,
    pub output: Vec<Planned>,
    pub makes: Vec<FieldRef>,
    pub schema: SchemaRef,
    pub explodes: bool,
    pub counters: Vec<String>,
}

impl Plan {
    pub fn check(plan: wit::Plan, input: &Schema) -> Result<Plan, String> {
        let columns = input.fields().len();
        let within = |what: &str, n: u32| match n as usize {
            n if n < columns => Ok(n),
            n => Err(format!("{what} input column {n}, of {columns}")),
        };
        let reads: Result<_, _> = plan.reads.iter().map(|n| within("reads", *n)).collect();
        if plan.reads.len() > MAX_COLUMNS {
            return Err(format!("reads more than {MAX_COLUMNS} columns"));
        }
        let (mut output, mut makes, mut fields) = (Vec::new(), Vec::new(), Vec::<FieldRef>::new());
        let (mut names, mut nodes) = (BTreeSet::new(), 0);
        for column in plan.output {
            let field = match column {
                wit::PlannedColumn::Carry(n) => {
                    let n = within("carries", n)?;
                    output.push(Planned::Carry(n));
                    nodes += 1;
                    Arc::clone(&input.fields()[n])
                }
                wit::PlannedColumn::Make(parts) => {
                    nodes += parts.len();
                    let field = Arc::new(types::field(&parts)?);
                    output.push(Planned::Make(makes.len()));
                    makes.push(Arc::clone(&field));
                    field
                }
            };
            if nodes > MAX_COLUMNS {
                return Err(format!("more than {MAX_COLUMNS} output columns"));
            }
            if field.name().is_empty() || !names.insert(field.name().clone()) {
                return Err(format!(
                    "two output columns are called `{}`, or it is empty",
                    field.name()
                ));
            }
            fields.push(field);
        }
        let short = |name: &String| (1..=MAX_COUNTER_NAME).contains(&name.len());
        if !plan.counters.iter().all(short) {
            return Err(format!(
                "a counter's name has 1 to {MAX_COUNTER_NAME} bytes"
            ));
        }
        let distinct: BTreeSet<&String> = plan.counters.iter().collect();
        if plan.counters.len() > MAX_COUNTERS || distinct.len() < plan.counters.len() {
            return Err(format!("counters: at most {MAX_COUNTERS}, no name twice"));
        }
        Ok(Plan {
            reads: reads?,
            output,
            makes,
            schema: Arc::new(Schema::new(fields)),
            explodes: plan.explodes,
            counters: plan.counters,
        })
    }

    /// Input columns that are carried without being passed to the plugin.
    pub fn carries(&self) -> impl Iterator<Item = usize> + '_ {
        self.output.iter().filter_map(|planned| match planned {
            Planned::Carry(n) => Some(*n),
            Planned::Make(_) => None,
        })
    }
}
