//! The first pass over a message: where its `<`, `>` and `&` are, and what kinds of bytes it holds.
use weir_sdk::builder::append_over;

use super::lanes::{Lanes, SLACK, Source, WIDTH};

/// Bytes that one step looks at: one bit each in a word.
const BLOCK: usize = 64;
/// Positions written at once, without looking at how many there are.
const AT_ONCE: usize = 12;
/// Entries behind the last position, all the length of the text: what a look ahead finds.
pub const SENTINELS: usize = 4;

/// The positions, in order, then the sentinels. Kept from message to message for its memory.
#[derive(Debug, Default)]
pub struct Index {
    positions: Vec<u32>,
    len: usize,
}

/// What a text may hold beyond ASCII, tabs and line feeds; what lies behind it counts too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Odd {
    /// Other control characters.
    pub low: bool,
    /// Bytes above 0x7F.
    pub high: bool,
}

impl Index {
    #[inline]
    pub fn positions(&self) -> &[u32] {
        &self.positions[..self.len]
    }

    /// Reads all of `source`.
    pub fn fill(&mut self, source: Source<'_>) -> Odd {
        let (and, more, two) = (
            Lanes::splat(b'&'),
            Lanes::splat(b'>'),
            Lanes::splat(b'<' ^ b'>'),
        );
        let (line_feed, tab) = (Lanes::splat(b'\n'), Lanes::splat(b'\t'));
        let (mut low, mut high) = (Lanes::splat(0), Lanes::splat(0));
        let (zero, upper) = (Lanes::splat(0), Lanes::splat(0xE0));
        let mut count = 0;
        let mut at = 0;
        let len = source.len();
        while at < len {
            let mut found = 0u64;
            for (n, lanes) in source.load_block(at).into_iter().enumerate() {
                let special = lanes.or(two).equal(more).or(lanes.equal(and));
                found |= u64::from(special.bits()) << (n * WIDTH);
                let blank = lanes.equal(line_feed).or(lanes.equal(tab));
                low = low.or(lanes.and(upper).equal(zero).without(blank));
                high = high.or(lanes);
            }
            if len - at < BLOCK {
                found &= (1 << (len - at)) - 1;
            }
            if self.positions.len() < count + BLOCK {
                self.positions.resize((count + BLOCK) * 2, 0);
            }
            let last = count + found.count_ones() as usize;
            while count < last {
                if let Some(room) = self.positions[count..].first_chunk_mut::<AT_ONCE>() {
                    for entry in room {
                        *entry = at as u32 + found.trailing_zeros();
                        found &= found.wrapping_sub(1);
                    }
                }
                count += AT_ONCE;
            }
            count = last;
            at += BLOCK;
        }
        self.positions
            .resize(self.positions.len().max(count + SENTINELS), 0);
        self.positions[count..count + SENTINELS].fill(len as u32);
        self.len = count + SENTINELS;
        Odd {
            low: low.any(),
            high: high.bits() != 0,
        }
    }
}

/// XML's line ends: CR LF and CR become LF. Whether there was a CR.
pub fn line_ends(source: Source<'_>, out: &mut Vec<u8>) -> bool {
    out.clear();
    out.reserve(source.len() + 2 * BLOCK);
    let cr = Lanes::splat(b'\r');
    let bytes = source.bytes();
    let (mut from, mut at) = (0, 0);
    while at < source.len() {
        let mut found = source.load(at).equal(cr).bits();
        while found != 0 {
            let to = at + found.trailing_zeros() as usize;
            found &= found - 1;
            if to >= source.len() {
                break;
            }
            if to >= from {
                append_over(out, &bytes[from..], to - from);
            }
            from = to + 1;
            if to + 1 >= source.len() || bytes[to + 1] != b'\n' {
                out.push(b'\n');
            }
        }
        at += WIDTH;
    }
    append_over(out, &bytes[from..], source.len() - from);
    from > 0
}

const TOO_SHORT: u8 = 1;
const TOO_LONG: u8 = 1 << 1;
const OVERLONG_3: u8 = 1 << 2;
const TOO_LARGE: u8 = 1 << 3;
const SURROGATE: u8 = 1 << 4;
const OVERLONG_2: u8 = 1 << 5;
const TOO_LARGE_1000: u8 = 1 << 6;
const OVERLONG_4: u8 = 1 << 6;
const TWO_CONTINUED: u8 = 1 << 7;
const CARRY: u8 = TOO_SHORT | TOO_LONG | TWO_CONTINUED;
const LARGE: u8 = CARRY | TOO_LARGE | TOO_LARGE_1000;

/// What can be wrong by the upper half of a byte …
const FIRST_UPPER: [u8; 16] = {
    let mut table = [TOO_LONG; 16];
    table[0x8] = TWO_CONTINUED;
    table[0x9] = TWO_CONTINUED;
    table[0xA] = TWO_CONTINUED;
    table[0xB] = TWO_CONTINUED;
    table[0xC] = TOO_SHORT | OVERLONG_2;
    table[0xD] = TOO_SHORT;
    table[0xE] = TOO_SHORT | OVERLONG_3 | SURROGATE;
    table[0xF] = TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4;
    table
};
/// … its lower half …
const FIRST_LOWER: [u8; 16] = {
    let mut table = [LARGE; 16];
    table[0x0] = CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4;
    table[0x1] = CARRY | OVERLONG_2;
    table[0x2] = CARRY;
    table[0x3] = CARRY;
    table[0x4] = CARRY | TOO_LARGE;
    table[0xD] = LARGE | SURROGATE;
    table
};
/// … and the upper half of the byte after it. What all three name is wrong.
const SECOND_UPPER: [u8; 16] = {
    let all = TOO_LONG | OVERLONG_2 | TWO_CONTINUED;
    let mut table = [TOO_SHORT; 16];
    table[0x8] = all | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4;
    table[0x9] = all | OVERLONG_3 | TOO_LARGE;
    table[0xA] = all | SURROGATE | TOO_LARGE;
    table[0xB] = all | SURROGATE | TOO_LARGE;
    table
};

/// Whether `source`, in which `fill` found what is `odd`, has carriage returns; nothing if it holds what no XML document may: other control characters,
/// U+FFFE or U+FFFF, or what is not UTF-8. After Keiser and Lemire, "Validating UTF-8 in less than one instruction per
/// byte" (2020).
pub fn examine(source: Source<'_>, odd: Odd) -> Option<bool> {
    if odd
        == (Odd {
            low: false,
            high: false,
        })
    {
        return Some(false);
    }
    let len = source.len();
    let (line_feed, tab, cr) = (
        Lanes::splat(b'\n'),
        Lanes::splat(b'\t'),
        Lanes::splat(b'\r'),
    );
    let (mut control, mut returns) = (0, 0);
    let last_at = len - len % WIDTH;
    let (first, last) = (edge(source, 0), edge(source, last_at));
    let (mut at, mut before) = (0, 0);
    while at < len {
        if !odd.low && before == 0 && at % BLOCK == 0 && at + BLOCK <= len {
            let [a, b, c, d] = source.load_block(at);
            if a.or(b).or(c.or(d)).bits() == 0 {
                at += BLOCK;
                continue;
            }
        }
        let (here, place) = match at {
            0 => (Source::new(&first, 2 * WIDTH)?, WIDTH),
            _ if at == last_at => (Source::new(&last, 2 * WIDTH)?, WIDTH),
            _ => (source, at),
        };
        let lanes = here.load(place);
        let blank = lanes.equal(line_feed).or(lanes.equal(tab));
        let (carriage, high) = (lanes.equal(cr).bits(), lanes.bits());
        returns |= carriage;
        control |= lanes.below_or_high(b' ').without(blank).bits() & !high & !carriage;
        if high | before != 0 && wrong(here, place).any() {
            return None;
        }
        before = high;
        at += WIDTH;
    }
    let text = source.text();
    let ends = |back: usize, least: u8| len >= back && text[len - back] >= least;
    let cut = ends(1, 0xC0) || ends(2, 0xE0) || ends(3, 0xF0);
    (!cut && control == 0).then_some(returns != 0)
}

/// The 16 bytes from `at`, with the 16 before them, and blanks where the text does not reach.
fn edge(source: Source<'_>, at: usize) -> [u8; 2 * WIDTH + SLACK] {
    let mut room = [b' '; 2 * WIDTH + SLACK];
    let text = source.text();
    let (from, to) = (at.saturating_sub(WIDTH), text.len().min(at + WIDTH));
    let begin = WIDTH + from - at;
    room[begin..begin + to - from].copy_from_slice(&text[from..to]);
    room
}

/// Bytes that are not 0 where what precedes them, up to three bytes back, forbids them.
#[inline(always)]
fn wrong(source: Source<'_>, at: usize) -> Lanes {
    let now = source.load(at);
    let [one, two, three] = [1, 2, 3].map(|back| source.load(at - back));
    let lower = Lanes::splat(0x0F);
    let pairs = Lanes::load(&FIRST_UPPER)
        .pick(one.upper())
        .and(Lanes::load(&FIRST_LOWER).pick(one.and(lower)))
        .and(Lanes::load(&SECOND_UPPER).pick(now.upper()));
    let continued = two
        .at_least(0xE0)
        .or(three.at_least(0xF0))
        .and(Lanes::splat(0x80));
    let no_character = two
        .equal(Lanes::splat(0xEF))
        .and(one.equal(Lanes::splat(0xBF)))
        .and(now.at_least(0xBE));
    pairs.xor(continued).or(no_character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict;

    /// `text` between bytes that would be found if they were looked at.
    fn each(texts: impl Iterator<Item = Vec<u8>>, mut check: impl FnMut(&[u8], Source<'_>)) {
        for text in texts {
            for behind in [b'<', b'\r', 0, 0x80, 0xE2] {
                let bytes = [&text[..], &[behind; SLACK]].concat();
                check(&text, Source::new(&bytes, text.len()).unwrap());
            }
        }
    }

    fn pieces() -> impl Iterator<Item = Vec<u8>> {
        let pieces: [&[u8]; 22] = [
            b"<",
            b"<>&<>&<>&<>&<>&<>&<>&<>&<>&<>&<>&",
            b"\r",
            b"\r\n\r",
            b"\t\n",
            b"\x1F",
            b"\x7F",
            b"\0",
            b"\xC3\xA9",
            b"\xC3",
            b"\xA9",
            b"\xC0\xAF",
            b"\xE2\x82\xAC",
            b"\xE2\x82",
            b"\xE0\x9F\xBF",
            b"\xED\xA0\x80",
            b"\xEF\xBF\xBD",
            b"\xEF\xBF\xBE",
            b"\xF0\x9F\x98\x80",
            b"\xF0\x8F\xBF\xBF",
            b"\xF4\x90\x80\x80",
            b"\xF8\x88\x80\x80\x80",
        ];
        pieces.into_iter().flat_map(|piece| {
            (0..70).flat_map(move |before| {
                [0, 1, 2, 15, 16, 17, 63, 64]
                    .map(|after| [&vec![b'x'; before], piece, &vec![b'y'; after]].concat())
            })
        })
    }

    #[test]
    fn every_special_byte_has_its_place_and_none_behind_the_text() {
        let mut index = Index::default();
        each(pieces(), |text, source| {
            index.fill(source);
            let special = |n: &usize| matches!(text[*n], b'<' | b'>' | b'&');
            let mut expected: Vec<u32> =
                (0..text.len()).filter(special).map(|n| n as u32).collect();
            expected.extend([text.len() as u32; SENTINELS]);
            assert_eq!(index.positions(), expected, "{text:?}");
        });
    }

    #[test]
    fn what_may_not_stand_in_a_document_is_found_as_the_event_reader_finds_it() {
        let mut index = Index::default();
        each(pieces(), |text, source| {
            let found = strict::look(text);
            let good = strict::characters(text, found).is_ok();
            let odd = index.fill(source);
            assert_eq!(
                examine(source, odd),
                good.then_some(found.carriage_return),
                "{text:?}"
            );
        });
    }

    #[test]
    fn line_ends_are_those_of_the_event_reader() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        each(pieces(), |text, source| {
            let any = line_ends(source, &mut ours);
            strict::line_ends(text, &mut theirs);
            assert_eq!((any, &ours), (text.contains(&b'\r'), &theirs), "{text:?}");
        });
    }
}
