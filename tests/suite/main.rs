//! All integration tests of Weir, in one binary.

mod protocol;
mod sim;
mod sim_gate;
mod sim_world;
