//! Plugins: finds components, refuses or loads them, configures and runs them, and never trusts them.
//!
//! ```text
//! Plugins::find(name, pin) → Component{info, digest} → canonical(Keys) → Canonical{digest}
//!                                  → transform(Stage, Canonical) → Box<dyn Transform>
//! ```
//! Rooms, the lowest first: `boundary` (data between host and guest), `config` (what a guest gets in `init`),
//! `compile`, `run`, `resolve`.
//!
//! [`Plugins::keep`] stores component and config for good, so that both are found later by the digests that a log
//! names. This is the only folder that names wasmtime. [`Limits`] and the constants beside it bound what a plugin can
//! do to a pipeline; its output is checked buffer by buffer before it becomes Arrow (`boundary`). A call that fails is
//! repeated on halves of the batch, each with a fresh instance, until a single record is left: that record is refused
//! with one of [`codes`], and the others are not affected.

mod boundary;
mod compile;
mod config;
mod limits;
mod resolve;
mod run;
mod text;

pub use compile::child::{child as compile_stdin, this_is_weir};
pub use compile::engine::Stop;
pub use config::canonical::{Attached, Canonical};
pub use config::setup::{Keys, SetupError, SetupProblem, Stage};
pub use limits::*;
pub use resolve::plugins::{Places, Plugins};
pub use resolve::shipped::{Shipped, all as shipped};
pub use resolve::store::{Item, PluginStore, Pushed, Ref};
pub use resolve::users::User;
pub use run::author::{Crossing, CrossingNode, crossing};
pub use run::component::{CONTRACT, Component, Info};
pub use run::inspect::{ConfigKey, Import, Shape};

/// Codes of records that were set aside although no rule refused them.
pub mod codes {
    /// A panic, a memory fault, a stack overflow, a call of `exit`.
    pub const TRAPPED: &str = "plugin_trapped";
    /// `run` returned an error.
    pub const ERROR: &str = "plugin_error";
    /// The output breaks a rule of the contract or a limit.
    pub const OUTPUT_INVALID: &str = "plugin_output_invalid";
    /// The plugin wanted more memory than the limit allows.
    pub const OUT_OF_MEMORY: &str = "plugin_out_of_memory";
    /// The record alone burns more than [`super::Limits::fuel`].
    pub const FUEL_EXHAUSTED: &str = "fuel_exhausted";
}
