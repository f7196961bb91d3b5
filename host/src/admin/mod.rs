//! The daemon's HTTP: Kafka Connect's REST API, ours beside it, and the doors in front of both. The only folder that names
//! hyper and openssl.
//!
//! Every row of [`routes`] is one `route::Route`; its handler blocks, and knows no socket.
#![allow(dead_code, reason = "the server that reads the table comes next")]

mod body;
pub mod client;
mod fault;
mod route;
