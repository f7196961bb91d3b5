//! Keys of a transform as the config that a guest gets: checked by the schema of the plugin, with files, lookup tables and
//! secrets taken in.

pub mod canonical;
pub mod secrets;
pub mod setup;
pub mod tables;
