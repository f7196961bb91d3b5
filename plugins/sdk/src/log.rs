//! Lines for the plugin's author. They cannot change what a plugin computes, and are bounded per batch.
use crate::contract::Level;

/// One line; `row` is a row of the batch now in `run`. Outside a host (native tests) it goes nowhere.
pub fn emit(level: Level, row: Option<u32>, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::contract::weir::plugin::log::emit(level, row, message);
    #[cfg(not(target_family = "wasm"))]
    let _: (Level, Option<u32>, &str) = (level, row, message);
}
