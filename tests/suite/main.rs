//! All integration tests of Weir, in one binary.

mod batch;
mod brokers;
mod protocol;
mod real_kafka;
mod sim;
mod sim_gate;
mod sim_world;
mod stream;
mod world;
