//! Which build a name, a version or a digest means, and where it lies: loose files, the plugin store, the program itself.

pub mod plugins;
pub mod shipped;
pub mod store;
mod version;
