//! `string` and `json`: bytes become one column of text under the same name; the others go on as they are.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::de::IgnoredAny;

use super::rows::{picked, position};
use super::{Form, Spec, codes};
use crate::chain::{Column, Identity, Output, Reject, RowMap, Table, Transform};
use crate::error::Result;

#[derive(Debug)]
pub struct Texts {
    identity: Identity,
    output: SchemaRef,
    at: usize,
    json: bool,
}

impl Texts {
    pub fn new(spec: &Spec, identity: Identity, input: SchemaRef) -> Result<Texts> {
        let at = position(&input, spec.column())?;
        let mut fields = input.fields().to_vec();
        fields[at] = Arc::new(Field::new(spec.column(), DataType::Utf8, true));
        Ok(Texts {
            identity,
            output: Arc::new(Schema::new(fields)),
            at,
            json: spec.form == Form::Json,
        })
    }

    /// Why this is no text, if it is none.
    fn refusal<'a>(&self, bytes: &'a [u8]) -> std::result::Result<&'a str, (&'static str, String)> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            (
                codes::NOT_UTF8,
                format!("not UTF-8 behind byte {}", error.valid_up_to()),
            )
        })?;
        if self.json
            && let Err(error) = serde_json::from_str::<IgnoredAny>(text)
        {
            return Err((codes::NOT_JSON, format!("no JSON: {error}")));
        }
        Ok(text)
    }
}

impl Transform for Texts {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn output_schema(&self) -> &SchemaRef {
        &self.output
    }

    fn explodes(&self) -> bool {
        false
    }

    fn counters(&self) -> &[String] {
        &[]
    }

    fn carries(&self, column: usize) -> Option<usize> {
        (column != self.at).then_some(column)
    }

    fn apply(&mut self, input: &Table) -> Result<Output> {
        let bytes = input.columns[self.at].values.as_binary::<i32>();
        let mut texts = StringBuilder::with_capacity(bytes.len(), bytes.value_data().len());
        let (mut origin, mut rejects) = (Vec::with_capacity(bytes.len()), Vec::new());
        for (row, value) in (0u32..).zip(bytes.iter()) {
            match value.map(|value| self.refusal(value)).transpose() {
                Ok(text) => {
                    texts.append_option(text);
                    origin.push(row);
                }
                Err((code, message)) => rejects.push(Reject {
                    row,
                    part: None,
                    code: code.to_owned(),
                    field: None,
                    message,
                }),
            }
        }
        let texts: ArrayRef = Arc::new(texts.finish());
        let whole = rejects.is_empty();
        let mut columns = Vec::with_capacity(input.columns.len());
        for (at, column) in input.columns.iter().enumerate() {
            columns.push(match at == self.at {
                true => Column {
                    values: texts.clone(),
                    constant: false,
                },
                false => picked(column, &origin, whole)?,
            });
        }
        Ok(Output {
            table: Table {
                schema: self.output.clone(),
                rows: origin.len(),
                columns,
            },
            rows: match whole {
                true => RowMap::Every,
                false => RowMap::Origin(origin),
            },
            rejects,
            counters: Vec::new(),
        })
    }
}
