//! Tools for authors of plugins, from nothing to rows on the screen: a template, a build, golden samples, checks that
//! every plugin must pass, a race against the native build, and a trial of inferred keys.
//!
//! ```text
//! create → build → Built{name, wasm} → Subject{component} → stage(config, input) → Outcome → golden, checks, race
//! ```
//! It names neither wasmtime nor rdkafka: it runs what a pipeline runs, under the same limits.

pub mod build;
pub mod cell;
pub mod check;
pub mod create;
pub mod golden;
mod hostile;
pub mod input;
pub mod outcome;
pub mod race;
pub mod sample;
pub mod sdk;
pub mod subject;
pub mod trial;

pub use outcome::Outcome;
pub use subject::{Settings, Subject};

use crate::error::{Error, Kind};

/// The error of an attempt that failed.
fn failed(message: impl Into<String>) -> Error {
    Error::new(Kind::PluginRefused, "plugin.author", message)
}

/// The error of an invalid request; nothing was touched.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, "plugin.author", message)
}
