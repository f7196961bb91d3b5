//! Whole rows in order, in bounded memory: sorted runs in a spill file (Arrow IPC), merged when they are written to the
//! zone.

use std::cmp::Ordering;
use std::io::BufWriter;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;

use super::piece::{Piece, Shape, Share};
use super::{CHUNK_ROWS, arrow_failed};
use crate::error::Result;
use crate::zone::spill::{Section, Spill, SpillFile, unwrapped};

/// Chunks of runs that the memory of a merge holds: as many runs are merged at a time.
const FAN: usize = 96;
/// Least bytes of a chunk. Below the least `memory.budget`, which makes 128 KiB, only tests come.
const CHUNK_MIN: usize = 512;
/// Most bytes of a chunk: larger ones gain nothing.
const CHUNK_MAX: usize = 1 << 20;
/// Rows of the first runs: few enough that they are sorted within a processor's cache, which halves the time.
const RUN_BYTES: usize = 4 << 20;
/// A run is at most this part of what was laid aside before it, or as the first ones: so their number grows with the
/// logarithm of the rows.
const RUN_SHARE: usize = 24;
/// Memory of a row while it is sorted, beside its columns.
const SORT_BYTES: usize = 40;
const BUFFER_BYTES: usize = 64 << 10;

/// Asks whether to go on; an error says that there is no time for it.
type Still<'a> = &'a dyn Fn() -> Result<()>;

/// Gathers rows in any order.
#[derive(Debug)]
pub struct Gathered {
    pub shape: Arc<Shape>,
    spill: Spill,
    memory: usize,
    pieces: Vec<Piece>,
    bytes: usize,
    /// Bytes that were laid aside.
    aside: usize,
    runs: Option<Runs>,
}

/// Runs that are written, one behind the other in a file.
#[derive(Debug)]
struct Runs {
    file: SpillFile,
    parts: Vec<Part>,
}

/// Where a run is in its file, and the memory of its largest chunk.
#[derive(Clone, Copy, Debug)]
struct Part {
    from: u64,
    to: u64,
    chunk: usize,
}

/// A run that can be read.
#[derive(Clone, Debug)]
struct Run {
    file: Arc<SpillFile>,
    part: Part,
}

impl Gathered {
    /// `memory`: bytes of rows before they are laid aside, and of those that are merged later.
    pub fn new(shape: Arc<Shape>, spill: &Spill, memory: usize) -> Gathered {
        Gathered {
            shape,
            spill: spill.clone(),
            memory,
            pieces: Vec::new(),
            bytes: 0,
            aside: 0,
            runs: None,
        }
    }

    pub fn push(&mut self, piece: Piece) -> Result<()> {
        let bytes = piece.memory() + piece.len() * SORT_BYTES;
        let most = match &self.runs {
            // So long as all fits, nothing is laid aside.
            None => self.memory,
            Some(_) => self.run_bytes(),
        };
        if self.bytes + bytes > most && !self.pieces.is_empty() {
            // At most the memory's rows: whoever pushes asks between two pieces.
            self.lay_aside(&|| Ok(()))?;
        }
        self.bytes += bytes;
        self.pieces.push(piece);
        Ok(())
    }

    fn run_bytes(&self) -> usize {
        (self.aside / RUN_SHARE).max(RUN_BYTES).min(self.memory)
    }

    /// All that is held, in one run or several.
    fn lay_aside(&mut self, still: Still<'_>) -> Result<()> {
        let mut rest = std::mem::take(&mut self.pieces).into_iter().peekable();
        self.bytes = 0;
        while rest.peek().is_some() {
            let (most, mut some, mut bytes) = (self.run_bytes(), Vec::new(), 0);
            while let Some(piece) = rest.next_if(|next| {
                some.is_empty() || bytes + next.memory() + next.len() * SORT_BYTES <= most
            }) {
                bytes += piece.memory() + piece.len() * SORT_BYTES;
                some.push(piece);
            }
            self.aside += bytes;
            let runs = match &mut self.runs {
                Some(runs) => runs,
                none => none.insert(Runs::new(&self.spill)?),
            };
            runs.add(&self.shape, &mut InOrder::held(some), self.memory, still)?;
        }
        Ok(())
    }

    /// All rows, in order. `still` is asked for each chunk whether to go on: the merge of many runs takes minutes.
    pub fn finish(mut self, still: Still<'_>) -> Result<InOrder> {
        if self.runs.is_none() {
            return Ok(InOrder::held(self.pieces));
        }
        if !self.pieces.is_empty() {
            self.lay_aside(still)?;
        }
        let (shape, memory) = (self.shape, self.memory);
        let mut runs = match self.runs {
            Some(runs) => runs.written(),
            None => return Ok(InOrder::held(Vec::new())),
        };
        while together(&runs, memory) < runs.len() {
            runs = fewer((&self.spill, &shape), &runs, memory, still)?;
        }
        InOrder::merged(&shape, &runs)
    }
}

/// How many of these runs are merged at a time: those whose chunks fit into memory, at least two.
fn together(runs: &[Run], memory: usize) -> usize {
    let mut bytes = 0;
    let fit = runs.iter().take_while(|run| {
        bytes += run.part.chunk;
        bytes <= memory
    });
    fit.count().max(2).min(runs.len())
}

/// The same rows in fewer runs. Only as many are merged as are too many; they are the first ones, which are the smallest.
fn fewer(
    (spill, shape): (&Spill, &Arc<Shape>),
    runs: &[Run],
    memory: usize,
    still: Still<'_>,
) -> Result<Vec<Run>> {
    let mut over = runs.len() - together(runs, memory);
    let (mut merged, mut rest) = (Runs::new(spill)?, runs);
    while over > 0 && rest.len() > 1 {
        let (some, others) = rest.split_at(together(rest, memory).min(over + 1));
        merged.add(shape, &mut InOrder::merged(shape, some)?, memory, still)?;
        over -= some.len() - 1;
        rest = others;
    }
    Ok([rest.to_vec(), merged.written()].concat())
}

impl Runs {
    fn new(spill: &Spill) -> Result<Runs> {
        Ok(Runs {
            file: spill.file()?,
            parts: Vec::new(),
        })
    }

    fn written(self) -> Vec<Run> {
        let file = Arc::new(self.file);
        let run = |part| Run {
            file: file.clone(),
            part,
        };
        self.parts.into_iter().map(run).collect()
    }

    /// Appends a run.
    fn add(
        &mut self,
        shape: &Shape,
        rows: &mut InOrder,
        memory: usize,
        still: Still<'_>,
    ) -> Result<()> {
        let most = (memory / FAN).clamp(CHUNK_MIN, CHUNK_MAX);
        let (from, mut chunk) = (self.file.len(), 0);
        let out = BufWriter::with_capacity(BUFFER_BYTES, &mut self.file);
        let mut out = StreamWriter::try_new(out, &shape.whole).map_err(ipc_failed)?;
        let columns: Vec<usize> = (0..shape.whole.fields().len() - 1).collect();
        let (mut picks, mut marks, mut bytes) = (Vec::new(), Vec::new(), 0);
        loop {
            let next = rows.next()?;
            if let Some((slot, row)) = next
                && let Some(piece) = rows.piece(slot)
            {
                bytes += piece.held(row);
                picks.push((slot, row));
                marks.push(piece.marks[row]);
            }
            let full = bytes >= most || picks.len() >= CHUNK_ROWS || rows.retired() > most;
            if !picks.is_empty() && (full || next.is_none()) {
                still()?;
                let columns = rows.gather(&picks, &columns).map_err(arrow_failed)?;
                chunk = chunk.max(shape.memory(&columns, picks.len()));
                out.write(&shape.batch(columns, &marks)?)
                    .map_err(ipc_failed)?;
                picks.clear();
                marks.clear();
                bytes = 0;
                rows.release();
            }
            if next.is_none() {
                break;
            }
        }
        out.finish().map_err(ipc_failed)?;
        drop(out);
        let to = self.file.len();
        self.parts.push(Part { from, to, chunk });
        Ok(())
    }
}

fn ipc_failed(e: ArrowError) -> crate::error::Error {
    match e {
        ArrowError::IoError(_, e) => unwrapped(e),
        e => arrow_failed(e),
    }
}

/// Rows in order: each by the slot of its piece and its place there.
#[derive(Debug)]
pub struct InOrder {
    /// A piece that was read to its end stays until [`release`](InOrder::release), because rows of it may be picked.
    slots: Vec<Option<Piece>>,
    ended: Vec<usize>,
    retired: usize,
    from: From,
}

#[derive(Debug)]
enum From {
    Held(std::vec::IntoIter<(u32, u32)>),
    Merged(Merge),
}

impl InOrder {
    fn held(pieces: Vec<Piece>) -> InOrder {
        InOrder {
            from: From::Held(sorted(&pieces).into_iter()),
            slots: pieces.into_iter().map(Some).collect(),
            ended: Vec::new(),
            retired: 0,
        }
    }

    fn merged(shape: &Arc<Shape>, runs: &[Run]) -> Result<InOrder> {
        let mut rows = InOrder {
            slots: Vec::new(),
            ended: Vec::new(),
            retired: 0,
            from: From::Held(Vec::new().into_iter()),
        };
        let mut cursors = Vec::new();
        for run in runs {
            let section = Section {
                file: run.file.clone(),
                at: run.part.from,
                end: run.part.to,
            };
            let mut cursor = Cursor {
                chunks: StreamReader::try_new(section, None).map_err(ipc_failed)?,
                slot: usize::MAX,
                at: 0,
                len: 0,
                share: Share::default(),
                head: 0,
                ended: false,
            };
            cursor.next_chunk(shape, &mut rows.slots, &[])?;
            cursors.push(cursor);
        }
        rows.from = From::Merged(Merge::new(shape.clone(), cursors, &rows.slots));
        Ok(rows)
    }

    pub fn next(&mut self) -> Result<Option<(usize, usize)>> {
        let merge = match &mut self.from {
            From::Held(order) => {
                return Ok(order
                    .next()
                    .map(|(slot, row)| (slot as usize, row as usize)));
            }
            From::Merged(merge) => merge,
        };
        let Some(cursor) = merge.first() else {
            return Ok(None);
        };
        let row = (cursor.slot, cursor.at);
        cursor.at += 1;
        if cursor.at == cursor.len {
            let piece = self.slots.get(cursor.slot).and_then(Option::as_ref);
            self.retired += piece.map_or(0, Piece::memory);
            self.ended.push(cursor.slot);
            merge.fill(&mut self.slots, &self.ended)?;
        } else {
            cursor.look(&self.slots);
        }
        merge.settle(&self.slots);
        Ok(Some(row))
    }

    pub fn piece(&self, slot: usize) -> Option<&Piece> {
        self.slots.get(slot).and_then(Option::as_ref)
    }

    /// Bytes of pieces that were read to their ends and are still held.
    pub fn retired(&self) -> usize {
        self.retired
    }

    /// Picked rows are no longer needed.
    pub fn release(&mut self) {
        for slot in self.ended.drain(..) {
            self.slots[slot] = None;
        }
        self.retired = 0;
    }

    /// These rows of some of the carried columns.
    pub fn gather(
        &self,
        picks: &[(usize, usize)],
        columns: &[usize],
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut dense = vec![usize::MAX; self.slots.len()];
        let mut pieces: Vec<&Piece> = Vec::new();
        let mut indices = Vec::with_capacity(picks.len());
        for (slot, row) in picks {
            if dense[*slot] == usize::MAX
                && let Some(piece) = &self.slots[*slot]
            {
                dense[*slot] = pieces.len();
                pieces.push(piece);
            }
            indices.push((dense[*slot], *row));
        }
        let gathered = columns.iter().map(|column| {
            let parts = pieces.iter().map(|piece| &piece.columns[*column]);
            let parts: Vec<&dyn Array> = parts.map(|part| part.as_ref()).collect();
            interleave(&parts, &indices)
        });
        gathered.collect()
    }
}

/// The order of all rows of pieces.
fn sorted(pieces: &[Piece]) -> Vec<(u32, u32)> {
    struct Entry {
        head: u128,
        share: Share,
        piece: u32,
        row: u32,
    }
    let count = pieces.iter().map(Piece::len).sum();
    let mut entries = Vec::with_capacity(count);
    for (at, piece) in pieces.iter().enumerate() {
        entries.extend((0..piece.len()).map(|row| Entry {
            head: piece.head(row),
            share: piece.marks[row].share(),
            piece: at as u32,
            row: row as u32,
        }));
    }
    entries.sort_unstable_by(|a, b| {
        let quick = a.share.cmp(&b.share).then(a.head.cmp(&b.head));
        quick.then_with(|| {
            let (x, y) = (&pieces[a.piece as usize], &pieces[b.piece as usize]);
            x.after_head(a.row as usize, y, b.row as usize)
        })
    });
    entries.iter().map(|e| (e.piece, e.row)).collect()
}

/// A run that is read.
#[derive(Debug)]
struct Cursor {
    chunks: StreamReader<Section>,
    slot: usize,
    at: usize,
    len: usize,
    /// Of the row `at`.
    share: Share,
    head: u128,
    ended: bool,
}

impl Cursor {
    fn look(&mut self, slots: &[Option<Piece>]) {
        if let Some(Some(piece)) = slots.get(self.slot) {
            self.share = piece.marks[self.at].share();
            self.head = piece.head(self.at);
        }
    }

    /// Puts the next chunk into a slot that is free: none of `ended`.
    fn next_chunk(
        &mut self,
        shape: &Shape,
        slots: &mut Vec<Option<Piece>>,
        ended: &[usize],
    ) -> Result<()> {
        let Some(batch) = self.chunks.next().transpose().map_err(ipc_failed)? else {
            self.ended = true;
            return Ok(());
        };
        let piece = shape.read(&batch)?;
        debug_assert!(ended.iter().all(|slot| slots[*slot].is_some()));
        (self.at, self.len) = (0, piece.len());
        self.slot = match slots.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                slots.push(None);
                slots.len() - 1
            }
        };
        slots[self.slot] = Some(piece);
        self.look(slots);
        Ok(())
    }
}

/// A tournament of runs: each inner place holds the loser of its match, so that the next row costs one comparison a
/// level.
#[derive(Debug)]
struct Merge {
    shape: Arc<Shape>,
    cursors: Vec<Cursor>,
    /// Place 0 holds the winner.
    losers: Vec<usize>,
}

/// Wins against every run, until all have entered.
const NOBODY: usize = usize::MAX;

impl Merge {
    fn new(shape: Arc<Shape>, cursors: Vec<Cursor>, slots: &[Option<Piece>]) -> Merge {
        let mut merge = Merge {
            shape,
            losers: vec![NOBODY; cursors.len().max(1)],
            cursors,
        };
        for cursor in 0..merge.cursors.len() {
            merge.play(cursor, slots);
        }
        merge
    }

    /// The run with the first row.
    fn first(&mut self) -> Option<&mut Cursor> {
        let first = self.losers[0];
        self.cursors.get_mut(first).filter(|cursor| !cursor.ended)
    }

    fn fill(&mut self, slots: &mut Vec<Option<Piece>>, ended: &[usize]) -> Result<()> {
        let (first, shape) = (self.losers[0], self.shape.clone());
        self.cursors[first].next_chunk(&shape, slots, ended)
    }

    /// After the first has moved on.
    fn settle(&mut self, slots: &[Option<Piece>]) {
        self.play(self.losers[0], slots);
    }

    fn play(&mut self, cursor: usize, slots: &[Option<Piece>]) {
        let mut winner = cursor;
        let mut place = (cursor + self.cursors.len()) / 2;
        while place > 0 {
            if self.before(self.losers[place], winner, slots) {
                std::mem::swap(&mut self.losers[place], &mut winner);
            }
            place /= 2;
        }
        self.losers[0] = winner;
    }

    fn before(&self, a: usize, b: usize, slots: &[Option<Piece>]) -> bool {
        let (Some(x), Some(y)) = (self.cursors.get(a), self.cursors.get(b)) else {
            return a == NOBODY;
        };
        // What ended has no row to compare.
        if x.ended || y.ended {
            return !x.ended;
        }
        let quick = x.share.cmp(&y.share);
        let order = quick.then(x.head.cmp(&y.head)).then_with(|| {
            match (slots.get(x.slot), slots.get(y.slot)) {
                (Some(Some(p)), Some(Some(q))) => p.after_head(x.at, q, y.at),
                _ => Ordering::Equal,
            }
        });
        order.is_lt()
    }
}
