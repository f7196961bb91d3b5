//! Avro values by their writer's schema, read under the schema in force by Avro's own rules. Files of Avro are written in `zone`.
//!
//! A decoder that found bad bytes has half a row in it: the good values before them are read again by a new one, so that one bad
//! value costs at most twice the time of its neighbours.

mod alike;
mod expand;
mod frugal;
pub mod resolve;
pub mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow_avro::reader::{Decoder, DecoderMode, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use arrow_schema::FieldRef;
use arrow_select::concat::concat;
use arrow_select::filter::filter_record_batch;
use serde_json::Value;

use super::rows::{Decode, Decoded, reject, taken};
use super::schemas::{Found, Looked, Schemas};
use super::{Around, Form, REMEDY, Spec, Wrong, codes, fit, merged};
use crate::chain::{Held, NewSchema, On, Reject};
use crate::error::{Error, Kind, Result};

const OP: &str = "convert.avro";
/// Values between two flushes of a decoder.
const ROWS: usize = 4096;
/// The number under which the one schema of a decoder is registered in it.
const ONLY: Fingerprint = Fingerprint::Id(0);
/// Confluent's first byte.
const MAGIC: u8 = 0;
/// Ids are Java's `int`. To a larger number a registry answers as to a path that it does not have, which is waited for.
const ID_MAX: u32 = i32::MAX as u32;
/// Decoders that are kept, one for each schema of a writer.
const DECODERS: usize = 64;
/// Types of all of them: each has buffers of about 8 KiB.
const TYPES: u64 = 20_000;

/// The columns of a schema; `Err` says why there are none.
pub fn columns(schema: &str) -> std::result::Result<Vec<FieldRef>, String> {
    let (schema, _) = expand::checked(schema)?;
    frugal::rows(&schema)?;
    frugal::items(&schema, &schema)?;
    let decoder = decoder(&schema.to_string(), None)?;
    let fields = decoder.schema();
    fields
        .fields()
        .iter()
        .map(|f| fit::field(f).map(Arc::new))
        .collect()
}

fn decoder(writer: &str, reader: Option<&str>) -> std::result::Result<Decoder, String> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    let set = store.set(ONLY, AvroSchema::new(writer.to_owned()));
    set.map_err(|error| error.to_string())?;
    let mut builder = ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_active_fingerprint(ONLY)
        .with_decoder_mode(DecoderMode::UnframedDatum)
        .with_batch_size(ROWS);
    if let Some(reader) = reader.filter(|reader| *reader != writer) {
        builder = builder.with_reader_schema(AvroSchema::new(reader.to_owned()));
    }
    builder
        .build_decoder()
        .map_err(|error| plain(&error.to_string()))
}

/// The library's words for its own parts say nothing to a reader.
fn plain(message: &str) -> String {
    let mut message = message;
    for prefix in [
        "Parser error: ",
        "Schema error: ",
        "EOF: ",
        "Arrow: ",
        "Invalid argument error: ",
    ] {
        message = message.strip_prefix(prefix).unwrap_or(message);
    }
    message.to_owned()
}

/// A schema of a writer, ready to be read.
struct Writer {
    schema: Arc<str>,
    /// The same without references, and the one in force, as the decoder takes them.
    expanded: String,
    reader: String,
    types: u64,
    decoder: Decoder,
    /// It has fields that the schema in force lacks, and these are to be put in force first.
    has_more: bool,
}

pub struct Avro {
    /// In force.
    schema: Arc<str>,
    /// The same without references.
    expanded: Value,
    fields: Vec<FieldRef>,
    framed: bool,
    wrong: Wrong,
    schemas: Option<Schemas>,
    follows: bool,
    /// Schemas whose new fields are left out.
    left_out: Vec<String>,
    /// The most recently used last. An error says why the schema cannot be read.
    writers: Vec<(u32, std::result::Result<Writer, String>)>,
}

impl fmt::Debug for Avro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Avro")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// Values by the ids of their schemas, with the numbers of their rows.
type Groups<'v> = BTreeMap<u32, Vec<(u32, &'v [u8])>>;

fn first(groups: &Groups<'_>, id: u32) -> Option<u32> {
    groups.get(&id)?.first().map(|(row, _)| *row)
}

/// What stands in a value: the id of its schema, and where its own bytes begin.
pub fn framed(value: &[u8]) -> std::result::Result<(u32, &[u8]), String> {
    match value {
        [MAGIC, a, b, c, d, rest @ ..] => match u32::from_be_bytes([*a, *b, *c, *d]) {
            id @ 0..=ID_MAX => Ok((id, rest)),
            id => Err(format!(
                "the id of its schema would be {id}, and ids go up to {ID_MAX}"
            )),
        },
        [MAGIC, ..] => Err("it ends inside the id of its schema".to_owned()),
        [first, ..] => Err(format!(
            "it begins with 0x{first:02x}, expected a zero byte and the id of its schema"
        )),
        [] => Err("it is empty, expected a zero byte and the id of its schema".to_owned()),
    }
}

impl Avro {
    pub fn new(spec: &Spec, around: Around<'_>) -> Result<Avro> {
        let refused = |why: String| {
            Error::new(
                Kind::ConfigInvalid,
                OP,
                format!("no columns can be made of the schema: {why}"),
            )
        };
        let schema = spec
            .schema
            .as_deref()
            .ok_or_else(|| refused("there is none".to_owned()))?;
        let schemas = match (spec.framed, around.registry) {
            (false, _) => None,
            (true, Some(registry)) => Some(Schemas::new(registry, around.store)?),
            (true, None) => return Err(refused("there is no `schema.registry.url`".to_owned())),
        };
        let fields = columns(schema).map_err(refused)?;
        let (expanded, _) = expand::checked(schema).map_err(refused)?;
        Ok(Avro {
            schema: schema.into(),
            expanded,
            fields,
            framed: spec.framed,
            wrong: spec.wrong,
            schemas,
            follows: around.follows,
            left_out: Vec::new(),
            writers: Vec::new(),
        })
    }

    /// The values of each schema, by its id; and refusals of those that name none.
    fn grouped<'v>(&self, values: &[(u32, &'v [u8])], rejects: &mut Vec<Reject>) -> Groups<'v> {
        let mut groups = Groups::new();
        for (row, value) in values {
            match self.framed {
                false => groups.entry(0).or_default().push((*row, value)),
                true => match framed(value) {
                    Ok((id, rest)) => groups.entry(id).or_default().push((*row, rest)),
                    Err(why) => rejects.push(reject(*row, codes::NO_SCHEMA_ID, None, why)),
                },
            }
        }
        groups
    }

    /// Has a decoder for each of these; ids of which nothing is known are left out. `Err` waits.
    fn ready(&mut self, ids: &[u32]) -> Result<()> {
        if self.schemas.is_none() && self.writers.is_empty() {
            let schema = self.schema.clone();
            self.writers.push((0, self.writer(&schema)));
        }
        for id in ids {
            if let Some(at) = self.writers.iter().position(|(known, _)| known == id) {
                let entry = self.writers.remove(at);
                self.writers.push(entry);
                continue;
            }
            let Some(schemas) = &mut self.schemas else {
                continue;
            };
            let writer = match schemas.get(*id)? {
                Found::Schema(text) => self.writer(&text),
                Found::Other(why) => Err(why),
                Found::Unknown(_) => continue,
            };
            self.keeps(*id, writer);
        }
        Ok(())
    }

    /// Looks up the schemas of all ids before the first value is read, so that ids which nobody knows wait together.
    fn look_up(&mut self, groups: &Groups<'_>) -> Result<Looked> {
        let Some(schemas) = &mut self.schemas else {
            return Ok(Looked::default());
        };
        let is_new = |id: &u32| !self.writers.iter().any(|(known, _)| known == id);
        let new: Vec<u32> = groups.keys().copied().filter(is_new).collect();
        schemas.look_up(&new)
    }

    fn writer(&self, text: &Arc<str>) -> std::result::Result<Writer, String> {
        let (mut expanded, types) = expand::checked(text)?;
        resolve::shares_a_column(&expanded, &self.expanded)?;
        let mut reader = self.expanded.clone();
        alike::made(&mut expanded, &mut reader);
        resolve::same_meaning(&expanded, &reader)?;
        frugal::items(&expanded, &reader)?;
        let (expanded, reader) = (expanded.to_string(), reader.to_string());
        let decoder = decoder(&expanded, Some(&reader))?;
        let follows = self.follows && !self.left_out.iter().any(|known| **known == **text);
        let more = match follows && **text != *self.schema {
            true => merged(Form::Avro, &self.schema, text)?,
            false => None,
        };
        Ok(Writer {
            schema: text.clone(),
            expanded,
            reader,
            types,
            decoder,
            has_more: more.is_some(),
        })
    }

    /// The least recently used ones go where there are too many.
    fn keeps(&mut self, id: u32, writer: std::result::Result<Writer, String>) {
        let types = |writer: &std::result::Result<Writer, String>| match writer {
            Ok(writer) => writer.types,
            Err(_) => 0,
        };
        let mut all: u64 = self.writers.iter().map(|(_, of)| types(of)).sum();
        all += types(&writer);
        while self.writers.len() >= DECODERS || all > TYPES && !self.writers.is_empty() {
            let (_, gone) = self.writers.remove(0);
            all -= types(&gone);
        }
        self.writers.push((id, writer));
    }
}

impl Decode for Avro {
    fn fields(&self) -> Vec<FieldRef> {
        self.fields.clone()
    }

    fn decode(&mut self, values: &[(u32, &[u8])]) -> Result<Decoded> {
        let mut rejects = Vec::new();
        let groups = self.grouped(values, &mut rejects);
        let mut rows: Vec<u32> = Vec::with_capacity(values.len());
        let mut pieces: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.fields.len()];
        let looked = self.look_up(&groups)?;
        if let Some(error) = &looked.error
            && let Some(from) = looked
                .waits
                .iter()
                .filter_map(|id| first(&groups, *id))
                .min()
        {
            let on = On::Fault(error.again());
            return Err(Held { from, on }.error());
        }
        for (id, why) in &looked.unknown {
            let group = groups.get(id).into_iter().flatten();
            rejects.extend(group.map(|(row, _)| reject(*row, codes::UNKNOWN_SCHEMA, None, why)));
        }
        let known = |id: &u32| !looked.unknown.contains_key(id);
        let ids: Vec<u32> = groups.keys().copied().filter(known).collect();
        for ids in ids.chunks(DECODERS) {
            self.ready(ids)?;
            self.may_go_on(&groups, ids)?;
            for id in ids {
                let group = groups.get(id).map_or(&[][..], Vec::as_slice);
                // Another one of these may have taken its place.
                self.ready(&[*id])?;
                self.may_go_on(&groups, &[*id])?;
                self.group(*id, group, &mut rows, &mut pieces, &mut rejects)?;
            }
        }
        let columns = in_order(&self.fields, &mut rows, pieces)?;
        Ok(Decoded {
            rows,
            columns,
            rejects,
        })
    }

    fn leave_out(&mut self, new: &NewSchema) {
        self.left_out.push(new.schema.clone());
        for (_, writer) in self.writers.iter_mut() {
            if let Ok(writer) = writer
                && *writer.schema == *new.schema
            {
                writer.has_more = false;
            }
        }
    }
}

impl Avro {
    /// `Err`: from some record on, the values wait for other rules.
    fn may_go_on(&self, groups: &Groups<'_>, ids: &[u32]) -> Result<()> {
        let more = ids.iter().filter_map(|id| {
            let (_, writer) = self.writers.iter().find(|(known, _)| known == id)?;
            let writer = writer.as_ref().ok().filter(|writer| writer.has_more)?;
            Some((first(groups, *id)?, *id, writer.schema.to_string()))
        });
        match more.min() {
            Some((from, id, schema)) => Err(Held {
                from,
                on: On::Schema(NewSchema {
                    schema,
                    name: format!("schema {id}"),
                }),
            }
            .error()),
            None => Ok(()),
        }
    }

    /// Reads the values of one schema.
    fn group(
        &mut self,
        id: u32,
        group: &[(u32, &[u8])],
        rows: &mut Vec<u32>,
        pieces: &mut [Vec<ArrayRef>],
        rejects: &mut Vec<Reject>,
    ) -> Result<()> {
        let at = self.writers.iter().position(|(known, _)| *known == id);
        let Some(mut entry) = at.map(|at| self.writers.remove(at)) else {
            return Err(Error::new(
                Kind::Bug,
                OP,
                format!("schema {id} was looked up and is not there"),
            ));
        };
        match &mut entry.1 {
            Ok(writer) => {
                let read = Reading {
                    fields: &self.fields,
                    rows,
                    pieces,
                    rejects,
                };
                read.all(writer, group)?;
            }
            Err(why) => {
                let why = match self.framed {
                    true => format!("schema {id} cannot be read under the one in force: {why}"),
                    false => why.clone(),
                };
                if self.wrong == Wrong::Stop {
                    return Err(Error::new(Kind::RecordRefused, OP, why)
                        .with("code", codes::INCOMPATIBLE_SCHEMA)
                        .hint(format!(
                            "{REMEDY}; a schema that can be read, or that has the other name of a renamed field as an alias: value.schema.file"
                        )));
                }
                rejects.extend(
                    group
                        .iter()
                        .map(|(row, _)| reject(*row, codes::INCOMPATIBLE_SCHEMA, None, &*why)),
                );
            }
        }
        self.writers.push(entry);
        Ok(())
    }
}

/// Where the values of a batch go.
struct Reading<'a> {
    fields: &'a [FieldRef],
    rows: &'a mut Vec<u32>,
    pieces: &'a mut [Vec<ArrayRef>],
    rejects: &'a mut Vec<Reject>,
}

impl Reading<'_> {
    fn all(mut self, writer: &mut Writer, group: &[(u32, &[u8])]) -> Result<()> {
        let (mut from, mut at) = (0, 0);
        while let Some((row, value)) = group.get(at) {
            match whole(&mut writer.decoder, value) {
                Ok(()) => at += 1,
                Err(why) => {
                    self.rejects
                        .push(reject(*row, codes::NOT_DECODABLE, None, why));
                    self.again(writer, &group[from..at])?;
                    at += 1;
                    from = at;
                    continue;
                }
            }
            if at - from == ROWS {
                self.flush(writer, &group[from..at])?;
                from = at;
            }
        }
        self.flush(writer, &group[from..])
    }

    /// Reads values that are good with a new decoder.
    fn again(&mut self, writer: &mut Writer, good: &[(u32, &[u8])]) -> Result<()> {
        writer.decoder = decoder(&writer.expanded, Some(&writer.reader))
            .map_err(|why| Error::new(Kind::Bug, OP, why))?;
        for (_, value) in good {
            whole(&mut writer.decoder, value)
                .map_err(|why| Error::new(Kind::Bug, OP, format!("read before: {why}")))?;
        }
        self.flush(writer, good)
    }

    /// Takes the rows of these values out of the decoder. If no rows come of some of them, halves are read again until these are alone.
    fn flush(&mut self, writer: &mut Writer, values: &[(u32, &[u8])]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        match self.fitted(writer) {
            Ok(fitted) => {
                self.keep(fitted, values);
                Ok(())
            }
            Err(_) if values.len() > 1 => {
                let (first, second) = values.split_at(values.len() / 2);
                self.again(writer, first)?;
                self.again(writer, second)
            }
            Err((code, why)) => {
                writer.decoder = decoder(&writer.expanded, Some(&writer.reader))
                    .map_err(|why| Error::new(Kind::Bug, OP, why))?;
                self.rejects.extend(
                    values
                        .iter()
                        .map(|(row, _)| reject(*row, code, None, &*why)),
                );
                Ok(())
            }
        }
    }

    fn fitted(&self, writer: &mut Writer) -> std::result::Result<Fitted, Misread> {
        let bad = |why: String| (codes::NOT_DECODABLE, plain(&why));
        let flushed: Option<RecordBatch> =
            writer.decoder.flush().map_err(|e| bad(e.to_string()))?;
        let batch = flushed.ok_or_else(|| bad("no row came of it".to_owned()))?;
        let named = batch.schema();
        if !named
            .fields()
            .iter()
            .map(|f| f.name())
            .eq(self.fields.iter().map(|f| f.name()))
        {
            return Err(bad("its columns are not those in force".to_owned()));
        }
        let mut misfits = BTreeMap::new();
        if let Ok(columns) = self.columns(&batch)? {
            return Ok(Fitted { columns, misfits });
        }
        for (values, to) in batch.columns().iter().zip(self.fields) {
            let bad = fit::misfits(values, to).map_err(|e| bad(e.one_line()))?;
            for (at, _) in bad.iter().enumerate().filter(|(_, bad)| **bad) {
                misfits.entry(at).or_insert_with(|| fit::no_place(to));
            }
        }
        let fits = (0..batch.num_rows()).map(|at| Some(!misfits.contains_key(&at)));
        let rest = filter_record_batch(&batch, &BooleanArray::from_iter(fits));
        let rest = rest.map_err(|e| bad(e.to_string()))?;
        let columns = self.columns(&rest)?;
        let columns = columns.map_err(|why| (codes::OUT_OF_RANGE, why))?;
        Ok(Fitted { columns, misfits })
    }

    /// The inner `Err`: a value has no place in its column.
    fn columns(
        &self,
        batch: &RecordBatch,
    ) -> std::result::Result<std::result::Result<Vec<ArrayRef>, String>, Misread> {
        let mut columns = Vec::with_capacity(self.fields.len());
        for (values, to) in batch.columns().iter().zip(self.fields) {
            let bad = |e: Error| (codes::NOT_DECODABLE, plain(&e.one_line()));
            match fit::column(values, to).map_err(bad)? {
                Some(column) => columns.push(column),
                None => return Ok(Err(fit::no_place(to))),
            }
        }
        Ok(Ok(columns))
    }

    fn keep(&mut self, fitted: Fitted, values: &[(u32, &[u8])]) {
        let rows = values.iter().map(|(row, _)| *row);
        match fitted.misfits.is_empty() {
            true => self.rows.extend(rows),
            false => {
                for (at, row) in rows.enumerate() {
                    match fitted.misfits.get(&at) {
                        None => self.rows.push(row),
                        Some(why) => {
                            let refused = reject(row, codes::OUT_OF_RANGE, None, why);
                            self.rejects.push(refused);
                        }
                    }
                }
            }
        }
        for (all, column) in self.pieces.iter_mut().zip(fitted.columns) {
            all.push(column);
        }
    }
}

/// Code and reason.
type Misread = (&'static str, String);

/// What came of some values.
struct Fitted {
    /// Rows of those that fit.
    columns: Vec<ArrayRef>,
    /// The others, by their numbers among these values, with the reason.
    misfits: BTreeMap<usize, String>,
}

/// One value, to its last byte.
fn whole(decoder: &mut Decoder, value: &[u8]) -> std::result::Result<(), String> {
    match decoder.decode(value) {
        Ok(read) if read == value.len() => Ok(()),
        Ok(read) => Err(format!("{} bytes are left behind it", value.len() - read)),
        Err(error) => Err(plain(&error.to_string())),
    }
}

/// Joins the columns, and puts the rows of several schemas into the order of their records.
fn in_order(
    fields: &[FieldRef],
    rows: &mut [u32],
    pieces: Vec<Vec<ArrayRef>>,
) -> Result<Vec<ArrayRef>> {
    let bug = |error: arrow_schema::ArrowError| {
        Error::new(Kind::Bug, OP, "rows cannot be joined").source(error)
    };
    let mut columns = Vec::with_capacity(fields.len());
    for (field, mut parts) in fields.iter().zip(pieces) {
        columns.push(match parts.len() {
            0 => arrow_array::new_empty_array(field.data_type()),
            1 => parts.remove(0),
            _ => {
                let parts: Vec<&dyn arrow_array::Array> = parts.iter().map(AsRef::as_ref).collect();
                concat(&parts).map_err(bug)?
            }
        });
    }
    if rows.is_sorted() {
        return Ok(columns);
    }
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_by_key(|at| rows[*at as usize]);
    rows.sort_unstable();
    let order = UInt32Array::from(order);
    columns.iter().map(|column| taken(column, &order)).collect()
}
