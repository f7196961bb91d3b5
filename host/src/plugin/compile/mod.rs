//! From WebAssembly to native code: in a child process that a hostile component cannot take this one down with, kept on disk.

mod cache;
pub mod child;
pub mod engine;
