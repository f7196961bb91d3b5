//! The async runtime below the stores. It is not visible outside of `store`: every call of a store blocks.

use std::future::Future;
use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

use crate::error::{Error, Kind, Result};

/// Two are enough: directories block elsewhere, and each caller drives its own request. The workers only run
/// connections and parts in flight.
const WORKERS: usize = 2;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("store")
        .enable_all()
        .build()
});

fn runtime() -> Result<&'static Runtime> {
    RUNTIME.as_ref().map_err(|e| {
        Error::new(
            Kind::LimitReached,
            "store.open",
            format!("the store's thread cannot be started: {e}"),
        )
    })
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(runtime()?.block_on(future))
}

/// Runs in the background; nobody waits for it.
pub(super) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<JoinHandle<T>> {
    Ok(runtime()?.spawn(future))
}

/// For clients that start tasks of their own.
pub(super) fn handle() -> Result<Handle> {
    Ok(runtime()?.handle().clone())
}
