//! Request bodies: bounded in size and time, read as a whole, or passed in pieces to the handler.

use std::future::Future;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::mpsc;

use super::fault::HttpError;
use super::limits::PIECES;
use super::route::HttpResponse;
use super::server::within;
use crate::config::worker::RestConfig;

/// A body of at most `rest.max.body`, within `rest.body.timeout`. `closes`: the connection cannot be used again.
pub(super) async fn whole(
    rest: &RestConfig,
    mut body: Incoming,
    closes: &mut bool,
) -> Result<Vec<u8>, HttpError> {
    let most = rest.max_body;
    let limit = rest.body_timeout;
    let began = Instant::now();
    let declared = body.size_hint().lower();
    let mut bytes = Vec::new();
    let mut too_large = usize::try_from(declared).map_or(true, |declared| declared > most);
    while !too_large {
        let Some(frame) = within(began, limit, body.frame()).await else {
            *closes = true;
            return Err(slow(limit));
        };
        match frame {
            None => return Ok(bytes),
            Some(Err(error)) => {
                *closes = true;
                return Err(HttpError::bad(format!("the body broke off: {error}")));
            }
            Some(Ok(frame)) => {
                let Some(piece) = frame.data_ref() else {
                    continue;
                };
                too_large = bytes.len() + piece.len() > most;
                bytes.extend_from_slice(piece);
            }
        }
    }
    *closes = true;
    Err(large(most, "rest.max.body"))
}

fn slow(limit: Duration) -> HttpError {
    HttpError::new(
        408,
        format!("the body did not arrive within {limit:?} (rest.body.timeout)"),
    )
}

fn large(most: usize, key: &str) -> HttpError {
    HttpError::new(413, format!("the body is larger than {most} bytes ({key})"))
}

/// The outcome of a body that was passed on.
pub(super) struct Fed {
    /// What the client did wrong.
    fault: Option<HttpError>,
    /// What nobody read.
    rest: Option<Incoming>,
}

impl Fed {
    /// The client's fault explains the handler's error better than the handler can.
    pub async fn explains(
        self,
        result: Result<HttpResponse, HttpError>,
        closes: &mut bool,
    ) -> Result<HttpResponse, HttpError> {
        *closes |= self.rest.is_some();
        match (result, self.fault) {
            (Err(_), Some(fault)) => Err(fault),
            (result, _) => result,
        }
    }
}

/// What the handler's side receives.
#[derive(Debug)]
enum Heard {
    Piece(Bytes),
    Broken(io::Error),
    /// The body's true end. Without it the upload was given up.
    End,
}

/// The handler's side of a body of at most `rest.max.plugin`, and the future that feeds it. `rest.body.timeout` is for
/// each piece, `rest.request.timeout` for the whole.
pub(super) fn stream(
    rest: &RestConfig,
    body: Incoming,
) -> (Upload, impl Future<Output = Fed> + use<>) {
    let (pieces, inbox) = mpsc::channel(PIECES);
    let upload = Upload {
        inbox,
        piece: Bytes::new(),
        ended: false,
    };
    let times = (rest.body_timeout, rest.request_timeout);
    (upload, feed(rest.max_plugin, times, body, pieces))
}

async fn feed(
    most: usize,
    (limit, whole): (Duration, Duration),
    mut body: Incoming,
    pieces: mpsc::Sender<Heard>,
) -> Fed {
    let began = Instant::now();
    let mut passed = 0;
    let fault = loop {
        if began.elapsed() >= whole {
            break HttpError::new(
                408,
                format!("the body did not arrive within {whole:?} (rest.request.timeout)"),
            );
        }
        match within(Instant::now(), limit, body.frame()).await {
            None => break slow(limit),
            Some(None) => {
                let _handler_gone = within(Instant::now(), limit, pieces.send(Heard::End)).await;
                return Fed {
                    fault: None,
                    rest: None,
                };
            }
            Some(Some(Err(error))) => break HttpError::bad(format!("the body broke off: {error}")),
            Some(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                passed += piece.len();
                if passed > most {
                    break large(most, "rest.max.plugin");
                }
                // A handler that does not read delays the client no longer than the client may delay the handler.
                let taken = within(Instant::now(), limit, pieces.send(Heard::Piece(piece))).await;
                if !matches!(taken, Some(Ok(()))) {
                    let rest = (!body.is_end_stream()).then_some(body);
                    return Fed { fault: None, rest };
                }
            }
        }
    };
    let error = Heard::Broken(io::Error::other(fault.message.clone()));
    let _handler_gone = within(Instant::now(), limit, pieces.send(error)).await;
    Fed {
        fault: Some(fault),
        rest: Some(body),
    }
}

/// The handler's side. An end without error is the body's true end.
#[derive(Debug)]
pub(super) struct Upload {
    inbox: mpsc::Receiver<Heard>,
    piece: Bytes,
    ended: bool,
}

impl Read for Upload {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.inbox.blocking_recv() {
                Some(Heard::Piece(piece)) => self.piece = piece,
                Some(Heard::Broken(error)) => return Err(error),
                Some(Heard::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the upload was given up: nobody took its pieces in time",
                    ));
                }
            }
        }
        let taken = self.piece.split_to(into.len().min(self.piece.len()));
        into[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
