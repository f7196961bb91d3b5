//! The values of a table's column, kept as long as the plugin lives and copied to rows by position.
use weir_sdk::builder::Builder;
use weir_sdk::{Column, Table, Type};

/// One column, in the buffers it came in: checked once, then read without a check of the whole.
#[derive(Debug)]
pub struct Cells {
    /// None: bytes.
    kind: Option<Type>,
    column: Column,
}

impl Cells {
    /// Column `n` of the table; an error if it is nested, or its buffers are invalid.
    pub fn new(table: &Table<'_>, n: usize) -> Result<Self, String> {
        let bytes = table.schema.nodes(n).first().map(|f| f.format.as_str()) == Some("z");
        let kind = match bytes {
            true => table.columns.bytes(n).map(|_| None)?,
            false => {
                let kind = table.schema.kind(n)?;
                table.columns.values(n, &kind)?;
                Some(kind)
            }
        };
        Ok(Self {
            kind,
            column: table.columns.column(n)?.clone(),
        })
    }

    pub fn builder(&self) -> Builder {
        self.kind.as_ref().unwrap_or(&Type::Text).builder()
    }

    /// Row `row` of the table; a null where there is none.
    #[inline]
    pub fn copy(&self, row: Option<u32>, builder: &mut Builder) {
        if row
            .and_then(|row| self.value(row as usize, builder))
            .is_none()
        {
            builder.push_null();
        }
    }

    #[inline]
    fn value(&self, row: usize, builder: &mut Builder) -> Option<()> {
        let row = if self.column.constant { 0 } else { row };
        let node = self.column.nodes.first()?;
        if let Some(bits) = &node.validity
            && bits.get(row / 8)? >> (row % 8) & 1 == 0
        {
            return None;
        }
        match builder {
            Builder::Span(b) => {
                let &[from, to] = node.offsets.get(row..row + 2)? else {
                    return None;
                };
                b.push(node.data.get(from as usize..to as usize)?);
            }
            Builder::Four(b) => b.push(*node.data.as_chunks().0.get(row)?),
            Builder::Eight(b) => b.push(*node.data.as_chunks().0.get(row)?),
            Builder::Sixteen(b) => b.push(*node.data.as_chunks().0.get(row)?),
            Builder::Bool(b) => b.push(node.data.get(row / 8)? >> (row % 8) & 1 == 1),
            Builder::List(_) | Builder::Struct(_) => return None, // `new` refuses nested columns
        }
        Some(())
    }
}
