//! Where records begin and end in a stream of bytes, in bounded memory: one record, and what was read ahead.

mod csv;
mod json;
mod lines;
mod xml;

use std::fmt;
use std::io::Read;

pub(super) use csv::Rows;
pub(super) use json::Values;
pub(super) use lines::Lines;
pub(super) use xml::{Elements, Whole};

use crate::error::Error;

/// Bytes that are read at a time: few at first, as most files are small, then twice as many each time.
pub(super) const FIRST_CHUNK: usize = 8 << 10;
pub(super) const CHUNK: usize = 256 << 10;
const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a stream gives no more records.
#[derive(Debug)]
pub(super) enum Stop {
    /// The store, which may answer again later.
    Failed(Error),
    /// The bytes are not what they should be: where, and why.
    Bad { at: u64, why: String },
    /// There is no such file any more; whether another one has its name.
    Gone { replaced: bool },
}

/// Why a file is gone.
pub(super) fn gone(replaced: bool) -> &'static str {
    match replaced {
        true => {
            "it was replaced: another file has its name, and it is not in its directory under another one"
        }
        false => "it is not there any more, nor under another name in its directory",
    }
}

/// A record, as a range of [`Window::rest`], and where what follows it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub from: usize,
    pub to: usize,
    pub end: usize,
}

pub(super) trait Split: Send + fmt::Debug {
    /// The next record. `None`: the stream has ended and nothing is left.
    fn next(&mut self, window: &mut Window) -> Result<Option<Piece>, Stop>;

    /// At the end: reading went on inside of the file, and nothing came that tells whether it may end here.
    fn is_unsure(&self) -> bool {
        false
    }
}

/// The bytes of a stream that were read and not given away.
pub(super) struct Window {
    input: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    start: usize,
    /// Where `bytes[start]` lies in the stream.
    base: u64,
    has_ended: bool,
    chunk: usize,
    record_max: usize,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({} bytes at {})", self.rest().len(), self.base)
    }
}

impl Window {
    /// `input` gives what lies in the stream from `base` on.
    pub(super) fn new(input: Box<dyn Read + Send>, base: u64, record_max: usize) -> Window {
        Window {
            input,
            bytes: Vec::new(),
            start: 0,
            base,
            has_ended: false,
            chunk: FIRST_CHUNK,
            record_max,
        }
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Of the first byte of [`rest`](Window::rest).
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        let bytes = bytes.min(self.rest().len());
        self.start += bytes;
        self.base += bytes as u64;
    }

    /// Reads more behind what is there; false at the end of the stream.
    pub(super) fn more(&mut self) -> Result<bool, Stop> {
        if self.has_ended {
            return Ok(false);
        }
        if self.rest().len() > self.record_max {
            let most = self.record_max;
            return Err(self.bad(
                0,
                format!("a record begins here that is longer than {most} bytes (source.record.max.bytes)"),
            ));
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        let had = self.bytes.len();
        self.bytes.resize(had + self.chunk, 0);
        self.chunk = CHUNK.min(self.chunk * 2);
        let mut filled = had;
        let read = loop {
            let space = self.bytes.get_mut(filled..).unwrap_or_default();
            if space.is_empty() {
                break Ok(());
            }
            match self.input.read(space) {
                Ok(0) => {
                    self.has_ended = true;
                    break Ok(());
                }
                Ok(n) => {
                    filled += n;
                    break Ok(());
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.bytes.truncate(filled);
        match read {
            Ok(()) => Ok(filled > had || !self.has_ended),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// An error of the store below, or of a decoder.
    fn failed(&self, e: std::io::Error) -> Stop {
        if e.get_ref().is_some_and(|inner| inner.is::<Stop>())
            && let Some(Ok(stop)) = e.into_inner().map(|inner| inner.downcast::<Stop>())
        {
            *stop
        } else {
            let at = self.base + self.rest().len() as u64;
            Stop::Bad {
                at,
                why: "the compressed bytes are torn or broken".to_owned(),
            }
        }
    }

    pub(super) fn bad(&self, at: usize, why: impl Into<String>) -> Stop {
        Stop::Bad {
            at: self.base + at as u64,
            why: why.into(),
        }
    }

    /// At the beginning of a text: a byte order mark goes, and what is no UTF-8 by its mark is refused.
    pub(super) fn begin_text(&mut self) -> Result<(), Stop> {
        while self.rest().len() < UTF8_BOM.len() && self.more()? {}
        if self.rest().starts_with(UTF8_BOM) {
            self.skip(UTF8_BOM.len());
        } else if self.rest().starts_with(b"\xff\xfe") || self.rest().starts_with(b"\xfe\xff") {
            return Err(self.bad(
                0,
                "it is UTF-16, and UTF-8 is expected: convert it, for example with iconv",
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Failed(error) => write!(f, "{error}"),
            Stop::Bad { at, why } => write!(f, "byte {at}: {why}"),
            Stop::Gone { replaced } => f.write_str(gone(*replaced)),
        }
    }
}

impl std::error::Error for Stop {}

/// The first place of a byte.
pub(super) fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    const LANES: usize = 8;
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let wanted = LOW.wrapping_mul(u64::from(byte));
    let mut at = 0;
    for eight in bytes.chunks_exact(LANES) {
        let mut word = [0; LANES];
        word.copy_from_slice(eight);
        let x = u64::from_le_bytes(word) ^ wanted;
        let zeros = x.wrapping_sub(LOW) & !x & HIGH;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / LANES);
        }
        at += LANES;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|b| *b == byte).map(|n| at + n)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Gives a text in pieces of so many bytes.
    pub(in crate::connectors::file) struct Slow(pub Vec<u8>, pub usize);

    impl Read for Slow {
        fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
            let n = self.1.min(space.len()).min(self.0.len());
            space[..n].copy_from_slice(&self.0[..n]);
            self.0.drain(..n);
            Ok(n)
        }
    }

    /// All records with their places, whatever the size of the pieces in which the text comes; and the same from each place at
    /// which one ended.
    pub(super) fn all(text: &[u8], make: impl Fn() -> Box<dyn Split>) -> Vec<(u64, String)> {
        let from = |base: usize, size: usize| {
            let input = Box::new(Slow(text[base..].to_vec(), size));
            let mut window = Window::new(input, base as u64, 1 << 20);
            let mut split = make();
            let mut found = Vec::new();
            loop {
                match split.next(&mut window) {
                    Ok(Some(piece)) => {
                        let at = window.base() + piece.from as u64;
                        let bytes = window.rest()[piece.from..piece.to].to_vec();
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        window.skip(piece.end);
                        found.push((at, text, window.base()));
                    }
                    Ok(None) => return (found, None),
                    Err(stop) => return (found, Some(stop.to_string())),
                }
            }
        };
        let (whole, stop) = from(0, usize::MAX);
        for size in [1, 2, 3, 7] {
            let (again, other) = from(0, size);
            assert_eq!((&again, &other), (&whole, &stop), "in pieces of {size}");
        }
        for (n, (_, _, end)) in whole.iter().enumerate() {
            let (again, _) = from(usize::try_from(*end).unwrap(), usize::MAX);
            assert_eq!(again, whole[n + 1..], "from byte {end}");
        }
        let mut found: Vec<(u64, String)> = whole.into_iter().map(|(at, t, _)| (at, t)).collect();
        found.extend(stop.map(|stop| (u64::MAX, stop)));
        found
    }

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(find(&bytes, b'\n'), None);
            for at in 0..length {
                bytes[at] = b'\n';
                assert_eq!(find(&bytes, b'\n'), Some(at));
                bytes[at] = 0x8a;
                assert_eq!(find(&bytes, b'\n'), None);
                bytes[at] = b'x';
            }
        }
    }

    #[test]
    fn a_record_has_a_limit() {
        let mut window = Window::new(Box::new(Slow(vec![b'a'; 3 * CHUNK], CHUNK)), 7, 10);
        let stop = Lines::new(false).next(&mut window).unwrap_err();
        assert!(
            stop.to_string().starts_with("byte 7: a record begins here"),
            "{stop}"
        );
    }
}
