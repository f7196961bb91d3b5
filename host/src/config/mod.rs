//! A pipeline is a flat map. It is read twice: raw (what was typed, with places) → checked (what it means).
//!
//! Nothing after [`checked`] validates again, and all problems of all files are reported at once.

pub mod checked;
pub mod problem;
mod properties;
pub mod raw;
pub mod text;

pub use checked::PipelineConfig;
pub use problem::{Place, Problem, Severity};
pub use raw::Raw;
pub use text::Text;
