//! One request: rate, door, route, role, media types, body, handler, answer. In this order; each refusal is JSON.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CACHE_CONTROL, CONNECTION,
    CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::sync::{Semaphore, mpsc};

use super::doors::{Cors, Doors, Rates};
use super::fault::Fault;
use super::limits::{DRAIN, DRAIN_TIME, PIECES, PROBE_TIMEOUT};
use super::route::{
    self, Answer, Content, Ctx, Found, Gives, May, Method, Request, Role, Route, Takes,
};
use super::server::within;
use crate::config::worker::RestConfig;
use crate::supervisor::Supervisor;

/// What every connection sees.
pub(super) struct Shared {
    pub supervisor: Arc<Supervisor>,
    pub rest: RestConfig,
    pub routes: &'static [Route],
    pub doors: Doors,
    pub cors: Cors,
    pub rates: Rates,
    pub handlers: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub ip: IpAddr,
    pub tls: bool,
}

type Wire = hyper::Request<Incoming>;

pub(super) async fn serve(shared: Arc<Shared>, peer: Peer, wire: Wire) -> Response<Full<Bytes>> {
    let began = Instant::now();
    let method = wire.method().clone();
    let path = wire.uri().path().to_owned();
    let origin = text(wire.headers(), &ORIGIN).map(str::to_owned);
    let mut closes = false;
    let result = if method == hyper::Method::OPTIONS {
        options(&shared, peer, &wire, origin.as_deref(), began)
    } else {
        handle(&shared, peer, wire, began, &mut closes).await
    };
    let mut answer = result.unwrap_or_else(refusal);
    answer.headers.extend(shared.cors.headers(origin.as_deref()));
    let response = written(answer, closes);
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    // The query is left out: people put tokens there.
    tracing::debug!(peer = %peer.ip, %method, path, status = response.status().as_u16(), micros, "request");
    response
}

fn refusal(fault: Fault) -> Answer {
    let body = fault.body();
    Answer {
        status: fault.status,
        content: Content::Json(body),
        headers: fault.headers,
    }
}

fn written(answer: Answer, closes: bool) -> Response<Full<Bytes>> {
    let (kind, body) = match answer.content {
        Content::None => (None, Bytes::new()),
        Content::Json(bytes) => (Some("application/json"), Bytes::from(bytes)),
        Content::Text(kind, text) => (Some(kind), Bytes::from(text)),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a path takes; for a browser that asks ahead, whether its page may.
fn options(
    shared: &Shared,
    peer: Peer,
    wire: &Wire,
    origin: Option<&str>,
    now: Instant,
) -> Result<Answer, Fault> {
    shared.rates.take(peer.ip, now)?;
    let mut answer = Answer::empty(200);
    if wire.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let mut headers = shared.cors.preflight(origin);
        // `serve` adds the other two to every answer.
        headers.retain(|(name, _)| *name != "access-control-allow-origin" && *name != "vary");
        answer.headers = headers;
        return Ok(answer);
    }
    match route::find(shared.routes, None, wire.uri().path())? {
        Found::OtherMethods(methods) => Ok(answer.header("allow", allowed(&methods))),
        Found::Unknown | Found::Route(..) => Err(Fault::not_found("HTTP 404 Not Found")),
    }
}

fn allowed(methods: &[Method]) -> String {
    let mut words = Vec::new();
    for method in methods {
        words.push(method.word());
        if *method == Method::Get {
            words.push("HEAD");
        }
    }
    words.push("OPTIONS");
    words.join(",")
}

async fn handle(
    shared: &Arc<Shared>,
    peer: Peer,
    wire: Wire,
    began: Instant,
    closes: &mut bool,
) -> Result<Answer, Fault> {
    shared.rates.take(peer.ip, began)?;
    let method = Method::of(wire.method().as_str());
    let found = route::find(shared.routes, method, wire.uri().path());
    let anyone = matches!(&found, Ok(Found::Route(route, _)) if route.may == May::Anyone);
    let authorization = wire.headers().get(AUTHORIZATION);
    let entered = shared
        .doors
        .enter(authorization.map(HeaderValue::as_bytes), peer.ip);
    let (actor, role) = match entered {
        Ok(entered) => entered,
        Err(_) if anyone => (
            crate::supervisor::Actor(format!("anonymous@{}", peer.ip)),
            Role::ReadOnly,
        ),
        Err(fault) => {
            if authorization.is_some() {
                shared.rates.failed_login(peer.ip, began);
            }
            return Err(fault);
        }
    };
    let (route, params) = match found? {
        Found::Route(route, params) => (route, params),
        Found::Unknown => return Err(Fault::not_found("HTTP 404 Not Found")),
        Found::OtherMethods(methods) => {
            return Err(Fault::new(405, "HTTP 405 Method Not Allowed")
                .header("allow", allowed(&methods)));
        }
    };
    if route.may == May::Writer {
        if role == Role::ReadOnly {
            let who = &actor.0;
            return Err(Fault::new(403, format!("`{who}` may only read (rest.auth.read.only)")));
        }
        foreign_page(shared, wire.headers())?;
    }
    acceptable(route, wire.headers())?;
    let base = base(&wire, peer);
    let query = route::query(wire.uri().query().unwrap_or(""))?;
    let mut request = Request {
        params,
        query,
        body: Vec::new(),
        upload: None,
        base,
    };
    let ctx = Ctx {
        supervisor: Arc::clone(&shared.supervisor),
        actor,
        role,
    };
    match route.takes {
        Takes::Bytes => push(shared, route, ctx, request, wire, began, closes).await,
        Takes::Nothing => {
            // Read, so that the connection can go on.
            let _dropped = whole(shared, wire.into_body(), closes).await?;
            run(shared, route, ctx, request, began).await
        }
        Takes::Json(_) => {
            let kind = wire.headers().get(CONTENT_TYPE).cloned();
            request.body = whole(shared, wire.into_body(), closes).await?;
            if !request.body.is_empty() {
                json_only(kind.as_ref())?;
            }
            run(shared, route, ctx, request, began).await
        }
    }
}

/// A page of another site must not move pipelines through its reader's browser; browsers say so on addresses of this machine.
fn foreign_page(shared: &Shared, headers: &HeaderMap) -> Result<(), Fault> {
    let site = headers.get("sec-fetch-site");
    let foreign = site.is_some_and(|site| site.as_bytes() == b"cross-site");
    if foreign && !text(headers, &ORIGIN).is_some_and(|origin| shared.cors.allows(origin)) {
        return Err(Fault::new(
            403,
            "a page of another site may not change anything here; access.control.allow.origin lists those that may",
        ));
    }
    Ok(())
}

/// 406 where a route answers in JSON and the client takes none.
fn acceptable(route: &Route, headers: &HeaderMap) -> Result<(), Fault> {
    let json = |(_, gives): &(u16, Gives)| matches!(gives, Gives::Json(_));
    if !route.gives.iter().any(json) {
        return Ok(());
    }
    let mut named = false;
    for value in headers.get_all(ACCEPT) {
        let Ok(value) = value.to_str() else {
            continue;
        };
        for range in value.split(',') {
            let mut pieces = range.split(';').map(str::trim);
            let kind = pieces.next().unwrap_or("").to_ascii_lowercase();
            if kind.is_empty() {
                continue;
            }
            named = true;
            let refused = pieces.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            if !refused && ["*/*", "application/*", "application/json"].contains(&kind.as_str()) {
                return Ok(());
            }
        }
    }
    if named {
        return Err(Fault::new(406, "HTTP 406 Not Acceptable"));
    }
    Ok(())
}

/// 415 for a body that says it is something else. One that says nothing is read as JSON.
fn json_only(kind: Option<&HeaderValue>) -> Result<(), Fault> {
    let Some(kind) = kind else { return Ok(()) };
    let kind = kind.to_str().unwrap_or("").to_ascii_lowercase();
    if kind.split(';').next().unwrap_or("").trim() == "application/json" {
        return Ok(());
    }
    Err(Fault::new(415, "HTTP 415 Unsupported Media Type"))
}

/// The address by which the client came.
fn base(wire: &Wire, peer: Peer) -> String {
    let scheme = if peer.tls { "https" } else { "http" };
    let plain = |host: &&str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        !host.is_empty() && host.chars().all(fits)
    };
    let host = text(wire.headers(), &HOST).filter(plain);
    host.map_or_else(String::new, |host| format!("{scheme}://{host}"))
}

/// A body of at most `rest.max.body`, within `rest.body.timeout`.
async fn whole(shared: &Shared, mut body: Incoming, closes: &mut bool) -> Result<Vec<u8>, Fault> {
    let most = shared.rest.max_body;
    let limit = shared.rest.body_timeout;
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
                return Err(Fault::bad(format!("the body broke off: {error}")));
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
    drop(bytes);
    *closes = true;
    drain(body).await;
    Err(Fault::new(
        413,
        format!("the body is larger than {most} bytes (rest.max.body)"),
    ))
}

fn slow(limit: Duration) -> Fault {
    Fault::new(
        408,
        format!("the body did not arrive within {limit:?} (rest.body.timeout)"),
    )
}

/// Some of what still comes, so that the refusal is read before the connection closes.
async fn drain(mut body: Incoming) {
    let began = Instant::now();
    let mut dropped = 0;
    while dropped < DRAIN {
        match within(began, DRAIN_TIME, body.frame()).await {
            Some(Some(Ok(frame))) => dropped += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}

/// The handler on a thread of its own; its panic is one request's.
async fn run(
    shared: &Shared,
    route: &'static Route,
    ctx: Ctx,
    mut request: Request,
    began: Instant,
) -> Result<Answer, Fault> {
    let probe = route.may == May::Anyone;
    let limit = if probe {
        PROBE_TIMEOUT
    } else {
        shared.rest.request_timeout
    };
    let permit = if probe {
        None
    } else {
        let waiting = Arc::clone(&shared.handlers).acquire_owned();
        match within(began, limit, waiting).await {
            Some(Ok(permit)) => Some(permit),
            Some(Err(_)) | None => {
                return Err(Fault::internal(
                    "Request timed out. The worker is currently handling other requests.",
                ));
            }
        }
    };
    let job = tokio::task::spawn_blocking(move || {
        let result = (route.handler)(&ctx, &mut request);
        drop(permit);
        result
    });
    match within(began, limit, job).await {
        Some(Ok(result)) => result,
        Some(Err(error)) => {
            tracing::error!(%error, ?route, "a handler panicked");
            Err(Fault::internal(format!(
                "{route:?} panicked; this is a defect of Weir, and the log has its place"
            )))
        }
        None => {
            tracing::warn!(?route, ?limit, "a request took too long");
            Err(Fault::internal(format!(
                "Request timed out. The worker is currently handling {route:?}, which began {limit:?} ago. It goes on."
            )))
        }
    }
}

/// An upload: pieces go to the handler as they come.
async fn push(
    shared: &Arc<Shared>,
    route: &'static Route,
    ctx: Ctx,
    mut request: Request,
    wire: Wire,
    began: Instant,
    closes: &mut bool,
) -> Result<Answer, Fault> {
    let (pieces, inbox) = mpsc::channel(PIECES);
    request.upload = Some(Box::new(Upload {
        inbox,
        piece: Bytes::new(),
    }));
    let fault = Arc::new(Mutex::new(None));
    let feeding = feed(shared, wire.into_body(), pieces, Arc::clone(&fault));
    let running = run(shared, route, ctx, request, began);
    let (rest, result) = futures::future::join(feeding, running).await;
    // What the client did wrong explains the handler's error better than the handler can.
    let told = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(body) = rest {
        *closes = true;
        drain(body).await;
    }
    match (result, told) {
        (Err(_), Some(fault)) => {
            *closes = true;
            Err(fault)
        }
        (result, _) => result,
    }
}

/// Passes the body on. What is left of it, where the handler wanted no more or the body is too large.
async fn feed(
    shared: &Shared,
    mut body: Incoming,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    fault: Arc<Mutex<Option<Fault>>>,
) -> Option<Incoming> {
    let most = shared.rest.max_plugin;
    let limit = shared.rest.body_timeout;
    let mut passed = 0;
    let stop = |why: Fault| {
        let error = io::Error::other(why.message.clone());
        *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        error
    };
    loop {
        let error = match within(Instant::now(), limit, body.frame()).await {
            None => stop(slow(limit)),
            Some(None) => return None,
            Some(Some(Err(error))) => stop(Fault::bad(format!("the body broke off: {error}"))),
            Some(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                passed += piece.len();
                if passed <= most {
                    if pieces.send(Ok(piece)).await.is_err() {
                        return (!body.is_end_stream()).then_some(body);
                    }
                    continue;
                }
                let text = format!("the body is larger than {most} bytes (rest.max.plugin)");
                stop(Fault::new(413, text))
            }
        };
        let _handler_gone = pieces.send(Err(error)).await;
        return Some(body);
    }
}

/// The handler's side. An end without error is the body's true end.
struct Upload {
    inbox: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Upload {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.inbox.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let taken = self.piece.split_to(into.len().min(self.piece.len()));
        into[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
