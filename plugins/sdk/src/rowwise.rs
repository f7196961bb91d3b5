//! The simple layer: a function of one row, a struct for the columns it reads and a struct for those it makes. All
//! other columns are carried without being passed to it.
use crate::builder::Builder;
use crate::cells::{Access, Wanted, named};
use crate::contract::{Field, MadeColumn, Output, Plan, PlannedColumn, Problem, RowMap, Setup};
use crate::schema::Schema;
use crate::setup::{Counter, RowSetup, column_of};
use crate::view::{Batch, Columns, Node};
use crate::{Refusal, Rejects, Transform};

/// A plugin that sees one row at a time. `export!(Rowwise<MyPlugin>)` makes it a component.
///
/// ```
/// use std::collections::BTreeMap;
/// use weir_sdk::testing::Bench;
/// use weir_sdk::{Counter, Decimal, RowPlugin, RowSetup, Rows, Rowwise};
///
/// weir_sdk::input! {
///     pub struct Sale<'a> { sku: &'a str, amount: i64 }
/// }
/// weir_sdk::input! { // a row of the lookup table
///     struct Price<'a> { sku: &'a str, price: &'a str }
/// }
/// weir_sdk::output! {
///     pub struct Priced { total: Decimal<18, 2> }
/// }
///
/// struct Prices {
///     of: BTreeMap<String, Decimal<18, 2>>,
///     unknown: Counter,
/// }
///
/// impl RowPlugin for Prices {
///     const NAME: &'static str = "prices";
///     const VERSION: &'static str = "0.1.0";
///     const SUMMARY: &'static str = "What a sale comes to";
///     const SCHEMA: &'static str = r#"{
///         "type": "object",
///         "properties": { "table": { "type": "string", "format": "weir-table" } },
///         "required": ["table"]
///     }"#;
///     type In<'a> = Sale<'a>;
///     type Out = Priced;
///
///     fn setup(setup: &mut RowSetup<'_>) -> Self {
///         let mut of = BTreeMap::new();
///         for row in setup.lookup::<Price<'_>>("table", "the CSV file with sku and price") {
///             match (row.sku, row.price.unwrap_or_default().parse()) {
///                 (Some(sku), Ok(price)) => drop(of.insert(sku.to_owned(), price)),
///                 _ => setup.config.problem("table", "bad_price", "expected a sku and a price"),
///             }
///         }
///         Self { of, unknown: setup.counter("unknown") }
///     }
///
///     fn row(&self, sale: Sale<'_>, out: &mut Rows<Priced>) {
///         let price = sale.sku.and_then(|sku| self.of.get(sku));
///         if price.is_none() {
///             out.count(self.unknown, 1);
///         }
///         let total = price.zip(sale.amount).and_then(|(p, n)| p.checked_mul(n.into()));
///         out.give(Priced { total });
///     }
/// }
///
/// let table = Bench::default()
///     .key("table", "prices.csv")
///     .table("table", &[
///         ("sku", "string", &[Some("apple"), Some("plum")]),
///         ("price", "string", &[Some("0.50"), Some("0.20")]),
///     ])
///     .column("sku", "string", &[Some("plum"), Some("fig"), None])
///     .column("amount", "long", &[Some("3"), Some("1"), None])
///     .run::<Rowwise<Prices>>(3);
/// assert_eq!(table.rows[0][2].as_deref(), Some("60")); // 0.60, as it is stored
/// assert_eq!(table.counters, [2]);
/// ```
pub trait RowPlugin: Sized {
    const NAME: &'static str;
    const VERSION: &'static str;
    const SUMMARY: &'static str;
    /// JSON Schema of the config.
    const SCHEMA: &'static str;
    /// Whether one row may become several. One transform of a chain may.
    const EXPLODES: bool = false;
    /// Made with `input!`, or `()`.
    type In<'a>: InputRow<'a>;
    /// Made with `output!`, or `()`.
    type Out: OutputRow;

    /// Reads the config, files and tables; problems go to `setup.config` too. The same setup must give the same plugin.
    fn setup(setup: &mut RowSetup<'_>) -> Self;

    /// A pure function of `row`. If it calls neither `give` nor `refuse`, the row is filtered.
    fn row(&self, row: Self::In<'_>, out: &mut Rows<Self::Out>);
}

/// What `input!` writes.
pub trait InputRow<'a>: Sized {
    type Views;
    fn wanted() -> Vec<Wanted>;
    /// A node and its access for each field.
    fn views(nodes: &[(Node<'a>, &Access)]) -> Result<Self::Views, String>;
    fn get(views: &Self::Views, row: usize) -> Self;
}

/// What `output!` writes.
pub trait OutputRow {
    /// The name of each field, and its type.
    fn nodes() -> Vec<Vec<Field>>;
    fn builders() -> Vec<Builder>;
    /// One value to each builder.
    fn push(self, builders: &mut [Builder]);
}

/// Nothing is read.
impl InputRow<'_> for () {
    type Views = ();

    fn wanted() -> Vec<Wanted> {
        Vec::new()
    }

    fn views(_: &[(Node<'_>, &Access)]) -> Result<(), String> {
        Ok(())
    }

    fn get(_: &(), _: usize) {}
}

/// Nothing is made: the plugin only refuses, filters or counts.
impl OutputRow for () {
    fn nodes() -> Vec<Vec<Field>> {
        Vec::new()
    }

    fn builders() -> Vec<Builder> {
        Vec::new()
    }

    fn push(self, _: &mut [Builder]) {}
}

/// Where the rows of a batch go.
#[derive(Debug)]
pub struct Rows<R> {
    builders: Vec<Builder>,
    origin: Vec<u32>,
    rejects: Rejects,
    counters: Vec<u64>,
    row: usize,
    pieces: usize,
    refused: bool,
    kind: std::marker::PhantomData<R>,
}

impl<R: OutputRow> Rows<R> {
    fn new(rows: usize, counters: usize) -> Self {
        Self {
            builders: R::builders(),
            origin: Vec::with_capacity(rows),
            rejects: Rejects::default(),
            counters: vec![0; counters],
            row: 0,
            pieces: 0,
            refused: false,
            kind: std::marker::PhantomData,
        }
    }

    /// The row goes on, with these columns.
    pub fn give(&mut self, made: R) {
        made.push(&mut self.builders);
        self.origin.push(self.row as u32);
        self.pieces += 1;
    }

    /// Refuses the whole row: its rows are taken back, what it counted is not. It may have several reasons.
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

    /// Adds to a counter that `RowSetup::counter` gave.
    pub fn count(&mut self, counter: Counter, amount: u64) {
        if let Some(sum) = self.counters.get_mut(counter.0) {
            *sum = sum.saturating_add(amount);
        }
    }
}

/// A `RowPlugin` as a `Transform`.
#[derive(Debug)]
pub struct Rowwise<P> {
    plugin: P,
    /// One for each column that is read.
    access: Vec<Access>,
    counters: usize,
    explodes: bool,
}

/// Where in `schema` the fields that are wanted lie, and how they are read; every problem at once.
pub(crate) fn found(
    wanted: &[Wanted],
    schema: Schema<'_>,
    names: &[(&'static str, String)],
) -> Result<Vec<(usize, Access)>, Vec<String>> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for field in wanted {
        let name = column_of(field.name, names);
        let expected = || (field.expected)();
        match schema.find(name) {
            Ok(n) => match (field.access)(schema.nodes(n)) {
                Some(access) => found.push((n, access)),
                None => problems.push(format!(
                    "column `{name}`: expected {}, found {}",
                    expected(),
                    named(schema.nodes(n))
                )),
            },
            Err(why) => problems.push(format!("{why}; expected {}", expected())),
        }
    }
    match problems.is_empty() {
        true => Ok(found),
        false => Err(problems),
    }
}

/// A view of each field that is wanted.
pub(crate) fn viewed<'a, R: InputRow<'a>>(
    columns: Columns<'a>,
    at: impl Iterator<Item = usize>,
    access: &[Access],
) -> Result<R::Views, String> {
    let nodes: Result<Vec<_>, String> = at
        .zip(access)
        .map(|(n, access)| Ok((columns.node(n)?, access)))
        .collect();
    R::views(&nodes?)
}

/// A field that is named in `setup`, but is none.
fn unknown_fields(setup: &mut RowSetup<'_>, wanted: &[Wanted], made: &[Vec<Field>]) {
    let read = |name: &str| wanted.iter().any(|field| field.name == name);
    let makes = |name: &str| made.iter().any(|nodes| nodes[0].name == name);
    let reads = setup.reads.iter().filter(|(field, _)| !read(field));
    let makes = setup.makes.iter().filter(|(field, _)| !makes(field));
    let unknown: Vec<&str> = reads.chain(makes).map(|(field, _)| *field).collect();
    for field in unknown {
        let message = format!("the plugin has no field `{field}` to give a column to");
        setup.config.problem("", "bad_field", message);
    }
}

impl<P: RowPlugin> Transform for Rowwise<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: &'static str = P::VERSION;
    const SUMMARY: &'static str = P::SUMMARY;
    const SCHEMA: &'static str = P::SCHEMA;

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut setup = RowSetup::new(setup, P::EXPLODES);
        let plugin = P::setup(&mut setup);
        let (wanted, mut made) = (P::In::wanted(), P::Out::nodes());
        unknown_fields(&mut setup, &wanted, &made);
        let input = setup.input();
        let found = found(&wanted, input, &setup.reads).unwrap_or_else(|problems| {
            for message in problems {
                setup.config.problem("", "bad_input", message);
            }
            Vec::new()
        });
        for nodes in &mut made {
            nodes[0].name = column_of(&nodes[0].name, &setup.makes).to_owned();
        }
        let ends = |name: &str| {
            let dropped = setup.dropped.iter().any(|dropped| dropped == name);
            dropped || made.iter().any(|nodes| nodes[0].name == name)
        };
        let carried = (0..input.len()).filter(|n| !ends(input.name(*n)));
        let carried: Vec<_> = carried.map(|n| PlannedColumn::Carry(n as u32)).collect();
        let makes = made.into_iter().map(PlannedColumn::Make);
        let plan = Plan {
            reads: found.iter().map(|(n, _)| *n as u32).collect(),
            output: carried.into_iter().chain(makes).collect(),
            explodes: setup.explodes,
            counters: setup.counters.clone(),
        };
        let this = Self {
            plugin,
            access: found.into_iter().map(|(_, access)| access).collect(),
            counters: plan.counters.len(),
            explodes: plan.explodes,
        };
        setup.finish().map(|()| (this, plan))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let views = viewed::<P::In<'_>>(batch.columns(), 0.., &self.access)?;
        let mut out = Rows::<P::Out>::new(batch.rows(), self.counters);
        for row in 0..batch.rows() {
            let before = out.origin.len();
            out.row = row;
            out.pieces = 0;
            out.refused = false;
            self.plugin.row(P::In::get(&views, row), &mut out);
            if out.refused {
                out.origin.truncate(before);
                out.builders.iter_mut().for_each(|b| b.truncate(before));
            }
            if out.pieces > 1 && !self.explodes {
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
            counters: out.counters,
        })
    }
}

/// The columns a row plugin reads, by name: `input! { struct In<'a> { title: &'a str, year: i32 } }`. Each field becomes
/// an `Option`: nothing is null. The struct is also the type of a field that reads a struct column.
///
/// | field | column |
/// |---|---|
/// | `&'a str`, `&'a [u8]` | string, bytes (or a string's) |
/// | `i32`, `i64`, `f64`, `bool` | int or date, long or timestamp, double, boolean |
/// | `Decimal<P, S>`, `Date`, `Timestamp` | decimal, date, timestamp |
/// | `List<'a, T>` | a list of items that `T` reads |
/// | another `input!` struct | a struct that has its fields, and perhaps others |
///
/// ```
/// use weir_sdk::testing::Bench;
/// use weir_sdk::{Date, Decimal, List, RowPlugin, RowSetup, Rows, Rowwise};
///
/// weir_sdk::input! {
///     pub struct Author<'a> { name: &'a str, born: Date }
/// }
/// weir_sdk::input! {
///     pub struct Book<'a> { authors: List<'a, Author<'a>>, prices: List<'a, Decimal<18, 2>> }
/// }
/// weir_sdk::output! { // the same structs, to be made
///     pub struct Person { name: String, born: Date }
/// }
/// weir_sdk::output! {
///     pub struct Made { oldest: Person, cheapest: Decimal<18, 2>, names: Vec<Option<String>> }
/// }
///
/// struct Plugin;
///
/// impl RowPlugin for Plugin {
///     const NAME: &'static str = "oldest";
///     const VERSION: &'static str = "0.1.0";
///     const SUMMARY: &'static str = "The oldest author and the lowest price";
///     const SCHEMA: &'static str = r#"{"type": "object"}"#;
///     type In<'a> = Book<'a>;
///     type Out = Made;
///
///     fn setup(_: &mut RowSetup<'_>) -> Self {
///         Self
///     }
///
///     fn row(&self, book: Book<'_>, out: &mut Rows<Made>) {
///         // A null list is `None`, a null among its items too.
///         let authors = || book.authors.iter().flat_map(List::iter);
///         let oldest = authors().flatten().filter(|a| a.born.is_some()).min_by_key(|a| a.born);
///         out.give(Made {
///             oldest: oldest.map(|a| Person { name: a.name.map(str::to_owned), born: a.born }),
///             cheapest: book.prices.iter().flat_map(List::iter).flatten().min(),
///             names: book.authors.is_some().then(|| {
///                 authors().map(|a| a.and_then(|a| a.name).map(str::to_owned)).collect()
///             }),
///         });
///     }
/// }
///
/// let person = |name: &str, born| Person { name: Some(name.into()), born };
/// let price = |text: &str| text.parse::<Decimal<18, 2>>();
/// let table = Bench::default()
///     .cells("authors", [
///         Some(vec![Some(person("Ende", Date::of(1929, 11, 12))), None, Some(person("Poe", None))]),
///         None,
///     ])
///     .cells("prices", [Some(vec![price("9.50")?, price("8")?]), Some(vec![])])
///     .run::<Rowwise<Plugin>>(2);
/// assert_eq!(table.names, ["authors", "prices", "oldest", "cheapest", "names"]);
/// assert_eq!(table.rows[0][2].as_deref(), Some("{name: Ende, born: 1929-11-12}"));
/// assert_eq!(table.rows[0][4].as_deref(), Some("[Ende, ∅, Poe]"));
/// assert_eq!(table.rows[1][2..], [None, None, None]);
/// # Ok::<(), String>(())
/// ```
#[macro_export]
macro_rules! input {
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$a:lifetime> {
        $($field:ident: $kind:ty),* $(,)?
    }) => {
        $(#[$meta])*
        $vis struct $name<$a> {
            $($vis $field: Option<$kind>,)*
            #[doc(hidden)]
            __lifetime: ::std::marker::PhantomData<&$a ()>,
        }

        impl<$a> $crate::rowwise::InputRow<$a> for $name<$a> {
            type Views = ($(<$kind as $crate::cells::InputCell<$a>>::View,)*);

            fn wanted() -> Vec<$crate::cells::Wanted> {
                vec![$($crate::cells::Wanted {
                    name: $crate::cells::column(stringify!($field)),
                    expected: <$kind as $crate::cells::InputCell<$a>>::expected,
                    access: <$kind as $crate::cells::InputCell<$a>>::access,
                }),*]
            }

            fn views(
                nodes: &[($crate::view::Node<$a>, &$crate::cells::Access)],
            ) -> Result<Self::Views, String> {
                let &[$($field,)*] = nodes else {
                    return Err(format!("{} columns came, others were planned", nodes.len()));
                };
                Ok(($(<$kind as $crate::cells::InputCell<$a>>::view($field.0, $field.1)?,)*))
            }

            fn get(views: &Self::Views, row: usize) -> Self {
                let ($($field,)*) = views;
                Self {
                    $($field: <$kind as $crate::cells::InputCell<$a>>::get($field, row),)*
                    __lifetime: ::std::marker::PhantomData,
                }
            }
        }

        impl<$a> $crate::cells::InputCell<$a> for $name<$a> {
            type View =
                $crate::cells::StructView<$a, <Self as $crate::rowwise::InputRow<$a>>::Views>;

            fn expected() -> String {
                $crate::cells::expected_struct(&<Self as $crate::rowwise::InputRow<$a>>::wanted())
            }

            fn access(nodes: &[$crate::Field]) -> Option<$crate::cells::Access> {
                let wanted = <Self as $crate::rowwise::InputRow<$a>>::wanted();
                $crate::cells::access_struct(nodes, &wanted)
            }

            fn view(
                node: $crate::view::Node<$a>,
                access: &$crate::cells::Access,
            ) -> Result<Self::View, String> {
                $crate::cells::view_struct::<Self>(node, access)
            }

            fn get(view: &Self::View, row: usize) -> Option<Self> {
                $crate::cells::get_struct(view, row)
            }
        }
    };
}

/// The columns a row plugin makes: `output! { struct Out { decade: i32 } }`. Each field becomes an `Option`. The struct
/// is also the type of a field that makes a struct column. `input!` shows both.
///
/// | field | column |
/// |---|---|
/// | `String`, `Vec<u8>`, `Json` | string, bytes, a string marked as JSON |
/// | `i32`, `i64`, `f64`, `bool` | int, long, double, boolean |
/// | `Decimal<P, S>`, `Date`, `Timestamp` | decimal, date, timestamp in UTC |
/// | `Vec<T>`, `Vec<Option<T>>` | a list; with nulls among its items |
/// | another `output!` struct | a struct |
#[macro_export]
macro_rules! output {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$meta])*
        $vis struct $name {
            $($vis $field: Option<$kind>,)*
        }

        impl $crate::rowwise::OutputRow for $name {
            fn nodes() -> Vec<Vec<$crate::Field>> {
                vec![$(<$kind as $crate::cells::OutputCell>::nodes($crate::cells::column(stringify!(
                    $field
                )))),*]
            }

            fn builders() -> Vec<$crate::builder::Builder> {
                vec![$(<$kind as $crate::cells::OutputCell>::builder()),*]
            }

            fn push(self, builders: &mut [$crate::builder::Builder]) {
                let mut builders = builders.iter_mut();
                $(
                    if let Some(builder) = builders.next() {
                        match self.$field {
                            Some(cell) => $crate::cells::OutputCell::write_to(cell, builder),
                            None => builder.push_null(),
                        }
                    }
                )*
            }
        }

        impl $crate::cells::OutputCell for $name {
            fn nodes(name: &str) -> Vec<$crate::Field> {
                $crate::cells::nodes_struct::<Self>(name)
            }

            fn builder() -> $crate::builder::Builder {
                $crate::cells::builder_struct::<Self>()
            }

            fn write_to(self, builder: &mut $crate::builder::Builder) {
                $crate::cells::push_struct(self, builder);
            }
        }
    };
}
