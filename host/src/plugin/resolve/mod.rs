//! Finds the build that a name, a version or a digest means: in loose files, in the plugin store, or in the program
//! itself.

pub mod plugins;
pub mod shipped;
pub mod store;
pub mod users;
mod version;
