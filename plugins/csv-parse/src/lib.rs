//! `csv-parse`: turns CSV messages into rows. Each line is a row; a line with too many or too few fields, or a field of
//! the wrong type, is refused alone, and the others keep their numbers. If quotes do not match, the whole message is
//! refused.
mod layout;
mod split;

use csv_core::Reader;
use weir_sdk::builder::Builder;
use weir_sdk::{
    Batch, Config, MadeColumn, Output, Plan, PlannedColumn, Problem, Refusal, Rejects, RowMap,
    Setup, Transform, Type, shown,
};

use layout::Layout;
use split::{Fault, Field, Split};

/// The plugin. Between calls it keeps buffers, nothing of a row.
#[derive(Debug)]
pub struct CsvParse {
    layout: Layout,
    reader: Reader,
    /// The text of the present field.
    text: Vec<u8>,
}

const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";

/// The rows of a batch so far.
struct Rows {
    builders: Vec<Builder>,
    origin: Vec<u32>,
    rejects: Rejects,
    extra_ignored: u64,
    missing_filled: u64,
}

/// One message while it is read.
struct Message<'a> {
    row: usize,
    raw: &'a [u8],
    /// Bytes before the text: a byte order mark.
    before: usize,
    pieces: usize,
}

impl Transform for CsvParse {
    const NAME: &'static str = "csv-parse";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "CSV messages to rows: columns by position or by header, typed";
    const SCHEMA: &'static str = include_str!("schema.json");

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        let layout = Layout::read(setup, &mut config);
        config.finish()?;
        let made = layout.columns.iter();
        let made = made.map(|column| PlannedColumn::Make(vec![column.kind.field(&column.name)]));
        let carried = layout.carry.iter().copied().map(PlannedColumn::Carry);
        let plan = Plan {
            reads: layout.input.into_iter().collect(),
            output: made.chain(carried).collect(),
            explodes: true,
            counters: vec!["extra_ignored".into(), "missing_filled".into()],
        };
        let reader = layout.dialect.reader();
        Ok((
            Self {
                layout,
                reader,
                text: Vec::new(),
            },
            plan,
        ))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let messages = batch.bytes(0)?;
        let columns = self.layout.columns.iter();
        let mut rows = Rows {
            builders: columns.map(|column| column.kind.builder()).collect(),
            origin: Vec::with_capacity(batch.rows()),
            rejects: Rejects::default(),
            extra_ignored: 0,
            missing_filled: 0,
        };
        for row in 0..batch.rows() {
            let mark = (rows.origin.len(), rows.rejects.len());
            let counted = (rows.extra_ignored, rows.missing_filled);
            let raw = messages.get(row).unwrap_or_default();
            if let Err(why) = self.message(row, raw, &mut rows) {
                rows.truncate(mark.0);
                rows.rejects.truncate(mark.1);
                (rows.extra_ignored, rows.missing_filled) = counted;
                rows.rejects.row(row, why);
            }
        }
        let builders = rows.builders.iter_mut();
        let made = builders.map(|builder| builder.finish().map(MadeColumn::Made));
        Ok(Output {
            columns: made.collect::<Result<_, _>>()?,
            rows: RowMap::Origin(rows.origin),
            rejects: rows.rejects.into_vec(),
            counters: vec![rows.extra_ignored, rows.missing_filled],
        })
    }
}

impl CsvParse {
    fn message(&mut self, row: usize, raw: &[u8], rows: &mut Rows) -> Result<(), Refusal> {
        let bytes = raw.strip_prefix(UTF8_BOM).unwrap_or(raw);
        let mut message = Message {
            row,
            raw,
            before: raw.len() - bytes.len(),
            pieces: 0,
        };
        if bytes.trim_ascii().is_empty() {
            return Err(Refusal::new("empty_value", "the message is empty"));
        }
        if let Err(e) = str::from_utf8(bytes) {
            let at = message.place(e.valid_up_to());
            let why = format!("{at}: bytes that are not UTF-8");
            return Err(Refusal::new("not_utf8", why));
        }
        if self.text.len() <= bytes.len() {
            self.text.resize(bytes.len() + 1, 0);
        }
        let layout = &self.layout;
        let mut split = Split::new(&layout.dialect, &mut self.reader, bytes);
        let headed = match layout.header_line {
            true => Some(header(layout, &mut split, &mut self.text, &message)?),
            false => None,
        };
        let fields = headed.as_ref().unwrap_or(&layout.fields);
        while line(
            layout,
            fields,
            &mut split,
            &mut self.text,
            &mut message,
            rows,
        )? {
            if message.pieces > layout.max_rows {
                let why = format!("more than {} lines (max-rows)", layout.max_rows);
                return Err(Refusal::new("too_many_rows", why));
            }
        }
        match message.pieces {
            0 => Err(Refusal::new("no_rows", "no line but the header")),
            _ => Ok(()),
        }
    }
}

/// One line becomes a row or a refused piece; false at the end of the message.
fn line(
    layout: &Layout,
    fields: &[Option<usize>],
    split: &mut Split<'_>,
    text: &mut [u8],
    message: &mut Message<'_>,
    rows: &mut Rows,
) -> Result<bool, Refusal> {
    let begins = split.line();
    let before = (rows.origin.len(), rows.rejects.len());
    let (mut count, mut filled) = (0, 0);
    loop {
        let field = split.next(text).map_err(|fault| message.fault(fault))?;
        let Some(field) = field else {
            return Ok(false);
        };
        match fields.get(count) {
            Some(Some(column)) => {
                let text = &text[..field.len];
                value(layout, *column, field, text, message, rows);
                filled += 1;
            }
            Some(None) => {}
            None if count == fields.len() && layout.refuse_extra => {
                let at = message.place(field.from);
                let why = format!("{at}: expected {count} fields, found more");
                message.refuse(Refusal::new("extra_fields", why), rows);
            }
            None => rows.extra_ignored += u64::from(!layout.refuse_extra),
        }
        count += 1;
        if field.last {
            break;
        }
    }
    if count < fields.len() && layout.refuse_missing {
        let (at, expected) = (message.place(begins), fields.len());
        let why = format!("{at}: expected {expected} fields, found {count}");
        message.refuse(Refusal::new("missing_fields", why), rows);
    }
    message.pieces += 1;
    rows.origin.push(message.row as u32);
    if rows.rejects.len() > before.1 {
        rows.truncate(before.0);
        return Ok(true);
    }
    if filled == layout.columns.len() {
        return Ok(true);
    }
    for (n, builder) in rows.builders.iter_mut().enumerate() {
        if !fields.iter().take(count).any(|field| *field == Some(n)) {
            builder.push_null();
            rows.missing_filled += 1;
        }
    }
    Ok(true)
}

fn value(
    layout: &Layout,
    column: usize,
    field: Field,
    text: &[u8],
    message: &Message<'_>,
    rows: &mut Rows,
) {
    let (builder, column) = (&mut rows.builders[column], &layout.columns[column]);
    if let Some(at) = field.bare_quote {
        let at = message.place(at);
        let why = format!(
            "{at}: a quote inside a field that does not begin with one; \
             double it inside quotes, or set quote = \"\" where it means nothing"
        );
        builder.push_null();
        message.refuse(Refusal::of_field("bare_quote", &column.name, why), rows);
        return;
    }
    let means_null = layout.null_value.as_deref() == Some(text) && !field.quoted;
    match (&column.kind, builder) {
        (_, builder) if means_null => builder.push_null(),
        (Type::Text, Builder::Span(builder)) => builder.push(text),
        (_, builder) if text.is_empty() => builder.push_null(),
        (kind, builder) => {
            let is_plain = !layout.plain_numbers || is_plain(kind, text);
            match kind.read(text).filter(|_| is_plain) {
                Some(value) => builder.push(value),
                None => {
                    builder.push_null();
                    let (at, found) = (message.place(field.from), shown(text));
                    let expected = match is_plain {
                        true => kind.expected(text),
                        false => format!("{kind} without `+` or zeros before it (numbers = plain)"),
                    };
                    let why = format!("{at}: found {found}, expected {expected}");
                    message.refuse(Refusal::of_field(kind.code(), &column.name, why), rows);
                }
            }
        }
    }
}

/// Whether nothing stands before a number that is lost when it is one: `+`, or a zero before another digit.
fn is_plain(kind: &Type, text: &[u8]) -> bool {
    match kind {
        Type::Int | Type::Long | Type::Double | Type::Decimal(..) => {
            let digits = text.strip_prefix(b"-").unwrap_or(text);
            !matches!(digits, [b'+', ..] | [b'0', b'0'..=b'9', ..])
        }
        Type::Text | Type::Bool | Type::Date(_) | Type::Timestamp(_) => true,
    }
}

/// Reads a header line: what field n of this message's lines is.
fn header(
    layout: &Layout,
    split: &mut Split<'_>,
    text: &mut [u8],
    message: &Message<'_>,
) -> Result<Vec<Option<usize>>, Refusal> {
    let begins = split.line();
    let mut fields: Vec<Option<usize>> = Vec::new();
    let refuse = |at: usize, name: Option<&str>, why: &str| {
        Err(Refusal {
            code: "bad_header",
            field: name.map(str::to_owned),
            message: format!("{}: {why}", message.place(at)),
        })
    };
    while let Some(field) = split.next(text).map_err(|fault| message.fault(fault))? {
        let name = &text[..field.len];
        let known = layout.columns.iter();
        let known = known.enumerate().find(|(_, c)| c.header.as_bytes() == name);
        match known {
            Some((n, column)) if fields.contains(&Some(n)) => {
                return refuse(field.from, Some(&column.name), "this column is named twice");
            }
            None if layout.refuse_extra => {
                let why = format!("{} is no known column", shown(name));
                return refuse(field.from, None, &why);
            }
            known => fields.push(known.map(|(n, _)| n)),
        }
        if field.last {
            break;
        }
    }
    let absent = (0..layout.columns.len()).find(|n| !fields.contains(&Some(*n)));
    match absent.map(|n| &layout.columns[n]) {
        Some(column) if layout.refuse_missing => {
            let why = format!("no field is called `{}`", column.header);
            refuse(begins, Some(&column.name), &why)
        }
        _ => Ok(fields),
    }
}

impl Message<'_> {
    fn refuse(&self, why: Refusal, rows: &mut Rows) {
        rows.rejects.part(self.row, self.pieces, why);
    }

    fn fault(&self, fault: Fault) -> Refusal {
        let why = match fault {
            Fault::OpenQuote(at) => format!("{}: this quote is never closed", self.place(at)),
            Fault::AfterQuote(at) => format!(
                "{}: expected a separator or the end of the line after a closing quote",
                self.place(at)
            ),
        };
        Refusal::new("malformed_csv", why)
    }

    /// As people count: lines and columns (in bytes) from 1.
    fn place(&self, at: usize) -> String {
        let before = &self.raw[..(self.before + at).min(self.raw.len())];
        let mut line = 1;
        let mut begins = self.before;
        for (n, byte) in before.iter().enumerate() {
            let lone = *byte == b'\r' && self.raw.get(n + 1) != Some(&b'\n');
            if *byte == b'\n' || lone {
                line += 1;
                begins = n + 1;
            }
        }
        let column = before.len() - begins + 1;
        format!("line {line}, column {column}")
    }
}

impl Rows {
    fn truncate(&mut self, rows: usize) {
        self.origin.truncate(rows);
        self.builders.iter_mut().for_each(|b| b.truncate(rows));
    }
}

weir_sdk::export!(CsvParse);
