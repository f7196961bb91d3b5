//! Builders of output columns in Arrow's layout. A builder can be cut back to an earlier row, so that nothing is left
//! of a message whose end is broken.
use crate::contract::{Buffers, Column};

/// One bit a row, made only when the first null comes.
#[derive(Debug, Default, Clone)]
struct Validity {
    bits: Option<Bits>,
    rows: usize,
}

/// Packed booleans, lowest bit first; spare bits stay 0.
#[derive(Debug, Default, Clone)]
pub struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    pub fn filled(len: usize) -> Self {
        let mut bits = Self {
            bytes: vec![0xFF; len.div_ceil(8)],
            len,
        };
        bits.truncate(len);
        bits
    }

    #[inline]
    pub fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }

    pub fn get(&self, n: usize) -> bool {
        crate::view::bit(&self.bytes, n)
    }

    pub fn clear(&mut self, n: usize) {
        if let Some(byte) = self.bytes.get_mut(n / 8) {
            *byte &= !(1 << (n % 8));
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.bytes.truncate(self.len.div_ceil(8));
        if let Some(last) = self
            .bytes
            .last_mut()
            .filter(|_| !self.len.is_multiple_of(8))
        {
            *last &= (1 << (self.len % 8)) - 1;
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Validity {
    #[inline]
    fn push(&mut self, valid: bool) {
        if !valid && self.bits.is_none() {
            self.bits = Some(Bits::filled(self.rows));
        }
        if let Some(bits) = &mut self.bits {
            bits.push(valid);
        }
        self.rows += 1;
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
        if let Some(bits) = &mut self.bits {
            bits.truncate(rows);
        }
    }

    fn retain(&mut self, kept: &Bits) {
        match self.bits.take() {
            None => self.rows = (0..self.rows).filter(|n| kept.get(*n)).count(),
            Some(old) => {
                let rows = std::mem::take(&mut self.rows);
                self.bits = Some(Bits::default());
                (0..rows)
                    .filter(|n| kept.get(*n))
                    .for_each(|n| self.push(old.get(n)));
            }
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        std::mem::take(self).bits.map(Bits::into_bytes)
    }
}

/// `extend_from_slice` for short values, in pieces of fixed size: in WebAssembly a copy of any length is a call out.
#[inline]
fn append(data: &mut Vec<u8>, value: &[u8]) {
    if value.len() > 64 {
        return data.extend_from_slice(value);
    }
    let (chunks, rest) = value.as_chunks::<16>();
    data.reserve(value.len());
    chunks
        .iter()
        .for_each(|chunk| data.extend_from_slice(chunk));
    let (chunks, rest) = rest.as_chunks::<4>();
    chunks
        .iter()
        .for_each(|chunk| data.extend_from_slice(chunk));
    rest.iter().for_each(|byte| data.push(*byte));
}

/// Appends the first `len` bytes of `source`. What follows them there is copied too and cut off again: for short values,
/// copies of fixed size cost least.
#[inline(always)]
pub fn append_over(data: &mut Vec<u8>, source: &[u8], len: usize) {
    let end = data.len() + len;
    match (source.first_chunk::<32>(), source.first_chunk::<64>()) {
        (Some(chunk), _) if len <= chunk.len() => data.extend_from_slice(chunk),
        (_, Some(chunk)) if len <= chunk.len() => data.extend_from_slice(chunk),
        _ => data.extend_from_slice(&source[..len]),
    }
    data.truncate(end);
}

/// Texts or byte strings.
#[derive(Debug, Clone)]
pub struct SpanBuilder {
    offsets: Vec<i32>,
    data: Vec<u8>,
    validity: Validity,
}

impl Default for SpanBuilder {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            data: Vec::new(),
            validity: Validity::default(),
        }
    }
}

impl SpanBuilder {
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.offsets.reserve(rows);
        self.data.reserve(bytes);
    }

    /// A text column asks for UTF-8 here; the host checks it again.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        append(&mut self.data, value);
        self.end(true);
    }

    /// `push` of the first `len` bytes of `source`; quicker if at least 64 are there.
    #[inline(always)]
    pub fn push_over(&mut self, source: &[u8], len: usize) {
        append_over(&mut self.data, source, len);
        self.end(true);
    }

    #[inline]
    pub fn push_null(&mut self) {
        self.end(false);
    }

    #[inline]
    fn end(&mut self, valid: bool) {
        self.validity.push(valid);
        self.offsets.push(self.data.len() as i32); // `finish` refuses more than 2 GiB
    }

    fn truncate(&mut self, rows: usize) {
        self.validity.truncate(rows);
        self.offsets.truncate(rows + 1);
        self.data
            .truncate(self.offsets.last().map_or(0, |last| *last as usize));
    }

    fn retain(&mut self, kept: &Bits) {
        let mut to = 0;
        let mut rows = 0;
        for row in 0..self.offsets.len() - 1 {
            let (from, end) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
            if kept.get(row) {
                self.data.copy_within(from..end, to);
                to += end - from;
                rows += 1;
                self.offsets[rows] = to as i32;
            }
        }
        self.data.truncate(to);
        self.offsets.truncate(rows + 1);
        self.validity.retain(kept);
    }

    fn finish(&mut self) -> Result<Buffers, String> {
        let built = std::mem::take(self);
        if i32::try_from(built.data.len()).is_err() {
            return Err("a column of this batch is larger than 2 GiB".into());
        }
        let mut validity = built.validity;
        Ok(Buffers {
            validity: validity.take(),
            offsets: built.offsets,
            data: built.data,
        })
    }
}

/// Numbers of one width, little endian.
#[derive(Debug, Default, Clone)]
pub struct FixedBuilder<const WIDTH: usize> {
    data: Vec<u8>,
    validity: Validity,
}

impl<const WIDTH: usize> FixedBuilder<WIDTH> {
    #[inline]
    pub fn push(&mut self, value: [u8; WIDTH]) {
        self.data.extend_from_slice(&value);
        self.validity.push(true);
    }

    #[inline]
    pub fn push_null(&mut self) {
        self.data.extend_from_slice(&[0; WIDTH]);
        self.validity.push(false);
    }

    fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows * WIDTH);
        self.validity.truncate(rows);
    }

    fn retain(&mut self, kept: &Bits) {
        let mut to = 0;
        for row in (0..self.data.len() / WIDTH).filter(|row| kept.get(*row)) {
            self.data.copy_within(row * WIDTH..(row + 1) * WIDTH, to);
            to += WIDTH;
        }
        self.data.truncate(to);
        self.validity.retain(kept);
    }

    fn finish(&mut self) -> Buffers {
        let mut built = std::mem::take(self);
        Buffers {
            validity: built.validity.take(),
            offsets: Vec::new(),
            data: built.data,
        }
    }
}

/// Booleans.
#[derive(Debug, Default, Clone)]
pub struct BoolBuilder {
    values: Bits,
    validity: Validity,
}

impl BoolBuilder {
    #[inline]
    pub fn push(&mut self, value: bool) {
        self.values.push(value);
        self.validity.push(true);
    }

    #[inline]
    pub fn push_null(&mut self) {
        self.values.push(false);
        self.validity.push(false);
    }
}

/// Lists: each row has some of the items.
#[derive(Debug, Clone)]
pub struct ListBuilder {
    offsets: Vec<i32>,
    items: Builder,
    validity: Validity,
    count: usize,
}

impl ListBuilder {
    /// `items` is empty.
    pub fn new(items: Builder) -> Self {
        Self {
            offsets: vec![0],
            items,
            validity: Validity::default(),
            count: 0,
        }
    }

    /// Where the next item goes; `end` after the last one of a row.
    pub fn item(&mut self) -> &mut Builder {
        self.count += 1;
        &mut self.items
    }

    /// A row of the items since the last row.
    pub fn end(&mut self) {
        self.row(true);
    }

    pub fn push_null(&mut self) {
        self.row(false);
    }

    fn row(&mut self, valid: bool) {
        self.validity.push(valid);
        // `finish` refuses more items than an offset can count.
        self.offsets.push(self.count as i32);
    }

    fn truncate(&mut self, rows: usize) {
        self.validity.truncate(rows);
        self.offsets.truncate(rows + 1);
        self.count = self.offsets.last().map_or(0, |last| *last as usize);
        self.items.truncate(self.count);
    }

    fn retain(&mut self, kept: &Bits) {
        let mut items = Bits::default();
        let mut offsets = vec![0];
        for (row, pair) in self.offsets.windows(2).enumerate() {
            (pair[0]..pair[1]).for_each(|_| items.push(kept.get(row)));
            if kept.get(row) {
                let before = offsets.last().copied().unwrap_or(0);
                offsets.push(before + pair[1] - pair[0]);
            }
        }
        self.items.retain(&items);
        self.count = offsets.last().map_or(0, |last| *last as usize);
        self.offsets = offsets;
        self.validity.retain(kept);
    }

    fn finish(&mut self, nodes: &mut Vec<Buffers>) -> Result<(), String> {
        if i32::try_from(self.count).is_err() {
            return Err("a column of this batch has more than 2³¹ items".into());
        }
        self.count = 0;
        nodes.push(Buffers {
            validity: self.validity.take(),
            offsets: std::mem::replace(&mut self.offsets, vec![0]),
            data: Vec::new(),
        });
        self.items.nodes(nodes)
    }
}

/// Structs: a row has one value of each field.
#[derive(Debug, Clone)]
pub struct StructBuilder {
    fields: Vec<Builder>,
    validity: Validity,
}

impl StructBuilder {
    /// The fields are empty.
    pub fn new(fields: Vec<Builder>) -> Self {
        Self {
            fields,
            validity: Validity::default(),
        }
    }

    /// Where the values of the next row go, one each; `end` after them.
    pub fn fields(&mut self) -> &mut [Builder] {
        &mut self.fields
    }

    pub fn end(&mut self) {
        self.validity.push(true);
    }

    pub fn push_null(&mut self) {
        self.fields.iter_mut().for_each(Builder::push_null);
        self.validity.push(false);
    }
}

/// A builder of one column.
#[derive(Debug, Clone)]
pub enum Builder {
    /// `u` and `z`.
    Span(SpanBuilder),
    /// `i` and `tdD`.
    Four(FixedBuilder<4>),
    /// `l`, `g` and `tsu:`.
    Eight(FixedBuilder<8>),
    /// `d:P,S`.
    Sixteen(FixedBuilder<16>),
    /// `b`.
    Bool(BoolBuilder),
    /// `+l`.
    List(Box<ListBuilder>),
    /// `+s`.
    Struct(StructBuilder),
}

impl Builder {
    #[inline]
    pub fn push_null(&mut self) {
        match self {
            Self::Span(b) => b.push_null(),
            Self::Four(b) => b.push_null(),
            Self::Eight(b) => b.push_null(),
            Self::Sixteen(b) => b.push_null(),
            Self::Bool(b) => b.push_null(),
            Self::List(b) => b.push_null(),
            Self::Struct(b) => b.push_null(),
        }
    }

    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        if let Self::Span(b) = self {
            b.reserve(rows, bytes);
        }
    }

    /// Forgets every row from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        match self {
            Self::Span(b) => b.truncate(rows),
            Self::Four(b) => b.truncate(rows),
            Self::Eight(b) => b.truncate(rows),
            Self::Sixteen(b) => b.truncate(rows),
            Self::Bool(b) => {
                b.values.truncate(rows);
                b.validity.truncate(rows);
            }
            Self::List(b) => b.truncate(rows),
            Self::Struct(b) => {
                b.fields.iter_mut().for_each(|field| field.truncate(rows));
                b.validity.truncate(rows);
            }
        }
    }

    /// Keeps the rows whose bit is set, in their order.
    pub fn retain(&mut self, kept: &Bits) {
        match self {
            Self::Span(b) => b.retain(kept),
            Self::Four(b) => b.retain(kept),
            Self::Eight(b) => b.retain(kept),
            Self::Sixteen(b) => b.retain(kept),
            Self::Bool(b) => {
                let old = std::mem::take(&mut b.values);
                let rows = 0..old.len;
                rows.filter(|n| kept.get(*n))
                    .for_each(|n| b.values.push(old.get(n)));
                b.validity.retain(kept);
            }
            Self::List(b) => b.retain(kept),
            Self::Struct(b) => {
                b.fields.iter_mut().for_each(|field| field.retain(kept));
                b.validity.retain(kept);
            }
        }
    }

    /// The column; the builder is empty again.
    pub fn finish(&mut self) -> Result<Column, String> {
        let mut nodes = Vec::with_capacity(1);
        self.nodes(&mut nodes)?;
        Ok(Column {
            constant: false,
            nodes,
        })
    }

    /// Its own node, then those below it.
    fn nodes(&mut self, nodes: &mut Vec<Buffers>) -> Result<(), String> {
        match self {
            Self::Span(b) => nodes.push(b.finish()?),
            Self::Four(b) => nodes.push(b.finish()),
            Self::Eight(b) => nodes.push(b.finish()),
            Self::Sixteen(b) => nodes.push(b.finish()),
            Self::Bool(b) => {
                let mut built = std::mem::take(b);
                let data = built.values.into_bytes();
                nodes.push(Buffers {
                    validity: built.validity.take(),
                    offsets: Vec::new(),
                    data,
                });
            }
            Self::List(b) => b.finish(nodes)?,
            Self::Struct(b) => {
                nodes.push(Buffers {
                    validity: b.validity.take(),
                    offsets: Vec::new(),
                    data: Vec::new(),
                });
                return b.fields.iter_mut().try_for_each(|field| field.nodes(nodes));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: &[Option<&[i32]>]) -> Builder {
        let mut list = ListBuilder::new(Builder::Four(FixedBuilder::default()));
        for row in rows {
            let Some(row) = row else {
                list.push_null();
                continue;
            };
            for n in *row {
                if let Builder::Four(b) = list.item() {
                    b.push(n.to_le_bytes());
                }
            }
            list.end();
        }
        let struct_of = StructBuilder::new(vec![Builder::List(Box::new(list))]);
        let mut built = Builder::Struct(struct_of);
        if let Builder::Struct(b) = &mut built {
            rows.iter().for_each(|_| b.end());
        }
        built
    }

    #[test]
    fn nested_builders_cut_back_and_keep_what_others_would_have_built() {
        let rows: [Option<&[i32]>; 5] =
            [Some(&[1, 2]), None, Some(&[]), Some(&[3, 4, 5]), Some(&[6])];
        for cut in 0..=rows.len() {
            let mut built = numbers(&rows);
            built.truncate(cut);
            let wanted = numbers(&rows[..cut]).finish().unwrap();
            let found = built.finish().unwrap();
            // A bitmap that was made for a null that is gone stays: it says the same.
            assert_eq!(found.nodes[1].offsets, wanted.nodes[1].offsets);
            assert_eq!(found.nodes[2], wanted.nodes[2]);
        }
        for mask in 0..1u8 << rows.len() {
            let mut kept = Bits::default();
            (0..rows.len()).for_each(|n| kept.push(mask >> n & 1 == 1));
            let mut built = numbers(&rows);
            built.retain(&kept);
            let left: Vec<_> = (0..rows.len()).filter(|n| kept.get(*n)).collect();
            let left: Vec<_> = left.into_iter().map(|n| rows[n]).collect();
            let (found, wanted) = (built.finish().unwrap(), numbers(&left).finish().unwrap());
            assert_eq!(found.nodes[1].offsets, wanted.nodes[1].offsets, "{mask:b}");
            assert_eq!(found.nodes[2], wanted.nodes[2], "{mask:b}");
        }
    }
}
