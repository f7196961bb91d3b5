//! Log lines of a plugin, with limits: so many lines and bytes of a batch go to the log, the rest is only counted.

use std::borrow::Cow;

use crate::plugin::boundary::bindings::weir::plugin::log::Level;
use crate::plugin::config::secrets::Hidden;
use crate::plugin::text::{cut, printable};
use crate::plugin::{MAX_LOG_BYTES, MAX_LOG_LINES};

/// Last bytes of standard error that are kept for a trap's message: a panic writes its reason there.
const TAIL: usize = 400;
/// Longest line of standard output or error; a longer one is cut.
const LINE: usize = 1 << 10;

#[derive(Debug)]
pub struct LogBook {
    transform: String,
    plugin: String,
    /// Row of the batch that the guest now calls row 0.
    pub base: u32,
    lines: usize,
    bytes: usize,
    lost: u64,
    open_line: Vec<u8>,
    tail: Vec<u8>,
    hidden: Hidden,
}

impl LogBook {
    pub fn new(transform: &str, plugin: &str) -> Self {
        LogBook {
            transform: transform.to_owned(),
            plugin: plugin.to_owned(),
            base: 0,
            lines: 0,
            bytes: 0,
            lost: 0,
            open_line: Vec::new(),
            tail: Vec::new(),
            hidden: Hidden::default(),
        }
    }

    /// Secrets that no line may show.
    pub fn hiding(mut self, hidden: Hidden) -> Self {
        self.hidden = hidden;
        self
    }

    /// A new call on rows from `base` on.
    pub fn begin_call(&mut self, base: u32) {
        self.base = base;
        self.tail.clear();
    }

    /// The batch is done: one line says how much was not written.
    pub fn end_batch(&mut self) {
        self.end_line();
        if self.lost > 0 {
            let (transform, plugin) = (&self.transform, &self.plugin);
            tracing::warn!(%transform, %plugin, "{} more lines of this batch not shown", self.lost);
        }
        (self.lines, self.bytes, self.lost) = (0, 0, 0);
    }

    pub fn emit(&mut self, level: Level, row: Option<u32>, message: &str) {
        let room = MAX_LOG_BYTES - self.bytes;
        if self.lines == MAX_LOG_LINES || room == 0 {
            self.lost += 1;
            return;
        }
        let mut message = Cow::Borrowed(message);
        if !self.hidden.is_empty() {
            self.hidden.scrub(message.to_mut());
        }
        let text = printable(cut(&message, room));
        self.lines += 1;
        self.bytes += message.len().min(room);
        let row = row.map(|row| u64::from(self.base) + u64::from(row));
        let (transform, plugin) = (&self.transform, &self.plugin);
        match level {
            Level::Debug => tracing::debug!(%transform, %plugin, row, "{text}"),
            Level::Info => tracing::info!(%transform, %plugin, row, "{text}"),
            Level::Warn => tracing::warn!(%transform, %plugin, row, "{text}"),
            Level::Error => tracing::error!(%transform, %plugin, row, "{text}"),
        }
    }

    /// Bytes of standard output or error.
    pub fn write(&mut self, bytes: &[u8], error: bool) {
        if error {
            self.tail
                .extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
            let extra = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..extra);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE - self.open_line.len();
            self.open_line
                .extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") || self.open_line.len() == LINE {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.open_line);
        let text = String::from_utf8_lossy(&line);
        if !text.trim_end().is_empty() {
            self.emit(Level::Info, None, text.trim_end());
        }
    }

    /// The end of standard error of this call, on one line.
    pub fn last_words(&self) -> String {
        let mut words = String::from_utf8_lossy(&self.tail).into_owned();
        self.hidden.scrub(&mut words);
        printable(words.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_kept() {
        let mut book = LogBook::new("t", "p");
        for _ in 0..1000 {
            book.emit(Level::Info, Some(1), "line");
        }
        assert_eq!(
            (book.lines, book.lost),
            (MAX_LOG_LINES, 1000 - MAX_LOG_LINES as u64)
        );
        book.end_batch();
        book.emit(Level::Info, None, &"é".repeat(MAX_LOG_BYTES));
        book.emit(Level::Info, None, "x");
        assert_eq!((book.lines, book.bytes, book.lost), (1, MAX_LOG_BYTES, 1));
        book.end_batch();
        for _ in 0..100 {
            book.write(&[b'x'; 700], true);
        }
        assert!(book.open_line.len() <= LINE && book.tail.len() == TAIL && book.lines <= 64);
    }
}
