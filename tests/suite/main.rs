//! All integration tests of Weir, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows only functions marked as tests, not their helpers"
)]

mod check;
mod protocol;
mod sim;
mod sim_gate;
mod sim_world;
mod tidy;
