//! All integration tests of Weir, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; clippy.toml knows #[test] functions, not their helpers"
)]

mod any_store;
mod attacks;
mod author;
mod author_infer;
mod author_tools;
mod bad_input;
mod batch;
mod bounded;
mod brokers;
mod check;
mod check_files;
mod cli;
mod clients;
mod connect_compare;
mod connect_diff;
mod connect_differences;
mod connect_http;
mod connect_script;
mod connect_worker;
mod convert;
mod convert_run;
mod daemon;
mod daemon_rig;
mod dead_letters;
mod doctor;
mod endings;
mod endings_start;
mod every_key;
mod few_threads;
mod file_connectors;
mod first_hour;
mod friday;
mod guard;
mod guests;
mod guests_amplify;
mod guests_evil;
mod guests_hostile;
mod guests_refused;
mod handover;
mod hdfs_cluster;
mod hdfs_store;
mod hostile;
mod journal;
mod kill;
mod lake;
mod names;
mod pages;
mod planted;
mod printable;
mod protocol;
mod protocol_bench;
mod protocol_log;
mod protocol_rewind;
mod protocol_rules;
mod protocol_uploads;
mod rate;
mod readable;
mod real_kafka;
mod real_stream;
mod remote;
mod remote_doors;
mod remote_rules;
mod rest;
mod rest_connect;
mod rest_forms;
mod rest_fuzz;
mod rest_kill;
mod rest_places;
mod rest_rig;
mod rewind;
mod rewind_kill;
mod row_digest;
mod secured;
mod service;
mod sim;
mod sim_gate;
mod sim_rewind;
mod sim_world;
mod store;
mod store_setup;
mod stream;
mod swap;
mod swap_kill;
mod swap_rig;
mod tidy;
mod worker_file;
mod world;
