//! The daemon's HTTP: Kafka Connect's REST API, ours beside it, and the doors in front of both. The only folder that names
//! axum, hyper and openssl.
