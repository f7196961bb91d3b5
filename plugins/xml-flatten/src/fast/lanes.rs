//! Sixteen bytes at a time: WebAssembly's 128-bit vectors, or the same in ordinary words everywhere else. The loads in
//! this file are the plugin's only unsafe code, and each is checked against the text it reads from.

/// Bytes that must be readable behind a text: what a load may reach past its end.
pub const SLACK: usize = 64;
/// Bytes of one load.
pub const WIDTH: usize = 16;

/// A text with `SLACK` bytes behind it, whatever they are.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Source<'a> {
    /// The first `len` of `bytes`, if enough bytes follow them.
    pub fn new(bytes: &'a [u8], len: usize) -> Option<Self> {
        (bytes.len() >= len.checked_add(SLACK)?).then_some(Self { bytes, len })
    }

    /// The same, from a copy in `room`.
    pub fn copied(text: &[u8], room: &'a mut Vec<u8>) -> Self {
        room.clear();
        room.extend_from_slice(text);
        Self::padded(room)
    }

    /// All of `room`, which gets its slack.
    pub fn padded(room: &'a mut Vec<u8>) -> Self {
        let len = room.len();
        room.extend_from_slice(&[b' '; SLACK]);
        Self { bytes: room, len }
    }

    #[inline]
    pub fn text(&self) -> &'a [u8] {
        &self.bytes[..self.len]
    }

    /// The text and what follows it.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The 64 bytes from `at`, which lies within the text.
    #[inline(always)]
    #[expect(
        unsafe_code,
        reason = "one comparison in place of a slice's two, for four loads"
    )]
    pub fn load_block(&self, at: usize) -> [Lanes; SLACK / WIDTH] {
        assert!(at <= self.bytes.len() - SLACK);
        // SAFETY: as in `load`, of 64 bytes.
        let block = unsafe {
            &*self
                .bytes
                .as_ptr()
                .add(at)
                .cast::<[[u8; WIDTH]; SLACK / WIDTH]>()
        };
        block.each_ref().map(Lanes::load)
    }

    /// Sixteen bytes from `at`, which lies at most `SLACK - WIDTH` past the end.
    #[inline(always)]
    #[expect(
        unsafe_code,
        reason = "one comparison in place of a slice's two, on every load there is"
    )]
    pub fn load(&self, at: usize) -> Lanes {
        assert!(at <= self.bytes.len() - WIDTH);
        // SAFETY: every `Source` has at least `SLACK` bytes, so the subtraction above does not wrap, and 16 bytes from
        // `at` lie in `bytes`. An array of bytes asks for no alignment.
        Lanes::load(unsafe { &*self.bytes.as_ptr().add(at).cast::<[u8; WIDTH]>() })
    }
}

pub use imp::Lanes;

#[cfg(target_family = "wasm")]
mod imp {
    use core::arch::wasm32 as simd;

    use super::WIDTH;

    /// Sixteen bytes. Comparisons give 0xFF for true.
    #[derive(Debug, Clone, Copy)]
    pub struct Lanes(simd::v128);

    impl Lanes {
        #[inline(always)]
        #[expect(unsafe_code, reason = "a vector load has no safe form")]
        pub fn load(bytes: &[u8; WIDTH]) -> Self {
            // SAFETY: 16 bytes are behind the reference, and the load asks for no alignment.
            Self(unsafe { simd::v128_load(bytes.as_ptr().cast()) })
        }

        #[inline(always)]
        pub fn splat(byte: u8) -> Self {
            Self(simd::u8x16_splat(byte))
        }

        #[inline(always)]
        pub fn equal(self, other: Self) -> Self {
            Self(simd::u8x16_eq(self.0, other.0))
        }

        /// Bytes below `limit`, and those above 0x7F.
        #[inline(always)]
        pub fn below_or_high(self, limit: u8) -> Self {
            Self(simd::i8x16_lt(self.0, simd::u8x16_splat(limit)))
        }

        /// Bytes of at least `limit`, which is above 0x7F.
        #[inline(always)]
        pub fn at_least(self, limit: u8) -> Self {
            Self(simd::u8x16_ge(self.0, simd::u8x16_splat(limit)))
        }

        #[inline(always)]
        pub fn or(self, other: Self) -> Self {
            Self(simd::v128_or(self.0, other.0))
        }

        #[inline(always)]
        pub fn and(self, other: Self) -> Self {
            Self(simd::v128_and(self.0, other.0))
        }

        #[inline(always)]
        pub fn xor(self, other: Self) -> Self {
            Self(simd::v128_xor(self.0, other.0))
        }

        #[inline(always)]
        pub fn without(self, other: Self) -> Self {
            Self(simd::v128_andnot(self.0, other.0))
        }

        /// The upper half of each byte.
        #[inline(always)]
        pub fn upper(self) -> Self {
            Self(simd::u8x16_shr(self.0, 4))
        }

        /// Of each byte, which is below 16, the byte of `self` at that place.
        #[inline(always)]
        pub fn pick(self, places: Self) -> Self {
            Self(simd::u8x16_swizzle(self.0, places.0))
        }

        /// The highest bit of each byte, the first byte's lowest.
        #[inline(always)]
        pub fn bits(self) -> u32 {
            u32::from(simd::u8x16_bitmask(self.0))
        }

        #[inline(always)]
        pub fn any(self) -> bool {
            simd::v128_any_true(self.0)
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::WIDTH;

    /// Sixteen bytes. Comparisons give 0x80 for true.
    #[derive(Debug, Clone, Copy)]
    pub struct Lanes(u128);

    const ONES: u128 = u128::MAX / 0xFF;
    const HIGH: u128 = ONES * 0x80;
    const LOW: u128 = ONES * 0x7F;

    impl Lanes {
        #[inline(always)]
        pub fn load(bytes: &[u8; WIDTH]) -> Self {
            Self(u128::from_le_bytes(*bytes))
        }

        #[inline(always)]
        pub fn splat(byte: u8) -> Self {
            Self(ONES * u128::from(byte))
        }

        #[inline(always)]
        pub fn equal(self, other: Self) -> Self {
            let differs = self.0 ^ other.0;
            Self(!(((differs & LOW) + LOW) | differs | LOW))
        }

        /// Bytes below `limit`, and those above 0x7F.
        #[inline(always)]
        pub fn below_or_high(self, limit: u8) -> Self {
            let reaches = (self.0 & LOW) + ONES * u128::from(0x80 - limit);
            Self((!reaches | self.0) & HIGH)
        }

        /// Bytes of at least `limit`, which is above 0x7F.
        #[inline(always)]
        pub fn at_least(self, limit: u8) -> Self {
            let reaches = (self.0 & LOW) + ONES * (0x100 - u128::from(limit));
            Self(reaches & self.0 & HIGH)
        }

        #[inline(always)]
        pub fn or(self, other: Self) -> Self {
            Self(self.0 | other.0)
        }

        #[inline(always)]
        pub fn and(self, other: Self) -> Self {
            Self(self.0 & other.0)
        }

        #[inline(always)]
        pub fn xor(self, other: Self) -> Self {
            Self(self.0 ^ other.0)
        }

        #[inline(always)]
        pub fn without(self, other: Self) -> Self {
            Self(self.0 & !other.0)
        }

        /// The upper half of each byte.
        #[inline(always)]
        pub fn upper(self) -> Self {
            Self((self.0 >> 4) & (ONES * 0x0F))
        }

        /// Of each byte, which is below 16, the byte of `self` at that place.
        #[inline(always)]
        pub fn pick(self, places: Self) -> Self {
            let table = self.0.to_le_bytes();
            let picked = places.0.to_le_bytes().map(|n| table[usize::from(n & 15)]);
            Self(u128::from_le_bytes(picked))
        }

        /// The highest bit of each byte, the first byte's lowest.
        #[inline(always)]
        pub fn bits(self) -> u32 {
            let gather = |half: u64| {
                (half >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
            };
            (gather(self.0 as u64) | gather((self.0 >> 64) as u64) << 8) as u32
        }

        #[inline(always)]
        pub fn any(self) -> bool {
            self.0 != 0
        }
    }
}
