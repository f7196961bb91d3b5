//! What crosses between the bench and the native library: pointers and lengths, copied by whoever receives them.
use std::ffi::c_void;

#[repr(C)]
#[derive(Debug)]
pub struct Slice<T> {
    start: *const T,
    len: usize,
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<T> {}

impl<T> Slice<T> {
    pub fn of(items: &[T]) -> Self {
        Self {
            start: items.as_ptr(),
            len: items.len(),
        }
    }

    /// # Safety
    /// The slice this was made of is still there.
    pub unsafe fn get<'a>(self) -> &'a [T] {
        // SAFETY: pointer and length come from a slice, which the caller says is alive.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// A column without children. No validity bytes: no nulls.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub validity: Slice<u8>,
    pub offsets: Slice<i32>,
    pub data: Slice<u8>,
    pub constant: bool,
    /// On the way out: the input column that this is under the row map; -1 where it was made.
    pub unchanged: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    pub row: u32,
    /// -1: the whole row.
    pub part: i64,
    pub code: Slice<u8>,
    /// Empty: none.
    pub field: Slice<u8>,
    pub message: Slice<u8>,
}

/// Stays until the next call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Out {
    /// Every row goes on; else `origin` says which do.
    pub every: bool,
    pub origin: Slice<u32>,
    pub columns: Slice<Node>,
    pub refused: Slice<Refused>,
    pub counters: Slice<u64>,
}

pub const FLATTEN: u32 = 0;
pub const VALIDATE: u32 = 1;

/// Both configs as JSON, and the rule file.
pub type Open = unsafe extern "C" fn(Slice<u8>, Slice<u8>, Slice<u8>) -> *mut c_void;
/// What `Open` gave, which plugin, rows, and all its input columns (for flatten `value` alone).
pub type Run = unsafe extern "C" fn(*mut c_void, u32, u32, Slice<Node>) -> *const Out;
