//! `GET /events`: what became other, as server-sent events, for pages that show many pipelines.
//!
//! Nothing is queued for a client: once a second it is told what differs from what it was told before, so one that reads slowly
//! is told less often, and the memory for it is a number for each pipeline. One that reads nothing is cut off as any other is.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::future::{Either, select};
use hyper::body::{Body, Frame};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::fault::HttpError;
use super::limits::{EVENTS_EVERY, HEARTBEAT, LISTENERS};
use super::route::{Access, Ctx, HttpResponse, Method, Request, RequestBody, ResponseBody, Route};
use super::serve::Shared;
use crate::operations::status::Pipeline;
use crate::text::printable_json;

pub(super) const KIND: &str = "text/event-stream";

pub(super) fn routes() -> Vec<Route> {
    vec![Route {
        method: Method::Get,
        path: "/events",
        may: Access::Reader,
        tag: "pipelines",
        summary: "Server-sent events: the pipelines whose state or numbers became other, all of them at first; it does not end by itself",
        query: &[],
        takes: RequestBody::Nothing,
        gives: &[(200, ResponseBody::Text(KIND))],
        faults: &[503],
        handler: listen,
    }]
}

fn listen(ctx: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    Ok(HttpResponse::events(Feed {
        ctx: ctx.clone(),
        told: BTreeMap::new(),
        begun: false,
    }))
}

/// What one client is told.
pub(super) struct Feed {
    ctx: Ctx,
    /// Digest of each pipeline as it was told last.
    told: BTreeMap<String, u64>,
    begun: bool,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed of {} pipelines", self.told.len())
    }
}

/// The data of an event `pipelines`.
#[derive(Serialize)]
struct News<'a> {
    changed: &'a [Pipeline],
    gone: &'a [String],
}

impl Feed {
    /// The next event, if there is one.
    fn next(&mut self) -> Option<Bytes> {
        let watched = &self.ctx.watched;
        let (mut changed, mut told) = (Vec::new(), BTreeMap::new());
        for name in watched.pipelines() {
            // It may have been deleted since.
            let Ok(mut shown) = watched.standing(&name) else {
                continue;
            };
            let whole = (!self.begun).then(|| shown.clone());
            if let Some(live) = &mut shown.live {
                // Whoever listens has the ones before.
                let newest = live.recent.pop();
                live.recent = newest.into_iter().collect();
            }
            let digest = digest(&shown);
            if self.told.get(&name) != Some(&digest) {
                changed.push(whole.unwrap_or(shown));
            }
            told.insert(name, digest);
        }
        let gone = self.told.keys().filter(|name| !told.contains_key(*name));
        let gone: Vec<String> = gone.cloned().collect();
        self.told = told;
        let begun = std::mem::replace(&mut self.begun, true);
        if begun && changed.is_empty() && gone.is_empty() {
            return None;
        }
        let news = News {
            changed: &changed,
            gone: &gone,
        };
        let data = serde_json::to_string(&news).unwrap_or_else(|_| json!({}).to_string());
        let data = printable_json(&data);
        Some(Bytes::from(format!("event: pipelines\ndata: {data}\n\n")))
    }

    /// The body that tells it. At most [`LISTENERS`] at a time; one more is told to come again.
    pub fn begin(self, shared: &Shared) -> Stream {
        let (to, from) = mpsc::channel(1);
        match shared.listeners.clone().try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(tell(self, to, shared.stop.subscribe(), place));
            }
            Err(_) => {
                let full = json!({ "message": format!("{LISTENERS} pages listen already; this one asks every few seconds") });
                let _full = to.try_send(Bytes::from(format!("event: full\ndata: {full}\n\n")));
            }
        }
        Stream(from)
    }
}

fn digest(shown: &Pipeline) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(shown)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

/// Until the client leaves or the server ends.
async fn tell(
    mut feed: Feed,
    to: mpsc::Sender<Bytes>,
    mut stop: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    let mut spoke = Instant::now();
    let mut stopped = pin!(stop.wait_for(|stop| *stop));
    loop {
        // It waits for locks: not on a thread that moves bytes.
        let asked = tokio::task::spawn_blocking(move || {
            let news = feed.next();
            (feed, news)
        });
        let Ok((back, news)) = asked.await else {
            break;
        };
        feed = back;
        let quiet = spoke.elapsed() >= HEARTBEAT;
        let bytes = news.or_else(|| quiet.then(|| Bytes::from_static(b":\n\n")));
        let step = async {
            if let Some(bytes) = bytes {
                spoke = Instant::now();
                to.send(bytes).await.map_err(drop)?;
            }
            let time = tokio::time::sleep(EVENTS_EVERY);
            match select(pin!(time), pin!(to.closed())).await {
                Either::Left(_) => Ok(()),
                Either::Right(_) => Err(()),
            }
        };
        match select(stopped.as_mut(), pin!(step)).await {
            Either::Right((Ok(()), _)) => {}
            Either::Right((Err(()), _)) | Either::Left(_) => break,
        }
    }
    drop(place);
}

/// Pieces as they come.
#[derive(Debug)]
pub(super) struct Stream(mpsc::Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
