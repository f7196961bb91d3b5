//! Sorts small records of one size in bounded memory: sorted runs in a spill file, merged when they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::spill::{Spill, SpillFile};
use crate::error::Result;

/// Bytes of one run that are read at a time: at least this, so that reading is not all calls …
const READ_MIN: usize = 4 << 10;
/// … and not more than this, which gains nothing.
const READ_MAX: usize = 256 << 10;
/// Records that are made into bytes at a time.
const WRITE_RECORDS: usize = 1024;
/// Larger records are sorted by their heads and places, not moved.
const MOVED_BYTES: usize = 32;
const ORDER_BYTES: usize = size_of::<(u64, u32)>();

pub trait Record: Copy + Ord {
    const BYTES: usize;
    /// The first bits of the order: a record with a lower head comes first.
    fn head(&self) -> u64;
    /// Appends exactly [`BYTES`](Record::BYTES).
    fn put(&self, out: &mut Vec<u8>);
    /// From so many bytes.
    fn get(bytes: &[u8]) -> Self;
}

impl Record for u128 {
    const BYTES: usize = 16;

    fn head(&self) -> u64 {
        (self >> 64) as u64
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> u128 {
        let mut whole = [0; 16];
        whole.copy_from_slice(bytes);
        u128::from_le_bytes(whole)
    }
}

/// Takes records in any order.
#[derive(Debug)]
pub struct Sorter<R> {
    spill: Spill,
    /// Records in memory at a time.
    most: usize,
    held: Vec<R>,
    runs: Option<Runs>,
}

/// Sorted runs, one behind the other in a file.
#[derive(Debug)]
struct Runs {
    file: SpillFile,
    parts: Vec<Range<u64>>,
}

impl<R: Record> Sorter<R> {
    /// `memory`: bytes, of which one record always fits.
    pub fn new(spill: &Spill, memory: usize) -> Sorter<R> {
        Sorter {
            spill: spill.clone(),
            most: (memory / (size_of::<R>() + ORDER_BYTES)).max(2),
            held: Vec::new(),
            runs: None,
        }
    }

    pub fn push(&mut self, record: R) -> Result<()> {
        if self.held.len() >= self.most {
            self.spill_held()?;
        }
        self.held.push(record);
        Ok(())
    }

    fn spill_held(&mut self) -> Result<()> {
        let runs = match &mut self.runs {
            Some(runs) => runs,
            none => none.insert(Runs::new(&self.spill)?),
        };
        if size_of::<R>() <= MOVED_BYTES {
            self.held.sort_unstable();
            runs.add(self.held.iter().map(|record| Ok(*record)))?;
        } else {
            let held = &self.held;
            runs.add(order(held).into_iter().map(|(_, at)| Ok(held[at as usize])))?;
        }
        self.held.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<Sorted<R>> {
        if self.runs.is_some() {
            self.spill_held()?;
            self.held = Vec::new();
        } else {
            self.held.sort_unstable();
        }
        let mut sorted = Sorted {
            memory: self.most * (size_of::<R>() + ORDER_BYTES),
            held: self.held,
            runs: self.runs,
        };
        sorted.narrow(&self.spill)?;
        Ok(sorted)
    }
}

/// Heads and places of records, in the records' order.
fn order<R: Record>(held: &[R]) -> Vec<(u64, u32)> {
    let heads = (0u32..).zip(held).map(|(at, record)| (record.head(), at));
    let mut order: Vec<(u64, u32)> = heads.collect();
    order.sort_unstable_by(|a, b| {
        let whole = |at: u32| held[at as usize];
        a.0.cmp(&b.0).then_with(|| whole(a.1).cmp(&whole(b.1)))
    });
    order
}

impl Runs {
    fn new(spill: &Spill) -> Result<Runs> {
        Ok(Runs {
            file: spill.file()?,
            parts: Vec::new(),
        })
    }

    /// Appends a run.
    fn add<R: Record>(&mut self, records: impl Iterator<Item = Result<R>>) -> Result<()> {
        let from = self.file.len();
        let mut bytes = Vec::with_capacity(WRITE_RECORDS * R::BYTES);
        for record in records {
            record?.put(&mut bytes);
            if bytes.len() >= WRITE_RECORDS * R::BYTES {
                self.file.append(&bytes)?;
                bytes.clear();
            }
        }
        self.file.append(&bytes)?;
        self.parts.push(from..self.file.len());
        Ok(())
    }
}

/// Records in ascending order.
#[derive(Debug)]
pub struct Sorted<R> {
    memory: usize,
    held: Vec<R>,
    runs: Option<Runs>,
}

impl<R: Record> Sorted<R> {
    /// Runs that are read at the same time within the memory.
    fn fan(&self) -> usize {
        (self.memory / READ_MIN).max(2)
    }

    /// Merges runs until all can be read at the same time.
    fn narrow(&mut self, spill: &Spill) -> Result<()> {
        let fan = self.fan();
        while let Some(runs) = self.runs.take_if(|runs| runs.parts.len() > fan) {
            let mut fewer = Runs::new(spill)?;
            for parts in runs.parts.chunks(fan) {
                fewer.add(Merged::<R>::of(&runs.file, parts, self.memory)?)?;
            }
            self.runs = Some(fewer);
        }
        Ok(())
    }

    /// All records, ascending.
    pub fn iter(&self) -> Result<Ascending<'_, R>> {
        Ok(match &self.runs {
            None => Ascending::Held(self.held.iter()),
            Some(runs) => Ascending::Merged(Merged::of(&runs.file, &runs.parts, self.memory)?),
        })
    }

    /// As one run, of which every record can be looked at.
    pub fn flat(mut self, spill: &Spill) -> Result<Flat<R>> {
        if let Some(runs) = self.runs.take_if(|runs| runs.parts.len() > 1) {
            let mut one = Runs::new(spill)?;
            one.add(Merged::<R>::of(&runs.file, &runs.parts, self.memory)?)?;
            self.runs = Some(one);
        }
        let len = match &self.runs {
            Some(runs) => (runs.file.len() / R::BYTES as u64) as usize,
            None => self.held.len(),
        };
        Ok(Flat {
            held: self.held,
            file: self.runs.map(|runs| runs.file),
            len,
            block: Vec::new(),
            from: 0,
            bytes: Vec::new(),
        })
    }
}

pub enum Ascending<'a, R> {
    Held(std::slice::Iter<'a, R>),
    Merged(Merged<'a, R>),
}

impl<R: Record> Iterator for Ascending<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        match self {
            Ascending::Held(held) => held.next().map(|record| Ok(*record)),
            Ascending::Merged(merged) => merged.next(),
        }
    }
}

/// Several runs as one.
pub struct Merged<'a, R> {
    runs: Vec<Reading<'a>>,
    next: BinaryHeap<Reverse<(R, usize)>>,
}

struct Reading<'a> {
    file: &'a SpillFile,
    at: u64,
    end: u64,
    window: usize,
    bytes: Vec<u8>,
    used: usize,
}

impl<'a, R: Record> Merged<'a, R> {
    fn of(file: &'a SpillFile, parts: &[Range<u64>], memory: usize) -> Result<Merged<'a, R>> {
        let window = (memory / parts.len().max(1)).clamp(READ_MIN, READ_MAX);
        let window = (window / R::BYTES).max(1) * R::BYTES;
        let reading = |part: &Range<u64>| Reading {
            file,
            at: part.start,
            end: part.end,
            window,
            bytes: Vec::new(),
            used: 0,
        };
        let mut runs: Vec<Reading<'a>> = parts.iter().map(reading).collect();
        let mut next = BinaryHeap::with_capacity(runs.len());
        for (i, run) in runs.iter_mut().enumerate() {
            next.extend(run.next::<R>()?.map(|record| Reverse((record, i))));
        }
        Ok(Merged { runs, next })
    }
}

impl Reading<'_> {
    fn next<R: Record>(&mut self) -> Result<Option<R>> {
        if self.used == self.bytes.len() {
            let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            self.bytes.resize(left.min(self.window), 0);
            self.file.get(self.at, &mut self.bytes)?;
            (self.at, self.used) = (self.at + self.bytes.len() as u64, 0);
        }
        let record = self.bytes.get(self.used..self.used + R::BYTES).map(R::get);
        self.used += record.map_or(0, |_| R::BYTES);
        Ok(record)
    }
}

impl<R: Record> Iterator for Merged<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        let mut top = self.next.peek_mut()?;
        let Reverse((record, run)) = *top;
        match self.runs[run].next::<R>() {
            Ok(Some(after)) => *top = Reverse((after, run)),
            Ok(None) => drop(std::collections::binary_heap::PeekMut::pop(top)),
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(record))
    }
}

/// One sorted run; what is in a file is read in blocks, of which one is in memory.
pub struct Flat<R> {
    held: Vec<R>,
    file: Option<SpillFile>,
    len: usize,
    block: Vec<R>,
    /// Number of the block's first record.
    from: usize,
    bytes: Vec<u8>,
}

impl<R: Record> Flat<R> {
    const BLOCK: usize = READ_MIN / R::BYTES;

    pub fn len(&self) -> usize {
        self.len
    }

    /// All records, ascending.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<R>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            at += 1;
            self.get(at - 1).transpose()
        })
    }

    /// `None` at the end.
    pub fn get(&mut self, at: usize) -> Result<Option<R>> {
        let Some(file) = &self.file else {
            return Ok(self.held.get(at).copied());
        };
        if at >= self.len {
            return Ok(None);
        }
        if at < self.from || at >= self.from + self.block.len() {
            self.from = at / Self::BLOCK * Self::BLOCK;
            let count = Self::BLOCK.min(self.len - self.from);
            self.bytes.resize(count * R::BYTES, 0);
            file.get((self.from * R::BYTES) as u64, &mut self.bytes)?;
            self.block.clear();
            self.block
                .extend(self.bytes.chunks_exact(R::BYTES).map(R::get));
        }
        Ok(self.block.get(at - self.from).copied())
    }

    /// The first of `from..to` that is not `below`, or `to`. `below` holds for a beginning of the records. Looks in
    /// doubling steps, because it is mostly near.
    pub fn gallop(&mut self, from: usize, to: usize, below: impl Fn(&R) -> bool) -> Result<usize> {
        let (mut low, mut step) = (from, 1);
        while low < to {
            let at = (low + step - 1).min(to - 1);
            match self.get(at)? {
                Some(record) if below(&record) => {
                    low = at + 1;
                    step *= 2;
                }
                _ => return self.within(low, at, below),
            }
        }
        Ok(to)
    }

    /// The same, where `high` is known not to be below.
    fn within(
        &mut self,
        mut low: usize,
        mut high: usize,
        below: impl Fn(&R) -> bool,
    ) -> Result<usize> {
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle)? {
                Some(record) if below(&record) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::zone::spill::SpillPlace;

    fn spill(dir: &tempfile::TempDir) -> Spill {
        Spill::new(SpillPlace {
            dir: dir.path().to_owned(),
            max_bytes: 1 << 30,
        })
    }

    /// From all in memory to runs that are merged several times.
    #[test]
    fn records_come_back_sorted_whatever_the_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut rng = SmallRng::seed_from_u64(7);
        let mut all: Vec<u128> = (0..20_000).map(|_| rng.random_range(0..5_000)).collect();
        let spill = spill(&dir);
        for memory in [16, 400, 20_000, 1 << 20] {
            let mut sorter = Sorter::new(&spill, memory);
            for key in &all {
                sorter.push(*key).expect("pushed");
            }
            let sorted = sorter.finish().expect("sorted");
            let found: Vec<u128> = sorted
                .iter()
                .expect("read")
                .map(|k| k.expect("key"))
                .collect();
            let mut flat = sorted.flat(&spill).expect("flat");
            all.sort_unstable();
            assert_eq!(found, all, "{memory}");
            for key in [0, 1, 77, 4_000, 9_999] {
                for from in [0, 10, 15_000] {
                    let to = all.len() - 3;
                    let at = from + all[from..to].partition_point(|k| *k < key);
                    assert_eq!(flat.gallop(from, to, |k| *k < key).expect("read"), at);
                }
            }
            assert_eq!(
                (flat.len(), flat.get(all.len()).expect("read")),
                (all.len(), None)
            );
        }
        assert!(spill.written() > 0);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    /// Of a size that is not moved.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Wide(u64, [u64; 4]);

    impl Record for Wide {
        const BYTES: usize = 40;

        fn head(&self) -> u64 {
            self.0
        }

        fn put(&self, out: &mut Vec<u8>) {
            out.extend(self.0.to_le_bytes());
            self.1.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }

        fn get(bytes: &[u8]) -> Wide {
            let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
            Wide(long(0), [8, 16, 24, 32].map(long))
        }
    }

    #[test]
    fn wide_records_with_equal_heads_are_sorted_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let (spill, mut rng) = (spill(&dir), SmallRng::seed_from_u64(5));
        let wide = |rng: &mut SmallRng| Wide(rng.random_range(0..9), [rng.random_range(0..99); 4]);
        let mut all: Vec<Wide> = (0..5_000).map(|_| wide(&mut rng)).collect();
        let mut sorter = Sorter::new(&spill, 10_000);
        all.iter()
            .for_each(|record| sorter.push(*record).expect("pushed"));
        let sorted = sorter.finish().expect("sorted");
        let found: Vec<Wide> = sorted
            .iter()
            .expect("read")
            .map(|r| r.expect("record"))
            .collect();
        all.sort_unstable();
        assert_eq!(found, all);
    }

    #[test]
    fn more_than_the_limit_is_told_with_its_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = SpillPlace {
            dir: dir.path().to_owned(),
            max_bytes: 100_000,
        };
        let mut sorter = Sorter::new(&Spill::new(place), 1_000);
        let error = (0..10_000u128).find_map(|key| sorter.push(key).err());
        let error = error.expect("too many");
        assert_eq!(error.remedy(), crate::error::Remedy::Retry);
        assert!(error.to_string().contains("spill.max.bytes"), "{error}");
    }
}
