//! The reader for ordinary messages, in two passes with 128-bit vectors. It can only accept a message. If it is not
//! sure (a fault, a limit, a form it does not know), that is a `Doubt`: then the event reader reads the message from
//! its first byte and decides, so there is only one implementation and one wording of every fault.
mod index;
mod lanes;
mod shapes;
mod tags;
mod values;
mod walk;

use index::Index;
use lanes::Source;
use shapes::Shapes;
use values::Sinks;
use walk::{Frame, Walk};

use crate::encoding::UTF8_BOM;
use crate::plan::Layout;
use crate::rows::{Message, Rows};

/// The event reader is to decide.
#[derive(Debug)]
pub struct Doubt;

/// The event reader reads longer messages: the index takes four bytes for each `<`, `>` and `&`, and is kept.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub struct Fast {
    sinks: Sinks,
    index: Index,
    shapes: Shapes,
    frames: Vec<Frame>,
    values: Vec<(usize, usize, usize, bool)>,
    /// A message that has not enough bytes behind it.
    padded: Vec<u8>,
    /// A message with its line ends normalised.
    normal: Vec<u8>,
    /// The last message had carriage returns.
    returns: bool,
    /// The last XML declaration that was found to be right.
    declared: Vec<u8>,
}

impl Fast {
    pub fn new(layout: &Layout) -> Self {
        Self {
            sinks: Sinks::new(layout),
            index: Index::default(),
            shapes: Shapes::default(),
            frames: Vec::new(),
            values: Vec::new(),
            padded: Vec::new(),
            normal: Vec::new(),
            returns: false,
            declared: Vec::new(),
        }
    }

    /// Forgets what the last batch held.
    pub fn begin(&mut self) {
        self.shapes.clear();
        self.declared.clear();
        self.returns = false;
    }

    /// Reads the message `row`, the first `len` of `bytes`; false, and nothing is left of it, if it is not sure.
    pub fn read(
        &mut self,
        layout: &Layout,
        rows: &mut Rows,
        row: usize,
        bytes: &[u8],
        len: usize,
    ) -> bool {
        let (bytes, len) = match bytes[..len].strip_prefix(UTF8_BOM) {
            Some(rest) => (&bytes[UTF8_BOM.len()..], rest.len()),
            None => (bytes, len),
        };
        if len > MAX_MESSAGE_BYTES || !layout.plain() {
            return false;
        }
        let mark = rows.mark();
        let done = self.try_read(layout, rows, row, bytes, len);
        if done.is_err() {
            rows.cut_back(mark);
            // One message with very many names must not slow down those after it.
            if self.shapes.is_crowded() {
                self.shapes.clear();
            }
        }
        done.is_ok()
    }

    fn try_read(
        &mut self,
        layout: &Layout,
        rows: &mut Rows,
        row: usize,
        bytes: &[u8],
        len: usize,
    ) -> Result<(), Doubt> {
        let mut source = match Source::new(bytes, len) {
            Some(source) => source,
            None => Source::copied(&bytes[..len], &mut self.padded),
        };
        // Where one message has carriage returns, the next one will.
        if !self.returns {
            let odd = self.index.fill(source);
            self.returns = index::examine(source, odd).ok_or(Doubt)?;
        }
        if self.returns {
            self.returns = index::line_ends(source, &mut self.normal);
            source = Source::padded(&mut self.normal);
            let odd = self.index.fill(source);
            index::examine(source, odd).ok_or(Doubt)?;
        }
        let mut walk = Walk {
            layout,
            shapes: &mut self.shapes,
            rows,
            sinks: &self.sinks,
            source,
            index: self.index.positions(),
            frames: &mut self.frames,
            listening: 0,
            message: Message {
                row,
                text: source.text(),
                pieces: 0,
            },
            namespaces: 0,
            values: &mut self.values,
            at: 0,
            next: 0,
        };
        walk.document(&mut self.declared)
    }
}
