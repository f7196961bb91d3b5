//! The simple layer: a function of one row, a struct for the columns it reads and a struct for those it makes. All
//! other columns are carried without being passed to it.
use crate::builder::Builder;
use crate::contract::{Field, MadeColumn, Output, Plan, PlannedColumn, Problem, RowMap, Setup};
use crate::types::{Type, Value};
use crate::view::{self, Batch};
use crate::{Config, Refusal, Rejects, Transform};

/// A plugin that sees one row at a time. `export!(Rowwise<MyPlugin>)` makes it a component.
pub trait RowPlugin: Sized {
    const NAME: &'static str;
    const VERSION: &'static str;
    const SUMMARY: &'static str;
    /// JSON Schema of the config.
    const SCHEMA: &'static str;
    /// Whether one row may become several. One transform of a chain may.
    const EXPLODES: bool = false;
    /// Made with `input!`.
    type In<'a>: InputRow<'a>;
    /// Made with `output!`.
    type Out: OutputRow;

    /// Reads the config; problems go to it too.
    fn new(config: &mut Config) -> Self;

    /// A pure function of `row`. If it calls neither `give` nor `refuse`, the row is filtered.
    fn row(&self, row: Self::In<'_>, out: &mut Rows<Self::Out>);
}

/// What `input!` writes.
pub trait InputRow<'a>: Sized {
    type Views;
    /// Name and accepted formats of each column.
    fn columns() -> Vec<(&'static str, &'static [&'static str])>;
    fn views(batch: &'a Batch) -> Result<Self::Views, String>;
    fn get(views: &Self::Views, row: usize) -> Self;
}

/// What `output!` writes.
pub trait OutputRow {
    fn columns() -> Vec<(&'static str, Type)>;
    fn push(self, builders: &mut [Builder]);
}

/// A type that a field of an `input!` struct can have.
pub trait InputCell<'a>: Sized {
    const FORMATS: &'static [&'static str];
    type View;
    fn view(batch: &'a Batch, n: usize) -> Result<Self::View, String>;
    fn get(view: &Self::View, row: usize) -> Option<Self>;
}

/// A type that a field of an `output!` struct can have.
pub trait OutputCell {
    const TYPE: Type;
    fn value(&self) -> Value<'_>;
}

/// Where the rows of a batch go.
#[derive(Debug)]
pub struct Rows<R> {
    builders: Vec<Builder>,
    origin: Vec<u32>,
    rejects: Rejects,
    row: usize,
    pieces: usize,
    refused: bool,
    kind: std::marker::PhantomData<R>,
}

impl<R: OutputRow> Rows<R> {
    /// The row goes on, with these columns.
    pub fn give(&mut self, made: R) {
        made.push(&mut self.builders);
        self.origin.push(self.row as u32);
        self.pieces += 1;
    }

    /// Refuses the whole row: its rows are taken back. It may have several reasons.
    pub fn refuse(&mut self, code: &'static str, field: &str, message: impl Into<String>) {
        self.refused = true;
        self.rejects
            .row(self.row, Refusal::of_field(code, field, message));
    }

    /// Refuses only the piece that would come next; the others stay and keep their numbers.
    pub fn refuse_piece(&mut self, code: &'static str, field: &str, message: impl Into<String>) {
        self.rejects.part(
            self.row,
            self.pieces,
            Refusal::of_field(code, field, message),
        );
        self.pieces += 1;
    }
}

/// A `RowPlugin` as a `Transform`.
#[derive(Debug)]
pub struct Rowwise<P>(P);

impl<P: RowPlugin> Transform for Rowwise<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: &'static str = P::VERSION;
    const SUMMARY: &'static str = P::SUMMARY;
    const SCHEMA: &'static str = P::SCHEMA;

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        let plugin = P::new(&mut config);
        let mut reads = Vec::new();
        for (name, formats) in P::In::columns() {
            let known = |nodes: &Vec<Field>| nodes.first().is_some_and(|f| f.name == name);
            match setup.input.iter().position(known) {
                Some(n) if formats.contains(&setup.input[n][0].format.as_str()) => {
                    reads.push(n as u32);
                }
                found => {
                    let found = found.map_or("none", |n| setup.input[n][0].format.as_str());
                    let expected = formats.join(" or ");
                    let message =
                        format!("column `{name}`: expected format {expected}, found {found}");
                    config.problem("", "bad_input", message);
                }
            }
        }
        config.finish()?;
        let made = P::Out::columns();
        let replaced = |nodes: &[Field]| made.iter().any(|(name, _)| *name == nodes[0].name);
        let carried = (0..setup.input.len()).filter(|n| !replaced(&setup.input[*n]));
        let carried = carried.map(|n| PlannedColumn::Carry(n as u32));
        let makes = made
            .iter()
            .map(|(name, kind)| PlannedColumn::Make(vec![kind.field(name)]));
        let output = carried.chain(makes).collect();
        Ok((
            Self(plugin),
            Plan {
                reads,
                output,
                explodes: P::EXPLODES,
                counters: Vec::new(),
            },
        ))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let views = P::In::views(batch)?;
        let mut out = Rows::<P::Out> {
            builders: P::Out::columns()
                .iter()
                .map(|(_, kind)| kind.builder())
                .collect(),
            origin: Vec::with_capacity(batch.rows()),
            rejects: Rejects::default(),
            row: 0,
            pieces: 0,
            refused: false,
            kind: std::marker::PhantomData,
        };
        for row in 0..batch.rows() {
            let before = out.origin.len();
            out.row = row;
            out.pieces = 0;
            out.refused = false;
            self.0.row(P::In::get(&views, row), &mut out);
            if out.refused {
                out.origin.truncate(before);
                out.builders.iter_mut().for_each(|b| b.truncate(before));
            }
            if out.pieces > 1 && !P::EXPLODES {
                return Err("a row became several, but EXPLODES is false".into());
            }
        }
        let columns = out
            .builders
            .iter_mut()
            .map(|b| b.finish().map(MadeColumn::Made));
        Ok(Output {
            columns: columns.collect::<Result<_, _>>()?,
            rows: RowMap::Origin(out.origin),
            rejects: out.rejects.into_vec(),
            counters: Vec::new(),
        })
    }
}

/// The columns a row plugin reads, by name: `input! { struct In<'a> { title: &'a str, year: i32 } }`.
/// Each field becomes an `Option`: nothing is null.
#[macro_export]
macro_rules! input {
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$a:lifetime> {
        $($field:ident: $kind:ty),* $(,)?
    }) => {
        $(#[$meta])*
        $vis struct $name<$a> {
            $($vis $field: Option<$kind>,)*
            #[doc(hidden)]
            lifetime: ::std::marker::PhantomData<&$a ()>,
        }

        impl<$a> $crate::rowwise::InputRow<$a> for $name<$a> {
            type Views = ($(<$kind as $crate::rowwise::InputCell<$a>>::View,)*);

            fn columns() -> Vec<(&'static str, &'static [&'static str])> {
                vec![$((
                    stringify!($field),
                    <$kind as $crate::rowwise::InputCell<$a>>::FORMATS,
                )),*]
            }

            fn views(batch: &$a $crate::Batch) -> Result<Self::Views, String> {
                let mut columns = 0..;
                let mut next = || columns.next().unwrap_or_default();
                Ok(($(<$kind as $crate::rowwise::InputCell<$a>>::view(batch, next())?,)*))
            }

            fn get(views: &Self::Views, row: usize) -> Self {
                let ($($field,)*) = views;
                Self {
                    $($field: <$kind as $crate::rowwise::InputCell<$a>>::get($field, row),)*
                    lifetime: ::std::marker::PhantomData,
                }
            }
        }
    };
}

/// The columns a row plugin makes: `output! { struct Out { decade: i32 } }`. Each field becomes an `Option`.
#[macro_export]
macro_rules! output {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$meta])*
        $vis struct $name {
            $($vis $field: Option<$kind>,)*
        }

        impl $crate::rowwise::OutputRow for $name {
            fn columns() -> Vec<(&'static str, $crate::Type)> {
                vec![$((
                    stringify!($field),
                    <$kind as $crate::rowwise::OutputCell>::TYPE,
                )),*]
            }

            fn push(self, builders: &mut [$crate::builder::Builder]) {
                let mut builders = builders.iter_mut();
                $(
                    if let Some(builder) = builders.next() {
                        match &self.$field {
                            Some(cell) => {
                                builder.push($crate::rowwise::OutputCell::value(cell));
                            }
                            None => builder.push_null(),
                        }
                    }
                )*
            }
        }
    };
}

macro_rules! cells {
    ($($kind:ty, $view:ty, $formats:expr, $make:ident, $get:ident, $of:ident;)*) => {$(
        impl<'a> InputCell<'a> for $kind {
            const FORMATS: &'static [&'static str] = $formats;
            type View = $view;

            fn view(batch: &'a Batch, n: usize) -> Result<Self::View, String> {
                batch.$make(n)
            }

            fn get(view: &Self::View, row: usize) -> Option<Self> {
                view.$get(row)
            }
        }

        impl OutputCell for $kind {
            const TYPE: Type = Type::$of;

            fn value(&self) -> Value<'_> {
                Value::$of(*self)
            }
        }
    )*};
}

cells! {
    i32, view::Fixed<'a, 4>, &["i", "tdD"], i32s, get, Int;
    i64, view::Fixed<'a, 8>, &["l", "tsu:", "tsu:UTC"], i64s, get, Long;
    f64, view::Fixed<'a, 8>, &["g"], i64s, f64, Double;
    bool, view::Bools<'a>, &["b"], bools, get, Bool;
}

impl<'a> InputCell<'a> for &'a str {
    const FORMATS: &'static [&'static str] = &["u"];
    type View = view::Text<'a>;

    fn view(batch: &'a Batch, n: usize) -> Result<Self::View, String> {
        batch.text(n)
    }

    fn get(view: &Self::View, row: usize) -> Option<Self> {
        view.get(row)
    }
}

impl<'a> InputCell<'a> for &'a [u8] {
    const FORMATS: &'static [&'static str] = &["z", "u"];
    type View = view::Bytes<'a>;

    fn view(batch: &'a Batch, n: usize) -> Result<Self::View, String> {
        batch.bytes(n)
    }

    fn get(view: &Self::View, row: usize) -> Option<Self> {
        view.get(row)
    }
}

impl OutputCell for String {
    const TYPE: Type = Type::Text;

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}
