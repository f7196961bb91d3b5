//! Weir: records from Kafka, rules in WebAssembly, Parquet that can be trusted, exactly once.
//!
//! ```text
//! Source::next → Batch{records, covers} → TransformChain::apply → rows + dead letters → Sink::write
//!    roll:  Sink::seal → Sealed{files, deliveries, spans} → Log::commit → Committed{version}
//!                      → Log::publish(&Committed) → Acknowledge (group offsets)
//! ```
//! Reading order: `record`, `chain`, `sink`, `commit`, `pipeline`. A room imports only from rooms below it (the order stands in
//! `tests/suite/tidy.rs`). Each heavy crate is named in one folder only:
//! rdkafka in `kafka`, wasmtime in `plugin`, object_store in `store`, parquet in `zone`, hyper in `http`.

pub mod author;
pub mod backoff;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod commit;
pub mod config;
pub mod connect;
pub mod connectors;
pub mod convert;
mod cron;
pub mod daemon;
pub mod error;
pub mod filestream;
pub mod finding;
pub mod fs;
mod hash;
pub mod http;
pub mod infer;
mod instant;
mod joda;
mod json;
pub mod kafka;
mod lock;
pub mod logging;
mod nearest;
pub mod operations;
pub mod pipeline;
pub mod plugin;
pub mod record;
pub mod sample;
pub mod sink;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod tls;
pub mod zone;
