//! What `weir doctor` asks of the API: does it answer, and does it take the credentials. A HEAD request changes nothing there.

use std::time::Instant;

use super::HttpSinkConfig;
use super::client::{Client, Reply};
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;

const API: &str = "sink.api";

pub(super) fn examine(config: &HttpSinkConfig, tell: &mut dyn FnMut(Finding)) {
    let begun = Instant::now();
    let target = config.target();
    let at = Some(target.as_str());
    let found = match asked(config) {
        Err(error) | Ok(Reply::None { error, .. } | Reply::Unsent(error)) => {
            Finding::failed(API, at, &error)
        }
        Ok(Reply::Answer(answer)) => match answer.status {
            401 | 403 | 407 => Finding::failed(API, at, &answer.stops()),
            300..=399 => Finding::failed(API, at, &answer.stops()),
            429 | 500..=599 => Finding::warn(
                API,
                at,
                format!("answers {} to HEAD", answer.told()),
                "ask again: the pipeline waits for it",
            ),
            status => Finding::pass(
                API,
                at,
                format!(
                    "answers HTTP {status} to HEAD; rows are sent by {}",
                    config.method
                ),
            ),
        },
    };
    tell(found.took(begun.elapsed()));
}

fn asked(config: &HttpSinkConfig) -> Result<Reply> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Kind::LimitReached, "http.examine", "no runtime").source(e))?;
    let client = Client::new(config.clone())?;
    runtime.block_on(client.look())
}
