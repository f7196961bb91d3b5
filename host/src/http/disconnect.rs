//! Notices that a client has closed its socket while its request is handled.
//!
//! HTTP/1.1 has no message for it, and a client may close only its sending side and still read. So, for requests that
//! change nothing, a client that stopped sending counts as gone after a while: then the work for its answer is given
//! up.

use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::limits::{LEFT, TICK};

/// A second handle of a connection's socket. It reads nothing.
#[derive(Debug)]
pub(super) struct Disconnect(Option<TcpStream>);

impl Disconnect {
    /// If no second handle can be made, a client that has left is never noticed; the time limit of requests still
    /// holds.
    pub fn of(stream: &TcpStream) -> Disconnect {
        let again = || {
            let own = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
            TcpStream::from_std(own)
        };
        Disconnect(
            again()
                .inspect_err(|error| tracing::debug!(%error, "clients that leave are not noticed"))
                .ok(),
        )
    }

    fn closed(&self, stream: &TcpStream) -> bool {
        let ready = futures::FutureExt::now_or_never(stream.ready(Interest::READABLE));
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }

    /// Ends once the client has sent nothing more, and will not, for [`LEFT`].
    pub async fn left(&self) {
        let Some(stream) = &self.0 else {
            return std::future::pending().await;
        };
        while !self.closed(stream) {
            tokio::time::sleep(TICK).await;
        }
        tokio::time::sleep(LEFT).await;
    }
}
