//! The types that fields of `input!` and `output!` have, and what they are in a column: flat values, lists and structs,
//! each with nulls.
use std::fmt;
use std::rc::Rc;

use crate::builder::{Builder, ListBuilder, StructBuilder};
use crate::contract::Field;
use crate::rowwise::{InputRow, OutputRow};
use crate::scalars::{Date, Decimal, Json, Timestamp};
use crate::types::{Type, Value};
use crate::view::{self, Node, Nulls, Spans};

/// How a column of the type that was found is read as the type that is wanted. Made once, when the pipeline starts.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Of a decimal: what its unscaled values are multiplied with.
    factor: i128,
    /// Of a list its items, of a struct its fields: which node behind the own one, and how that is read.
    inside: Vec<(usize, Access)>,
}

/// One field of an `input!` struct.
#[derive(Debug)]
pub struct Wanted {
    pub name: &'static str,
    pub expected: fn() -> String,
    pub access: fn(&[Field]) -> Option<Access>,
}

/// The column of a field: `r#type` is written so because `type` is a word of Rust, and means `type`.
#[must_use]
pub fn column(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// A type that a field of an `input!` struct can have.
pub trait InputCell<'a>: Sized {
    type View;
    /// In words, for a column of another type.
    fn expected() -> String;
    /// `nodes` begins with those of the column; nothing where they are of another type.
    fn access(nodes: &[Field]) -> Option<Access>;
    fn view(node: Node<'a>, access: &Access) -> Result<Self::View, String>;
    fn get(view: &Self::View, row: usize) -> Option<Self>;
}

/// A type that a field of an `output!` struct can have.
pub trait OutputCell: Sized {
    /// The type of a column of that name.
    fn nodes(name: &str) -> Vec<Field>;
    fn builder() -> Builder;
    /// `builder` is one of `builder()`.
    fn write_to(self, builder: &mut Builder);
}

/// An item of a list that is made: a cell, or `None` for a null among the items.
pub trait OutputItem {
    type Cell: OutputCell;
    fn cell(self) -> Option<Self::Cell>;
}

impl<T: OutputCell> OutputItem for T {
    type Cell = T;

    fn cell(self) -> Option<T> {
        Some(self)
    }
}

impl<T: OutputCell> OutputItem for Option<T> {
    type Cell = T;

    fn cell(self) -> Option<T> {
        self
    }
}

/// How many nodes the first column in `nodes` has.
fn nodes_of(nodes: &[Field]) -> usize {
    let children = nodes.first().map_or(0, |field| field.children);
    (0..children).fold(1, |behind, _| {
        behind + nodes.get(behind..).map_or(1, nodes_of)
    })
}

/// The fields of a struct: name, and which node behind its own.
pub(crate) fn fields_of(nodes: &[Field]) -> Vec<(&str, usize)> {
    let children = nodes.first().map_or(0, |field| field.children);
    let mut at = 1;
    let field = |_| {
        let here = at;
        let name = nodes.get(here)?.name.as_str();
        at += nodes_of(nodes.get(here..)?);
        Some((name, here))
    };
    (0..children).map_while(field).collect()
}

/// The type of the first column in `nodes`, as configs name it.
pub fn named(nodes: &[Field]) -> String {
    let Some(field) = nodes.first() else {
        return "nothing".into();
    };
    let below = |at: usize| nodes.get(at..).map_or_else(String::new, named);
    match field.format.as_str() {
        "u" => "string".into(),
        "z" => "bytes".into(),
        "i" => "int".into(),
        "l" => "long".into(),
        "g" => "double".into(),
        "b" => "boolean".into(),
        "tdD" => "date".into(),
        "tsu:" | "tsu:UTC" => "timestamp".into(),
        "+l" => format!("list({})", below(1)),
        "+s" => {
            let fields = fields_of(nodes).into_iter();
            let fields = fields.map(|(name, at)| format!("{name} {}", below(at)));
            format!("struct({})", fields.collect::<Vec<_>>().join(", "))
        }
        other => match other.strip_prefix("d:") {
            Some(inside) => format!("decimal({inside})"),
            None => other.into(),
        },
    }
}

fn flat(nodes: &[Field], formats: &[&str]) -> Option<Access> {
    let format = nodes.first()?.format.as_str();
    formats.contains(&format).then(Access::default)
}

macro_rules! input_cells {
    ($($kind:ty, $view:ty, $expected:literal, $formats:expr, $make:ident, |$of:ident, $row:ident| $get:expr;)*) => {$(
        impl<'a> InputCell<'a> for $kind {
            type View = $view;

            fn expected() -> String {
                $expected.into()
            }

            fn access(nodes: &[Field]) -> Option<Access> {
                flat(nodes, $formats)
            }

            fn view(node: Node<'a>, _: &Access) -> Result<Self::View, String> {
                node.$make()
            }

            #[inline]
            fn get($of: &Self::View, $row: usize) -> Option<Self> {
                $get
            }
        }
    )*};
}

input_cells! {
    &'a str, view::Text<'a>, "string", &["u"], text, |view, row| view.get(row);
    &'a [u8], view::Bytes<'a>, "bytes or string", &["z", "u"], bytes, |view, row| view.get(row);
    i32, view::Fixed<'a, 4>, "int or date", &["i", "tdD"], fixed, |view, row| view.get(row);
    i64, view::Fixed<'a, 8>, "long or timestamp", &["l", "tsu:", "tsu:UTC"], fixed, |view, row| view.get(row);
    f64, view::Fixed<'a, 8>, "double", &["g"], fixed, |view, row| view.f64(row);
    bool, view::Bools<'a>, "boolean", &["b"], bools, |view, row| view.get(row);
    Date, view::Fixed<'a, 4>, "date", &["tdD"], fixed, |view, row| view.get(row).map(Date::from_days);
    Timestamp, view::Fixed<'a, 8>, "timestamp", &["tsu:", "tsu:UTC"], fixed,
        |view, row| view.get(row).map(Timestamp::from_micros);
}

impl<'a, const P: u8, const S: u8> InputCell<'a> for Decimal<P, S> {
    type View = (view::Fixed<'a, 16>, i128);

    fn expected() -> String {
        format!("decimal({P},{S}), or one with fewer digits before and behind the point")
    }

    /// Any decimal type all of whose values this one has.
    fn access(nodes: &[Field]) -> Option<Access> {
        let Type::Decimal(precision, scale) = Type::of_format(&nodes.first()?.format)? else {
            return None;
        };
        let fits = scale <= S && precision - scale <= P - S;
        fits.then(|| Access {
            factor: 10i128.pow(u32::from(S - scale)),
            inside: Vec::new(),
        })
    }

    fn view(node: Node<'a>, access: &Access) -> Result<Self::View, String> {
        Ok((node.fixed()?, access.factor))
    }

    #[inline]
    fn get((view, factor): &Self::View, row: usize) -> Option<Self> {
        Self::from_unscaled(view.get(row)?.checked_mul(*factor)?)
    }
}

/// The items of one row: a field of type `List<'a, &'a str>`, `List<'a, Decimal<18, 2>>`, `List<'a, Author<'a>>`, …
pub struct List<'a, T: InputCell<'a>> {
    items: Rc<T::View>,
    from: usize,
    to: usize,
}

impl<'a, T: InputCell<'a>> List<'a, T> {
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Item `n`, from 0; nothing where it is null, or there are fewer.
    pub fn get(&self, n: usize) -> Option<T> {
        let at = self.from.checked_add(n).filter(|at| *at < self.to)?;
        T::get(&self.items, at)
    }

    /// Each item; `None` for a null among them.
    pub fn iter(&self) -> impl Iterator<Item = Option<T>> + '_ {
        (self.from..self.to).map(|at| T::get(&self.items, at))
    }
}

impl<'a, T: InputCell<'a>> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {} items", self.len())
    }
}

/// Of a list column: where the items of each row lie, and the items of all rows.
pub struct ListView<'a, V> {
    spans: Spans<'a>,
    items: Rc<V>,
}

impl<'a, T: InputCell<'a>> InputCell<'a> for List<'a, T> {
    type View = ListView<'a, T::View>;

    fn expected() -> String {
        format!("list({})", T::expected())
    }

    fn access(nodes: &[Field]) -> Option<Access> {
        flat(nodes, &["+l"])?;
        let items = T::access(nodes.get(1..)?)?;
        Some(Access {
            factor: 1,
            inside: vec![(1, items)],
        })
    }

    fn view(node: Node<'a>, access: &Access) -> Result<Self::View, String> {
        let (spans, items) = node.list()?;
        let (_, access) = access.inside.first().ok_or("a list without items")?;
        Ok(ListView {
            spans,
            items: Rc::new(T::view(items, access)?),
        })
    }

    fn get(view: &Self::View, row: usize) -> Option<Self> {
        let (from, to) = view.spans.get(row)?;
        Some(Self {
            items: Rc::clone(&view.items),
            from,
            to,
        })
    }
}

/// Of a struct column: which rows have one, and its fields.
pub struct StructView<'a, V> {
    nulls: Nulls<'a>,
    fields: V,
}

/// `expected` of a struct that `input!` made.
pub fn expected_struct(wanted: &[Wanted]) -> String {
    let fields = wanted
        .iter()
        .map(|field| format!("{} {}", field.name, (field.expected)()));
    format!("struct({})", fields.collect::<Vec<_>>().join(", "))
}

/// `access` of a struct that `input!` made: its fields by name, in any order, among others.
pub fn access_struct(nodes: &[Field], wanted: &[Wanted]) -> Option<Access> {
    flat(nodes, &["+s"])?;
    let there = fields_of(nodes);
    let inside = wanted.iter().map(|wanted| {
        let (_, at) = there.iter().find(|(name, _)| *name == wanted.name)?;
        Some((*at, (wanted.access)(nodes.get(*at..)?)?))
    });
    Some(Access {
        factor: 1,
        inside: inside.collect::<Option<_>>()?,
    })
}

/// `view` of a struct that `input!` made.
pub fn view_struct<'a, R: InputRow<'a>>(
    node: Node<'a>,
    access: &Access,
) -> Result<StructView<'a, R::Views>, String> {
    let inside = access.inside.iter();
    let fields: Vec<_> = inside
        .map(|(at, access)| (node.child(*at), access))
        .collect();
    Ok(StructView {
        nulls: node.nulls()?,
        fields: R::views(&fields)?,
    })
}

/// `get` of a struct that `input!` made.
pub fn get_struct<'a, R: InputRow<'a>>(view: &StructView<'a, R::Views>, row: usize) -> Option<R> {
    view.nulls.index(row)?;
    Some(R::get(&view.fields, row))
}

/// A nullable node with so many children below it.
fn node(name: &str, format: &str, children: usize) -> Field {
    Field {
        format: format.into(),
        children: children as u32,
        ..Type::Text.field(name)
    }
}

macro_rules! output_cells {
    ($($kind:ty, $format:literal, $builder:ident, |$it:ident| $value:expr;)*) => {$(
        impl OutputCell for $kind {
            fn nodes(name: &str) -> Vec<Field> {
                vec![node(name, $format, 0)]
            }

            fn builder() -> Builder {
                Builder::$builder(Default::default())
            }

            #[inline]
            fn write_to(self, builder: &mut Builder) {
                let $it = self;
                builder.push($value);
            }
        }
    )*};
}

output_cells! {
    String, "u", Span, |text| Value::Text(&text);
    i32, "i", Four, |number| Value::Int(number);
    i64, "l", Eight, |number| Value::Long(number);
    f64, "g", Eight, |number| Value::Double(number);
    bool, "b", Bool, |flag| Value::Bool(flag);
    Date, "tdD", Four, |date| Value::Date(date.days());
    Timestamp, "tsu:UTC", Eight, |at| Value::Timestamp(at.micros());
}

impl<const P: u8, const S: u8> OutputCell for Decimal<P, S> {
    fn nodes(name: &str) -> Vec<Field> {
        vec![Type::Decimal(P, S).field(name)]
    }

    fn builder() -> Builder {
        Type::Decimal(P, S).builder()
    }

    #[inline]
    fn write_to(self, builder: &mut Builder) {
        builder.push(Value::Decimal(self.unscaled()));
    }
}

/// Bytes.
impl OutputCell for Vec<u8> {
    fn nodes(name: &str) -> Vec<Field> {
        vec![node(name, "z", 0)]
    }

    fn builder() -> Builder {
        Type::Text.builder()
    }

    fn write_to(self, builder: &mut Builder) {
        if let Builder::Span(bytes) = builder {
            bytes.push(&self);
        }
    }
}

impl OutputCell for Json {
    fn nodes(name: &str) -> Vec<Field> {
        vec![Field {
            extension: Some("arrow.json".into()),
            ..node(name, "u", 0)
        }]
    }

    fn builder() -> Builder {
        Type::Text.builder()
    }

    fn write_to(self, builder: &mut Builder) {
        builder.push(Value::Text(&self.0));
    }
}

/// A list.
impl<T: OutputItem> OutputCell for Vec<T> {
    fn nodes(name: &str) -> Vec<Field> {
        let mut nodes = vec![node(name, "+l", 1)];
        nodes.extend(T::Cell::nodes("item"));
        nodes
    }

    fn builder() -> Builder {
        Builder::List(Box::new(ListBuilder::new(T::Cell::builder())))
    }

    fn write_to(self, builder: &mut Builder) {
        let Builder::List(list) = builder else {
            return;
        };
        for item in self {
            match item.cell() {
                Some(cell) => cell.write_to(list.item()),
                None => list.item().push_null(),
            }
        }
        list.end();
    }
}

/// `nodes` of a struct that `output!` made.
pub fn nodes_struct<R: OutputRow>(name: &str) -> Vec<Field> {
    let fields = R::nodes();
    let mut nodes = vec![node(name, "+s", fields.len())];
    nodes.extend(fields.into_iter().flatten());
    nodes
}

/// `builder` of a struct that `output!` made.
pub fn builder_struct<R: OutputRow>() -> Builder {
    Builder::Struct(StructBuilder::new(R::builders()))
}

/// `push` of a struct that `output!` made.
pub fn push_struct<R: OutputRow>(row: R, builder: &mut Builder) {
    if let Builder::Struct(b) = builder {
        row.push(b.fields());
        b.end();
    }
}
