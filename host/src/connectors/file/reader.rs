//! One file of the list, record by record, from any record on.
//!
//! The file that is opened must be the one in the list, and still be it when its end is reached; what it holds between is cut
//! into records by `split`. Plain files are entered at the byte where reading goes on. Packed ones (compressed, Parquet) are
//! read again from their beginning, and the records before are passed over: that costs what unpacking costs.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::list::{Entry, is_packed};
use super::split::{Elements, Lines, Rows, Split, Stop, Values, Whole, Window};
use super::{Clean, FileConfig, Format, Header, clean};
use crate::error::{Kind, Result};
use crate::lock::lock;
use crate::store::{Input, Store};
use crate::zone::{ForeignRows, Unreadable};

/// Bytes that are asked of a store at a time.
const READ_BYTES: usize = 1 << 20;
/// Memory of a zstd decoder: 2^27, as the command `zstd` allows without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes of records, unpacked, that one call passes over: a tenth of a second or so.
const PASSED_BYTES: usize = 16 << 20;
/// Bytes in which an XML declaration lies.
const DECLARATION_BYTES: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
}

/// By the end of the name.
pub(super) fn compression(path: &str) -> Option<Compression> {
    let (_, suffix) = path.rsplit_once('.')?;
    match suffix.to_ascii_lowercase().as_str() {
        "gz" | "gzip" => Some(Compression::Gzip),
        "zst" | "zstd" => Some(Compression::Zstd),
        "bz2" => Some(Compression::Bzip2),
        _ => None,
    }
}

/// Packed in a way that is not read: as text it would be nonsense.
fn unknown_packing(path: &str) -> Option<&str> {
    let (_, suffix) = path.rsplit_once('.')?;
    let known = ["xz", "lz4", "snappy", "lzo", "br", "zip", "7z", "tar", "Z"];
    known.contains(&suffix).then_some(suffix)
}

/// A record: its positions in the file, from its first to the one behind it, and what it holds.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub at: i64,
    pub next: i64,
    pub value: &'a [u8],
}

#[derive(Debug)]
pub(super) struct Reader {
    input: Arc<Mutex<Box<dyn Input>>>,
    cut: Cut,
    /// Of a packed file: how many records were given or passed over.
    counted: Option<i64>,
    /// Up to which count they are passed over.
    to_pass: i64,
    /// Of a file that begins with an array and was entered inside: reads it from its beginning, as far as it has come.
    array: Option<(Window, Values)>,
    room: i64,
    /// Goes before each record.
    prefix: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
enum Cut {
    Bytes {
        window: Window,
        split: Box<dyn Split>,
        /// Bytes of the record that was given last.
        given: usize,
    },
    /// With the longest that a row may be.
    Rows(ForeignRows, usize),
}

/// A record's place, the place behind it, and its bytes in the window; none where it was written elsewhere.
type Found = (i64, i64, Option<Range<usize>>);

impl Cut {
    /// A row of Parquet is written into `value`.
    fn next(&mut self, value: &mut Vec<u8>) -> Result<Option<Found>, Stop> {
        let (window, split, given) = match self {
            Cut::Rows(rows, most) => {
                let row = rows.next(value).map_err(unreadable)?;
                if row && value.len() > *most {
                    let why =
                        format!("a row is longer than {most} bytes (source.record.max.bytes)");
                    return Err(bad(0, why));
                }
                return Ok(row.then_some((0, 0, None)));
            }
            Cut::Bytes {
                window,
                split,
                given,
            } => (window, split, given),
        };
        window.skip(std::mem::take(given));
        let Some(piece) = split.next(window)? else {
            return Ok(None);
        };
        *given = piece.end;
        let place = |at: usize| i64::try_from(window.base() + at as u64).unwrap_or(i64::MAX);
        let bytes = piece.from..piece.to;
        Ok(Some((place(piece.from), place(piece.end), Some(bytes))))
    }

    fn bytes(&self, range: Option<Range<usize>>) -> Option<&[u8]> {
        match self {
            Cut::Rows(..) => None,
            Cut::Bytes { window, .. } => window.rest().get(range?),
        }
    }
}

fn unreadable(e: Unreadable) -> Stop {
    match e {
        Unreadable::Store(error) => failed(error),
        Unreadable::Bytes(why) => bad(0, why),
    }
}

fn bad(at: u64, why: impl Into<String>) -> Stop {
    Stop::Bad {
        at,
        why: why.into(),
    }
}

/// Opens a file of the list at a position inside of it.
pub(super) fn open(
    store: &dyn Store,
    config: &FileConfig,
    entry: &Entry,
    from: i64,
) -> Result<Reader, Stop> {
    let input = find(store, config, entry)?;
    let from = u64::try_from(from).unwrap_or(0);
    if let Some(suffix) = unknown_packing(&entry.path) {
        return Err(bad(
            0,
            format!("files packed as .{suffix} are not read: .gz, .zst and .bz2 are"),
        ));
    }
    let input = Arc::new(Mutex::new(input));
    if config.format == Format::Parquet {
        return parquet(input, config, entry, from);
    }
    // An empty file is nothing, also where it should be packed.
    let packed = compression(&entry.path).filter(|_| entry.size > 0);
    let enter = Enter {
        input: &input,
        entry,
        packed,
        record_max: config.record_max,
    };
    let mut window = enter.at(0)?;
    window.begin_text()?;
    let prefix = prefix(config, &mut window)?;
    let from_start = packed.is_some() || from <= window.base();
    let mut array = None;
    if !from_start {
        if config.format == Format::Json && begins_with_array(&mut window)? {
            array = Some((enter.at(0)?, Values::new(true)));
        }
        window = enter.at(from)?;
    }
    Ok(Reader {
        input,
        cut: Cut::Bytes {
            window,
            split: split(config, from_start),
            given: 0,
        },
        counted: packed.map(|_| 0),
        to_pass: match packed {
            Some(_) => i64::try_from(from).unwrap_or(i64::MAX),
            None => 0,
        },
        array,
        room: entry.room,
        prefix,
        value: Vec::new(),
    })
}

/// What goes before each record; a header is passed over.
fn prefix(config: &FileConfig, window: &mut Window) -> Result<Vec<u8>, Stop> {
    let mut prefix = Vec::new();
    match &config.format {
        Format::Csv(dialect) if dialect.header != Header::None => {
            let mut rows = Rows::new(*dialect);
            if let Some(header) = rows.next(window)? {
                if dialect.header == Header::Repeat {
                    prefix.extend_from_slice(window.rest().get(..header.to).unwrap_or_default());
                    prefix.push(b'\n');
                }
                window.skip(header.end);
            }
        }
        Format::Xml(_) => prefix = declaration(window)?,
        _ => {}
    }
    if matches!(config.format, Format::Xml(None)) {
        prefix.clear();
    }
    Ok(prefix)
}

fn begins_with_array(window: &mut Window) -> Result<bool, Stop> {
    loop {
        let first = window.rest().iter().find(|b| !b.is_ascii_whitespace());
        if let Some(first) = first {
            return Ok(*first == b'[');
        }
        let blanks = window.rest().len();
        window.skip(blanks);
        if !window.more()? {
            return Ok(false);
        }
    }
}

fn split(config: &FileConfig, from_start: bool) -> Box<dyn Split> {
    match &config.format {
        Format::Json => Box::new(Values::new(from_start)),
        Format::Text => Box::new(Lines::new(true)),
        Format::Csv(dialect) => Box::new(Rows::new(*dialect)),
        Format::Xml(Some(tag)) => Box::new(Elements::new(tag)),
        Format::Xml(None) => Box::new(Whole),
        Format::JsonLines | Format::Parquet => Box::new(Lines::new(false)),
    }
}

/// The file where it was taken, or where it lies since it was archived.
fn find(store: &dyn Store, config: &FileConfig, entry: &Entry) -> Result<Box<dyn Input>, Stop> {
    let inputs = store.inputs();
    let there = inputs.open_input(&entry.path).map_err(failed)?;
    let changed = match there {
        Some(input) if input.found().is_same(&entry.found()) => return Ok(input),
        Some(input) => Some(input.found().clone()),
        None => None,
    };
    if let Clean::Archive(dir) = &config.clean {
        let archived = clean::archived(dir, entry).map(|path| inputs.open_input(&path));
        let [path, again] = archived;
        let (path, again) = (path.map_err(failed)?, again.map_err(failed)?);
        let entry = entry.found();
        let is_same = |input: &dyn Input| input.found().is_same(&entry);
        // Nothing else ever has the second name.
        let is_own = |input: &dyn Input| clean::is_own_copy(input.found(), &entry);
        let is_copy = |input: &dyn Input| input.found().may_be_copy_of(&entry);
        let found = match (path, again) {
            (Some(path), _) if is_same(path.as_ref()) => Some(path),
            (_, Some(again)) if is_own(again.as_ref()) => Some(again),
            (Some(path), _) if is_copy(path.as_ref()) => Some(path),
            _ => None,
        };
        if let Some(input) = found {
            return Ok(input);
        }
    }
    Err(match (changed, &config.clean) {
        (Some(now), _) => bad(
            0,
            format!(
                "it was changed after it was taken: it had {} bytes, now it has {}, or it is another file of this name",
                entry.size, now.size
            ),
        ),
        (None, Clean::Delete) => bad(
            0,
            "it is not there any more; source.clean.source = delete removes what was read",
        ),
        (None, _) => bad(
            0,
            "it is not there any more: it was removed or renamed after it was taken",
        ),
    })
}

fn failed(error: crate::error::Error) -> Stop {
    match error.kind() {
        Kind::SourceLost => bad(0, error.message().to_owned()),
        _ => Stop::Failed(error),
    }
}

fn parquet(
    input: Arc<Mutex<Box<dyn Input>>>,
    config: &FileConfig,
    entry: &Entry,
    from: u64,
) -> Result<Reader, Stop> {
    let shared = input.clone();
    let fetch = move |from: u64, most: usize| lock(&shared).read(from, most);
    let rows = ForeignRows::open(Box::new(fetch), entry.size, from).map_err(unreadable)?;
    Ok(Reader {
        input,
        cut: Cut::Rows(rows, config.record_max),
        counted: Some(i64::try_from(from).unwrap_or(i64::MAX)),
        to_pass: 0,
        array: None,
        room: entry.room,
        prefix: Vec::new(),
        value: Vec::new(),
    })
}

struct Enter<'a> {
    input: &'a Arc<Mutex<Box<dyn Input>>>,
    entry: &'a Entry,
    packed: Option<Compression>,
    record_max: usize,
}

impl Enter<'_> {
    fn at(&self, from: u64) -> Result<Window, Stop> {
        let bytes = FileBytes {
            input: self.input.clone(),
            size: self.entry.size,
            at: from,
            waiting: Bytes::new(),
        };
        let torn = |_| bad(0, "the compressed bytes are torn or broken");
        let stream: Box<dyn Read + Send> = match self.packed {
            None => Box::new(bytes),
            Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            Some(Compression::Bzip2) => Box::new(bzip2::read::MultiBzDecoder::new(bytes)),
            Some(Compression::Zstd) => {
                let mut decoder = zstd::stream::read::Decoder::new(bytes).map_err(torn)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(torn)?;
                Box::new(decoder)
            }
        };
        Ok(Window::new(stream, from, self.record_max))
    }
}

/// The XML declaration of the file, where records would be read wrong without it.
fn declaration(window: &mut Window) -> Result<Vec<u8>, Stop> {
    while window.rest().len() < DECLARATION_BYTES && window.more()? {}
    let head = window.rest();
    if !head.starts_with(b"<?xml") {
        return Ok(Vec::new());
    }
    let Some(end) = head.windows(2).position(|w| w == b"?>") else {
        return Ok(Vec::new());
    };
    let declared = head.get(..end + 2).unwrap_or_default();
    let lower = declared.to_ascii_lowercase();
    let says = |text: &[u8]| lower.windows(text.len()).any(|w| w == text);
    Ok(match says(b"encoding") && !says(b"utf-8") {
        true => declared.to_vec(),
        false => Vec::new(),
    })
}

impl Reader {
    /// Passes over records that were read before, some at a time, so that a stop is noticed. True: the next one is new.
    pub(super) fn has_arrived(&mut self) -> Result<bool, Stop> {
        let mut bytes = 0;
        while let Some(passed) = self.counted.filter(|passed| *passed < self.to_pass) {
            if bytes > PASSED_BYTES {
                return Ok(false);
            }
            let to_pass = self.to_pass;
            let Some(record) = self.next()? else {
                let why = format!("it has {passed} records, and {to_pass} were read of it");
                return Err(bad(0, why));
            };
            // One without bytes costs something too.
            bytes += record.value.len() + 1;
        }
        Ok(true)
    }

    /// At the end of a file that was entered behind its last value, with nothing but blanks behind it: whether the array in which
    /// that stood is closed is only seen from the beginning (`[1] 2` and `[1, 2` end alike). It is looked at where reading stopped
    /// exactly there, some at a time, so that a stop is noticed. True: the file may end here.
    pub(super) fn has_its_end(&mut self) -> Result<bool, Stop> {
        let Cut::Bytes { split, .. } = &self.cut else {
            return Ok(true);
        };
        let Some((window, values)) = self.array.as_mut().filter(|_| split.is_unsure()) else {
            return Ok(true);
        };
        if window.base() == 0 {
            window.begin_text()?;
        }
        let until = window.base() + PASSED_BYTES as u64;
        while let Some(piece) = values.next(window)? {
            window.skip(piece.end);
            if window.base() > until {
                return Ok(false);
            }
        }
        self.array = None;
        Ok(true)
    }

    /// The next record. `None`: no other one comes, and whether the file [may end](Reader::has_its_end) there is to be asked.
    /// What was read counts only if the file is [still the same](Reader::still_the_same).
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, Stop> {
        let Some((at, next, bytes)) = self.cut.next(&mut self.value)? else {
            return Ok(None);
        };
        let (at, next) = match &mut self.counted {
            Some(count) => {
                *count += 1;
                (*count - 1, *count)
            }
            None => (at, next),
        };
        if next >= self.room {
            let most = self.room - 1;
            let why = format!(
                "it has more than the {most} records for which there is room: pack it less tightly"
            );
            return Err(bad(0, why));
        }
        let bytes = self.cut.bytes(bytes);
        let value = match (bytes, self.prefix.is_empty()) {
            (None, _) => self.value.as_slice(),
            (Some(bytes), true) => bytes,
            (Some(bytes), false) => {
                self.value.clear();
                self.value.extend_from_slice(&self.prefix);
                self.value.extend_from_slice(bytes);
                self.value.as_slice()
            }
        };
        Ok(Some(Record { at, next, value }))
    }

    /// False where the file was written to since it was opened.
    pub(super) fn still_the_same(&self) -> Result<bool> {
        lock(&self.input).is_unchanged()
    }
}

/// The bytes of an open file, one after the other.
struct FileBytes {
    input: Arc<Mutex<Box<dyn Input>>>,
    size: u64,
    at: u64,
    waiting: Bytes,
}

impl Read for FileBytes {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.waiting.is_empty() && self.at < self.size {
            let read = lock(&self.input).read(self.at, READ_BYTES);
            let bytes = read.map_err(|e| io::Error::other(failed(e)))?;
            if bytes.is_empty() {
                let why = format!(
                    "it ends here, and it had {} bytes when it was taken",
                    self.size
                );
                return Err(io::Error::other(bad(self.at, why)));
            }
            self.at += bytes.len() as u64;
            self.waiting = bytes;
        }
        let n = space.len().min(self.waiting.len());
        let given = self.waiting.split_to(n);
        if let Some(space) = space.get_mut(..n) {
            space.copy_from_slice(&given);
        }
        Ok(n)
    }
}

/// Whether positions of this file count records.
pub(super) fn counts_records(config: &FileConfig, path: &str) -> bool {
    is_packed(path, config.format == Format::Parquet)
}
