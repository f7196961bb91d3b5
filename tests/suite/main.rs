//! All integration tests of Weir, in one binary.

mod batch;
mod protocol;
mod protocol_bench;
mod protocol_log;
mod protocol_rules;
mod sim;
mod sim_gate;
mod sim_world;
mod stream;
mod world;
