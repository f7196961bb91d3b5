//! Typed views of the columns a batch brings. Buffers are checked once, when the view is made; `get` cannot fail.
use crate::contract::{Buffers, Column};
use crate::types::{Type, Value};

/// The columns of one `run` call: those of the plan's `reads`, in its order.
#[derive(Debug)]
pub struct Batch {
    rows: usize,
    columns: Vec<Column>,
}

impl Batch {
    pub fn new(rows: u32, columns: Vec<Column>) -> Self {
        Self {
            rows: rows as usize,
            columns,
        }
    }

    /// At least 1.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> Columns<'_> {
        Columns {
            rows: self.rows,
            columns: &self.columns,
        }
    }

    pub fn column(&self, n: usize) -> Result<&Column, String> {
        self.columns().column(n)
    }

    /// A `u` column.
    pub fn text(&self, n: usize) -> Result<Text<'_>, String> {
        self.columns().text(n)
    }

    /// A `z` column (or a `u` column, as bytes).
    pub fn bytes(&self, n: usize) -> Result<Bytes<'_>, String> {
        self.columns().bytes(n)
    }

    /// A `b` column.
    pub fn bools(&self, n: usize) -> Result<Bools<'_>, String> {
        self.columns().bools(n)
    }

    /// An `i` or `tdD` column.
    pub fn i32s(&self, n: usize) -> Result<Fixed<'_, 4>, String> {
        self.columns().fixed(n)
    }

    /// An `l`, `tsu:` or `g` column: see `Fixed::i64` and `Fixed::f64`.
    pub fn i64s(&self, n: usize) -> Result<Fixed<'_, 8>, String> {
        self.columns().fixed(n)
    }

    /// A `d:P,S` column, unscaled.
    pub fn i128s(&self, n: usize) -> Result<Fixed<'_, 16>, String> {
        self.columns().fixed(n)
    }

    /// A column of type `kind`, read as its values.
    pub fn values(&self, n: usize, kind: &Type) -> Result<Values<'_>, String> {
        self.columns().values(n, kind)
    }
}

/// Columns of equally many rows: those of a batch, or those of a lookup table.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    rows: usize,
    columns: &'a [Column],
}

impl<'a> Columns<'a> {
    pub fn new(rows: u32, columns: &'a [Column]) -> Self {
        Self {
            rows: rows as usize,
            columns,
        }
    }

    pub fn column(&self, n: usize) -> Result<&'a Column, String> {
        self.columns
            .get(n)
            .ok_or_else(|| format!("the host gave no column {n}"))
    }

    /// A `u` column.
    pub fn text(&self, n: usize) -> Result<Text<'a>, String> {
        self.flat(n)?.text()
    }

    /// A `z` column (or a `u` column, as bytes).
    pub fn bytes(&self, n: usize) -> Result<Bytes<'a>, String> {
        self.flat(n)?.bytes()
    }

    /// A `b` column.
    pub fn bools(&self, n: usize) -> Result<Bools<'a>, String> {
        self.flat(n)?.bools()
    }

    /// A column of values that are `WIDTH` bytes wide.
    pub fn fixed<const WIDTH: usize>(&self, n: usize) -> Result<Fixed<'a, WIDTH>, String> {
        self.flat(n)?.fixed()
    }

    /// Column `n`, of any type.
    pub fn node(&self, n: usize) -> Result<Node<'a>, String> {
        let column = self.column(n)?;
        Ok(Node {
            column: n,
            nodes: &column.nodes,
            rows: if column.constant { 1 } else { self.rows },
            constant: column.constant,
        })
    }

    /// A column of type `kind`, read as its values.
    pub fn values(&self, n: usize, kind: &Type) -> Result<Values<'a>, String> {
        self.flat(n)?.values(kind)
    }

    fn flat(&self, n: usize) -> Result<Node<'a>, String> {
        let node = self.node(n)?;
        match node.nodes {
            [_] => Ok(node),
            nodes => Err(format!(
                "column {n} has {} nodes, a flat one has 1",
                nodes.len()
            )),
        }
    }
}

/// A column, or a part of a nested one: its own buffers, and behind them those of the nodes below it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The column that it is of, for messages.
    column: usize,
    nodes: &'a [Buffers],
    /// How many it stores: one where it is constant.
    rows: usize,
    constant: bool,
}

impl<'a> Node<'a> {
    fn own(&self) -> Result<&'a Buffers, String> {
        let n = self.column;
        self.nodes
            .first()
            .ok_or_else(|| format!("column {n} has too few nodes"))
    }

    pub fn nulls(&self) -> Result<Nulls<'a>, String> {
        Nulls::new(self.column, self.own()?, self.rows, self.constant)
    }

    /// A `u` node.
    pub fn text(&self) -> Result<Text<'a>, String> {
        let n = self.column;
        let Bytes { spans, data } = self.bytes()?;
        let data = str::from_utf8(data).map_err(|e| format!("column {n} is not UTF-8: {e}"))?;
        let cut = spans
            .offsets
            .iter()
            .find(|o| !data.is_char_boundary(**o as usize));
        match cut {
            None => Ok(Text { spans, data }),
            Some(at) => Err(format!("column {n}: offset {at} cuts a character")),
        }
    }

    /// A `z` node (or a `u` node, as bytes).
    pub fn bytes(&self) -> Result<Bytes<'a>, String> {
        let node = self.own()?;
        let spans = Spans::new(self, Some(node.data.len()))?;
        Ok(Bytes {
            spans,
            data: &node.data,
        })
    }

    /// A `b` node.
    pub fn bools(&self) -> Result<Bools<'a>, String> {
        let (node, nulls) = (self.own()?, self.nulls()?);
        let (n, rows) = (self.column, self.rows);
        if node.data.len() != rows.div_ceil(8) {
            return Err(format!(
                "column {n} has {} bytes for {rows} booleans",
                node.data.len()
            ));
        }
        Ok(Bools {
            nulls,
            data: &node.data,
        })
    }

    /// A node of values that are `WIDTH` bytes wide.
    pub fn fixed<const WIDTH: usize>(&self) -> Result<Fixed<'a, WIDTH>, String> {
        let (node, nulls) = (self.own()?, self.nulls()?);
        let (n, rows) = (self.column, self.rows);
        let (values, rest) = node.data.as_chunks::<WIDTH>();
        if values.len() != rows || !rest.is_empty() {
            let found = node.data.len();
            return Err(format!(
                "column {n} has {found} bytes for {rows} rows of {WIDTH}"
            ));
        }
        Ok(Fixed { nulls, values })
    }

    /// A node of type `kind`, read as its values.
    pub fn values(&self, kind: &Type) -> Result<Values<'a>, String> {
        Ok(match kind {
            Type::Text => Values::Text(self.text()?),
            Type::Int => Values::Int(self.fixed()?),
            Type::Date(_) => Values::Date(self.fixed()?),
            Type::Long => Values::Long(self.fixed()?),
            Type::Double => Values::Double(self.fixed()?),
            Type::Timestamp(_) => Values::Timestamp(self.fixed()?),
            Type::Decimal(..) => Values::Decimal(self.fixed()?),
            Type::Bool => Values::Bool(self.bools()?),
        })
    }

    /// How many it stores: one where it is constant.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A `+l` node: where the items of each row lie, and the node of all items.
    pub fn list(&self) -> Result<(Spans<'a>, Node<'a>), String> {
        let spans = Spans::new(self, None)?;
        let items = Node {
            nodes: self.nodes.get(1..).unwrap_or_default(),
            rows: spans.offsets.last().map_or(0, |last| *last as usize),
            constant: false,
            ..*self
        };
        Ok((spans, items))
    }

    /// The node `at` nodes behind this one: a child of a `+s` node.
    pub fn child(&self, at: usize) -> Node<'a> {
        Node {
            nodes: self.nodes.get(at..).unwrap_or_default(),
            ..*self
        }
    }
}

/// A column of any flat type but bytes. Where one type is sure, its own view is faster.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    Text(Text<'a>),
    Int(Fixed<'a, 4>),
    Date(Fixed<'a, 4>),
    Long(Fixed<'a, 8>),
    Double(Fixed<'a, 8>),
    Timestamp(Fixed<'a, 8>),
    Decimal(Fixed<'a, 16>),
    Bool(Bools<'a>),
}

impl<'a> Values<'a> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<Value<'a>> {
        match self {
            Self::Text(view) => view.get(row).map(Value::Text),
            Self::Int(view) => view.get(row).map(Value::Int),
            Self::Date(view) => view.get(row).map(Value::Date),
            Self::Long(view) => view.get(row).map(Value::Long),
            Self::Double(view) => view.f64(row).map(Value::Double),
            Self::Timestamp(view) => view.get(row).map(Value::Timestamp),
            Self::Decimal(view) => view.get(row).map(Value::Decimal),
            Self::Bool(view) => view.get(row).map(Value::Bool),
        }
    }
}

/// Which rows have a value.
#[derive(Debug, Clone, Copy)]
pub struct Nulls<'a> {
    bits: Option<&'a [u8]>,
    constant: bool,
}

impl<'a> Nulls<'a> {
    fn new(n: usize, node: &'a Buffers, rows: usize, constant: bool) -> Result<Self, String> {
        let bits = node.validity.as_deref();
        match bits {
            Some(bits) if bits.len() != rows.div_ceil(8) => Err(format!(
                "column {n} has {} validity bytes for {rows} rows",
                bits.len()
            )),
            _ => Ok(Self { bits, constant }),
        }
    }

    /// Where row `row` is stored, or nothing if it has no value.
    #[inline]
    pub fn index(&self, row: usize) -> Option<usize> {
        let row = if self.constant { 0 } else { row };
        match self.bits {
            None => Some(row),
            Some(bits) => bit(bits, row).then_some(row),
        }
    }
}

#[inline]
pub(crate) fn bit(bits: &[u8], n: usize) -> bool {
    bits.get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 == 1)
}

/// Where the bytes or items of each row lie.
#[derive(Debug, Clone, Copy)]
pub struct Spans<'a> {
    nulls: Nulls<'a>,
    offsets: &'a [i32],
}

impl<'a> Spans<'a> {
    /// `bytes`: what the offsets lead into; of items their own node says it.
    fn new(of: &Node<'a>, bytes: Option<usize>) -> Result<Self, String> {
        let (n, rows, nulls) = (of.column, of.rows, of.nulls()?);
        let offsets = of.own()?.offsets.as_slice();
        if offsets.len() != rows + 1 {
            return Err(format!(
                "column {n} has {} offsets for {rows} rows",
                offsets.len()
            ));
        }
        let rising = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let last = offsets.last().map_or(0, |last| *last as usize);
        if offsets[0] != 0 || !rising || bytes.is_some_and(|bytes| last > bytes) {
            let bytes = bytes.unwrap_or(last);
            return Err(format!("column {n}: offsets do not fit {bytes} bytes"));
        }
        Ok(Self { nulls, offsets })
    }

    #[inline]
    pub fn get(&self, row: usize) -> Option<(usize, usize)> {
        let row = self.nulls.index(row)?;
        match self.offsets.get(row..row + 2) {
            Some([from, to]) => Some((*from as usize, *to as usize)),
            _ => None,
        }
    }
}

/// Texts, one a row.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    spans: Spans<'a>,
    data: &'a str,
}

impl<'a> Text<'a> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        let (from, to) = self.spans.get(row)?;
        self.data.get(from..to)
    }
}

/// Byte strings, one a row.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    spans: Spans<'a>,
    data: &'a [u8],
}

impl<'a> Bytes<'a> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        let (from, to) = self.spans.get(row)?;
        self.data.get(from..to)
    }

    /// All bytes from the start of row `row` on, and how many of them are its own; none of a null.
    #[inline]
    pub fn with_rest(&self, row: usize) -> (&'a [u8], usize) {
        match self.spans.get(row) {
            Some((from, to)) if from <= to && to <= self.data.len() => {
                (&self.data[from..], to - from)
            }
            _ => (&[], 0),
        }
    }

    /// Bytes of all rows together: what to reserve.
    pub fn total(&self) -> usize {
        self.data.len()
    }
}

/// Numbers of one width, one a row.
#[derive(Debug, Clone, Copy)]
pub struct Fixed<'a, const WIDTH: usize> {
    nulls: Nulls<'a>,
    values: &'a [[u8; WIDTH]],
}

impl<const WIDTH: usize> Fixed<'_, WIDTH> {
    #[inline]
    pub fn raw(&self, row: usize) -> Option<[u8; WIDTH]> {
        self.values.get(self.nulls.index(row)?).copied()
    }
}

impl Fixed<'_, 4> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<i32> {
        self.raw(row).map(i32::from_le_bytes)
    }
}

impl Fixed<'_, 8> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<i64> {
        self.raw(row).map(i64::from_le_bytes)
    }

    #[inline]
    pub fn f64(&self, row: usize) -> Option<f64> {
        self.raw(row).map(f64::from_le_bytes)
    }
}

impl Fixed<'_, 16> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<i128> {
        self.raw(row).map(i128::from_le_bytes)
    }
}

/// Booleans, one a row.
#[derive(Debug, Clone, Copy)]
pub struct Bools<'a> {
    nulls: Nulls<'a>,
    data: &'a [u8],
}

impl Bools<'_> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<bool> {
        Some(bit(self.data, self.nulls.index(row)?))
    }
}
