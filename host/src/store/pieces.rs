//! The bytes of a part while it is filled and sent: in small pieces, so that they take the memory that encoding gave free.
//!
//! A single block of a part's size finds no room between what is freed bit by bit; the process would grow by each such block
//! (measured: 40 MiB when two files of 128 MiB are closed).

use bytes::Bytes;

/// Below the size from which the allocator asks the kernel for a block of its own (128 KiB).
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Pieces {
    full: Vec<Bytes>,
    open: Vec<u8>,
    bytes: usize,
}

impl Pieces {
    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes as many bytes as there is room for below `most`, and says how many.
    pub fn fill(&mut self, bytes: &[u8], most: usize) -> usize {
        let taken = bytes.len().min(most.saturating_sub(self.bytes));
        let mut rest = bytes.get(..taken).unwrap_or_default();
        while !rest.is_empty() {
            if self.open.capacity() == 0 {
                self.open.reserve_exact(PIECE_BYTES);
            }
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES - self.open.len()));
            self.open.extend_from_slice(now);
            if self.open.len() >= PIECE_BYTES {
                self.full.push(std::mem::take(&mut self.open).into());
            }
            rest = later;
        }
        self.bytes += taken;
        taken
    }

    /// All of them, in order; nothing is left.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        let mut all = std::mem::take(&mut self.full);
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            all.push(open.into());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 7).map(|n| (n % 251) as u8).collect();
        let (mut pieces, mut from) = (Pieces::default(), 0);
        for step in [1, PIECE_BYTES - 1, PIECE_BYTES + 5, bytes.len()] {
            let to = bytes.len().min(from + step);
            from += pieces.fill(&bytes[from..to], bytes.len());
        }
        assert_eq!((from, pieces.len()), (bytes.len(), bytes.len()));
        let taken = pieces.take();
        assert!(taken.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert!(taken.concat() == bytes);
        assert!(pieces.is_empty() && pieces.take().is_empty());
        assert_eq!(pieces.fill(&[1; 10], 4), 4);
        assert_eq!(pieces.fill(&[1; 10], 4), 0);
    }
}
