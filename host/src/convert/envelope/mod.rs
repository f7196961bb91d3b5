//! Connect's `{"schema": …, "payload": …}`: the schema in each message says what its JSON means, a Decimal in base64, bytes, times,
//! defaults. It is read under the schema in force, field by field, by name.

mod cell;
mod plan;

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::FieldRef;
use serde_json::Value;

use super::rows::{Decode, Decoded, reject};
use super::{Form, REMEDY, Spec, Wrong, codes, merged};
use crate::chain::{Held, NewSchema, On};
use crate::error::{Error, Kind, Result};
use crate::json::Json;
use plan::{Plan, Typed};

const OP: &str = "convert.envelope";
/// Schemas of messages whose plans are kept: those of a topic's producers.
const PLANS: usize = 16;

/// The columns of a schema; `Err` says why there are none.
pub fn columns(schema: &str) -> std::result::Result<Vec<FieldRef>, String> {
    let schema = Json::parse(schema.as_bytes())?;
    let typed = Typed::of_message(&schema)?;
    typed.columns()
}

/// The schema that a message shows, if it is an envelope with one.
pub fn schema_of(value: &[u8]) -> Option<String> {
    let message = Json::parse(value).ok()?;
    let (schema, _) = parts(&message).ok()?;
    canonical(schema)
}

/// One text for equal schemas, however they are written.
fn canonical(schema: &Json) -> Option<String> {
    let schema: Value = serde_json::from_str(&schema.to_string()).ok()?;
    matches!(schema, Value::Object(_)).then(|| schema.to_string())
}

fn parts(message: &Json) -> std::result::Result<(&Json, &Json), String> {
    let members = message
        .as_object()
        .ok_or("it is no object of `schema` and `payload`")?;
    match (message.get("schema"), message.get("payload"), members.len()) {
        (Some(Json::Null), Some(_), 2) => Err("its schema is null".to_owned()),
        (Some(schema), Some(payload), 2) => Ok((schema, payload)),
        _ => Err("it is no object of just `schema` and `payload`".to_owned()),
    }
}

#[derive(Debug)]
pub struct Envelope {
    in_force: Typed,
    fields: Vec<FieldRef>,
    wrong: Wrong,
    /// The schema in force as text.
    text: String,
    follows: bool,
    /// Schemas whose new fields are left out.
    left_out: Vec<String>,
    /// By the schema of the message; the most recently used last.
    plans: Vec<(Json, Arc<Planned>)>,
}

/// How messages of one schema are read.
#[derive(Debug)]
struct Planned {
    plan: std::result::Result<Plan, String>,
    /// It has fields that are to be put in force first.
    more: Option<NewSchema>,
}

impl Envelope {
    pub fn new(spec: &Spec, follows: bool) -> Result<Envelope> {
        let refused = |why: String| {
            Error::new(
                Kind::ConfigInvalid,
                OP,
                format!("no columns can be made of the schema: {why}"),
            )
        };
        let text = spec
            .schema
            .as_deref()
            .ok_or_else(|| refused("there is none".to_owned()))?;
        let schema = Json::parse(text.as_bytes()).map_err(refused)?;
        let in_force = Typed::of_message(&schema).map_err(refused)?;
        Ok(Envelope {
            fields: in_force.columns().map_err(refused)?,
            in_force,
            wrong: spec.wrong,
            text: text.to_owned(),
            follows,
            left_out: Vec::new(),
            plans: Vec::new(),
        })
    }

    fn plan(&mut self, schema: &Json) -> Arc<Planned> {
        if let Some(at) = self.plans.iter().position(|(known, _)| known == schema) {
            let entry = self.plans.remove(at);
            let plan = entry.1.clone();
            self.plans.push(entry);
            return plan;
        }
        let plan =
            Typed::of_message(schema).and_then(|written| Plan::between(&written, &self.in_force));
        let more = match self.follows && plan.is_ok() {
            true => self.more(schema),
            false => None,
        };
        let plan = Arc::new(Planned { plan, more });
        if self.plans.len() >= PLANS {
            self.plans.remove(0);
        }
        self.plans.push((schema.clone(), plan.clone()));
        plan
    }

    fn more(&self, schema: &Json) -> Option<NewSchema> {
        let text = canonical(schema)?;
        if self.left_out.contains(&text) {
            return None;
        }
        let (_, names) = merged(Form::JsonEnvelope, &self.text, &text).ok()??;
        Some(NewSchema {
            schema: text,
            name: format!("a schema with {}", names.join(", ")),
        })
    }
}

impl Decode for Envelope {
    fn fields(&self) -> Vec<FieldRef> {
        self.fields.clone()
    }

    fn decode(&mut self, values: &[(u32, &[u8])]) -> Result<Decoded> {
        let mut builders: Vec<cell::Builder> = self
            .fields
            .iter()
            .map(|f| cell::Builder::new(f.data_type()))
            .collect();
        let (mut rows, mut rejects) = (Vec::with_capacity(values.len()), Vec::new());
        for (row, value) in values {
            let message = match Json::parse(value) {
                Ok(message) => message,
                Err(why) => {
                    rejects.push(reject(
                        *row,
                        codes::NOT_JSON,
                        None,
                        format!("no JSON: {why}"),
                    ));
                    continue;
                }
            };
            let (schema, payload) = match parts(&message) {
                Ok(parts) => parts,
                Err(why) => {
                    rejects.push(reject(*row, codes::NO_ENVELOPE, None, why));
                    continue;
                }
            };
            let plan = self.plan(schema);
            if let Some(more) = &plan.more {
                let on = On::Schema(more.clone());
                return Err(Held { from: *row, on }.error());
            }
            let plan = match &plan.plan {
                Ok(plan) => plan,
                Err(why) => {
                    let why = format!("its schema cannot be read under the one in force: {why}");
                    if self.wrong == Wrong::Stop {
                        return Err(Error::new(Kind::RecordRefused, OP, why)
                            .with("code", codes::INCOMPATIBLE_SCHEMA)
                            .hint(REMEDY));
                    }
                    rejects.push(reject(*row, codes::INCOMPATIBLE_SCHEMA, None, why));
                    continue;
                }
            };
            match plan.cells(payload) {
                Ok(cells) => {
                    for (builder, cell) in builders.iter_mut().zip(cells) {
                        builder.append(cell);
                    }
                    rows.push(*row);
                }
                Err((field, why)) => rejects.push(reject(*row, why.code, field, why.text)),
            }
        }
        let columns: Result<Vec<ArrayRef>> = builders
            .into_iter()
            .zip(&self.fields)
            .map(|(b, f)| b.finish(f.data_type()))
            .collect();
        Ok(Decoded {
            rows,
            columns: columns?,
            rejects,
        })
    }

    fn leave_out(&mut self, new: &NewSchema) {
        self.left_out.push(new.schema.clone());
        self.plans.clear();
    }
}
