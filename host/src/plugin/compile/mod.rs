//! Compiles WebAssembly to native code, in a child process, so that a hostile component cannot crash this one, and
//! caches it on disk.

mod cache;
pub mod child;
pub mod engine;
