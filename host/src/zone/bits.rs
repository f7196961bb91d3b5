//! A bit for each row of a batch, in bounded memory: pages, of which those that do not fit lie in a spill file.

use std::collections::VecDeque;

use super::spill::{Spill, SpillFile};
use crate::error::Result;

const WORDS: usize = 512;
const PAGE_BYTES: usize = WORDS * 8;
const PAGE_BITS: u64 = (PAGE_BYTES * 8) as u64;

type Page = Box<[u64; WORDS]>;

#[derive(Debug)]
enum Slot {
    /// No bit was ever set here.
    Clear,
    Held(Page),
    Stored,
}

/// All are clear at first.
#[derive(Debug)]
pub struct Bits {
    spill: Spill,
    most: usize,
    slots: Vec<Slot>,
    /// Pages in memory, the oldest first.
    held: VecDeque<usize>,
    file: Option<SpillFile>,
}

impl Bits {
    /// `memory`: bytes, of which one page always fits.
    pub fn new(spill: &Spill, memory: usize) -> Bits {
        Bits {
            spill: spill.clone(),
            most: (memory / PAGE_BYTES).max(1),
            slots: Vec::new(),
            held: VecDeque::new(),
            file: None,
        }
    }

    pub fn set(&mut self, bit: u64) -> Result<()> {
        let (page, word, mask) = place(bit);
        while self.slots.len() <= page {
            self.slots.push(Slot::Clear);
        }
        if let Slot::Clear = self.slots[page] {
            self.hold(page, Box::new([0; WORDS]))?;
        }
        if let Some(held) = self.page(page)? {
            held[word] |= mask;
        }
        Ok(())
    }

    pub fn get(&mut self, bit: u64) -> Result<bool> {
        let (page, word, mask) = place(bit);
        Ok(self.page(page)?.is_some_and(|held| held[word] & mask != 0))
    }

    /// `None`: clear.
    fn page(&mut self, page: usize) -> Result<Option<&mut Page>> {
        if let (Some(Slot::Stored), Some(file)) = (self.slots.get(page), &self.file) {
            let mut bytes = vec![0; PAGE_BYTES];
            file.get((page * PAGE_BYTES) as u64, &mut bytes)?;
            let mut whole = Box::new([0; WORDS]);
            for (word, bytes) in whole.iter_mut().zip(bytes.chunks_exact(8)) {
                let mut eight = [0; 8];
                eight.copy_from_slice(bytes);
                *word = u64::from_le_bytes(eight);
            }
            self.hold(page, whole)?;
        }
        Ok(match self.slots.get_mut(page) {
            Some(Slot::Held(held)) => Some(held),
            _ => None,
        })
    }

    fn hold(&mut self, page: usize, whole: Page) -> Result<()> {
        while self.held.len() >= self.most
            && let Some(oldest) = self.held.pop_front()
        {
            self.store(oldest)?;
        }
        self.slots[page] = Slot::Held(whole);
        self.held.push_back(page);
        Ok(())
    }

    fn store(&mut self, page: usize) -> Result<()> {
        if let Slot::Held(held) = std::mem::replace(&mut self.slots[page], Slot::Stored) {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(self.spill.file()?),
            };
            let bytes: Vec<u8> = held.iter().flat_map(|word| word.to_le_bytes()).collect();
            file.put((page * PAGE_BYTES) as u64, &bytes)?;
        }
        Ok(())
    }
}

fn place(bit: u64) -> (usize, usize, u64) {
    let within = bit % PAGE_BITS;
    (
        (bit / PAGE_BITS) as usize,
        (within / 64) as usize,
        1 << (within % 64),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::zone::spill::SpillPlace;

    #[test]
    fn bits_are_the_same_however_few_pages_are_in_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let spill = Spill::new(SpillPlace {
            dir: dir.path().to_owned(),
            max_bytes: 1 << 30,
        });
        let last = PAGE_BITS * 9 + 5;
        for memory in [1, 3 * PAGE_BYTES, 1 << 20] {
            let mut rng = SmallRng::seed_from_u64(3);
            let (mut bits, mut model) = (Bits::new(&spill, memory), BTreeSet::new());
            for _ in 0..3_000 {
                let (set, asked) = (rng.random_range(0..=last), rng.random_range(0..=last + 9));
                bits.set(set).expect("set");
                model.insert(set);
                assert_eq!(bits.get(asked).expect("read"), model.contains(&asked));
            }
            for bit in &model {
                assert!(bits.get(*bit).expect("read"), "{bit} {memory}");
            }
        }
    }
}
