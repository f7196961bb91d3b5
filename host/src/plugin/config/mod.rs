//! Makes a guest's config from the keys of a transform: checked by the plugin's schema, with the content of files,
//! lookup tables and secrets.

pub mod canonical;
pub mod secrets;
pub mod setup;
pub mod tables;
