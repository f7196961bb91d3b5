//! One request: rate, host name, route, login, role, media types, body, handler, answer. In this order, but that a path that is not there is
//! told after the login; each refusal is JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE,
    HOST, HeaderName, HeaderValue, IF_NONE_MATCH, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::sync::{Semaphore, watch};

use super::auth::{Cors, Logins, Rates};
use super::events::{self, Stream};
use super::fault::HttpError;
use super::gate::Asks;
use super::limits::{PROBE_TIMEOUT, PROBES};
use super::request_body;
use super::route::{
    self, Access, Content, Ctx, Found, HttpResponse, Method, Request, RequestBody, ResponseBody,
    Role, Route,
};
use super::server::within;
use crate::config::worker::RestConfig;
use crate::daemon::{Actor, Asker, Supervisor, Watched};

/// What every connection sees.
pub(super) struct Shared {
    pub watched: Arc<dyn Watched>,
    /// None in `weir run`.
    pub supervisor: Option<Arc<Supervisor>>,
    pub rest: RestConfig,
    pub routes: &'static [Route],
    pub logins: Logins,
    pub cors: Cors,
    pub rates: Rates,
    pub handlers: Arc<Semaphore>,
    /// Handlers of each probe, by its path.
    pub probes: BTreeMap<&'static str, Arc<Semaphore>>,
    /// Places of those who listen to `/events`.
    pub listeners: Arc<Semaphore>,
    /// True: the server ends.
    pub stop: watch::Sender<bool>,
}

/// What an answer is sent as.
pub(super) type Body = Either<Full<Bytes>, Stream>;

pub(super) fn endless(body: &Body) -> bool {
    matches!(body, Either::Right(_))
}

pub(super) fn probes(routes: &[Route]) -> BTreeMap<&'static str, Arc<Semaphore>> {
    let probes = routes.iter().filter(|route| route.may == Access::Anyone);
    let own = |route: &Route| (route.path, Arc::new(Semaphore::new(PROBES)));
    probes.map(own).collect()
}

impl Shared {
    /// The limit of concurrent handlers for a route: handlers that hang must not block probes.
    fn threads_of(&self, route: &Route) -> Arc<Semaphore> {
        let own = self.probes.get(route.path);
        own.unwrap_or(&self.handlers).clone()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub ip: IpAddr,
    pub tls: bool,
    /// On this connection.
    pub asks: Asks,
}

type Wire = hyper::Request<Incoming>;

pub(super) async fn serve(shared: Arc<Shared>, peer: Peer, wire: Wire) -> Response<Body> {
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
    answer
        .headers
        .extend(shared.cors.headers(origin.as_deref()));
    let response = written(&shared, answer, closes);
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    // The query is left out: people put tokens there.
    tracing::debug!(peer = %peer.ip, %method, path, status = response.status().as_u16(), micros, "request");
    response
}

/// A refusal as it is sent, after which the connection is closed.
pub(super) fn turned_down(shared: &Shared, fault: HttpError) -> Response<Body> {
    written(shared, refusal(fault), true)
}

fn refusal(fault: HttpError) -> HttpResponse {
    let body = fault.body();
    HttpResponse {
        status: fault.status,
        content: Content::Json(body),
        headers: fault.headers,
    }
}

fn written(shared: &Shared, answer: HttpResponse, mut closes: bool) -> Response<Body> {
    let whole = |bytes: Bytes| Either::Left(Full::new(bytes));
    let (kind, body) = match answer.content {
        Content::None => (None, whole(Bytes::new())),
        Content::Json(bytes) => (Some("application/json"), whole(Bytes::from(bytes))),
        Content::Text(kind, text) => (Some(kind), whole(Bytes::from(text))),
        Content::File(kind, bytes) => (Some(kind), whole(Bytes::from_static(bytes))),
        Content::Events(feed) => {
            // Nothing else comes on this connection.
            closes = true;
            (Some(events::KIND), Either::Right(feed.begin(shared)))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let may_keep = answer
        .headers
        .iter()
        .any(|(name, _)| *name == "cache-control");
    if !may_keep {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
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

/// Answers OPTIONS: the methods of a path; for a browser's preflight, whether its page may send the request.
fn options(
    shared: &Shared,
    peer: Peer,
    wire: &Wire,
    origin: Option<&str>,
    now: Instant,
) -> Result<HttpResponse, HttpError> {
    shared.rates.take(peer.ip, now)?;
    let mut answer = HttpResponse::empty(200);
    if wire.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let mut headers = shared.cors.preflight(origin);
        // `serve` adds the other two to every answer.
        headers.retain(|(name, _)| *name != "access-control-allow-origin" && *name != "vary");
        answer.headers = headers;
        return Ok(answer);
    }
    match route::find(shared.routes, None, wire.uri().path())? {
        Found::OtherMethods(methods) => Ok(answer.header("allow", allowed(&methods))),
        Found::Unknown | Found::Route(..) => Err(HttpError::not_found("HTTP 404 Not Found")),
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
) -> Result<HttpResponse, HttpError> {
    let Admitted {
        route,
        params,
        actor,
        role,
    } = admit(shared, peer, &wire, began, closes)?;
    let base = base(&wire, peer);
    let query = route::query(wire.uri().query().unwrap_or(""))?;
    let mut request = Request {
        params,
        query,
        body: Vec::new(),
        upload: None,
        base,
        path: wire.uri().path().to_owned(),
        known: text(wire.headers(), &IF_NONE_MATCH).map(str::to_owned),
    };
    let ctx = Ctx {
        watched: Arc::clone(&shared.watched),
        supervisor: shared.supervisor.clone(),
        actor,
        role,
        locked: shared.logins.locked(),
        asker: Asker::default(),
    };
    let kind = wire.headers().get(CONTENT_TYPE).cloned();
    let body = wire.into_body();
    if let RequestBody::Bytes = route.takes {
        let (upload, feed) = request_body::stream(&shared.rest, body);
        request.upload = Some(Box::new(upload));
        let running = run(shared, route, ctx, request, began);
        let (fed, result) = futures::future::join(feed, running).await;
        return fed.explains(result, closes).await;
    }
    let bytes = request_body::whole(&shared.rest, body, closes).await?;
    if let RequestBody::Json(_) = route.takes {
        if !bytes.is_empty() {
            json_only(kind.as_ref())?;
        }
        request.body = bytes;
    }
    run(shared, route, ctx, request, began).await
}

/// A request that may be answered.
struct Admitted {
    route: &'static Route,
    params: Vec<(&'static str, String)>,
    actor: Actor,
    role: Role,
}

/// Decides whether a request is admitted: by the rate of the peer, the host name that it used, its login, and the
/// rights of that login on the route.
fn admit(
    shared: &Shared,
    peer: Peer,
    wire: &Wire,
    began: Instant,
    closes: &mut bool,
) -> Result<Admitted, HttpError> {
    shared.rates.take(peer.ip, began)?;
    let hosts = wire.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && wire.version() == hyper::Version::HTTP_11) {
        *closes = true;
        return Err(HttpError::bad("a request has one Host header"));
    }
    if !shared.logins.locked() && !shared.rest.open_to_network {
        not_rebound(&shared.rest, text(wire.headers(), &HOST))?;
    }
    let method = Method::of(wire.method().as_str());
    let found = route::find(shared.routes, method, wire.uri().path());
    let anyone = matches!(&found, Ok(Found::Route(route, _)) if route.may == Access::Anyone);
    if let Asks::Probes(full) = peer.asks
        && !anyone
    {
        *closes = true;
        return Err(HttpError::new(503, full.message()).header("retry-after", "1"));
    }
    let open = matches!(&found, Ok(Found::Route(route, _)) if route.may == Access::Open);
    let (actor, role) = log_in(shared, peer, wire.headers(), anyone || open, began)?;
    let (route, params) = match found? {
        Found::Route(route, params) => (route, params),
        Found::Unknown => return Err(HttpError::not_found("HTTP 404 Not Found")),
        Found::OtherMethods(methods) => {
            return Err(HttpError::new(405, "HTTP 405 Method Not Allowed")
                .header("allow", allowed(&methods)));
        }
    };
    if route.may == Access::Writer {
        if role == Role::ReadOnly {
            let who = &actor.0;
            let message = format!("`{who}` may only read (rest.auth.read.only)");
            return Err(HttpError::new(403, message));
        }
        not_forged(shared, peer, wire.headers())?;
    }
    acceptable(route, wire.headers())?;
    Ok(Admitted {
        route,
        params,
        actor,
        role,
    })
}

/// Routes for anyone are also open after a failed login.
fn log_in(
    shared: &Shared,
    peer: Peer,
    headers: &HeaderMap,
    anyone: bool,
    began: Instant,
) -> Result<(Actor, Role), HttpError> {
    let authorization = headers.get(AUTHORIZATION);
    let entered = shared
        .logins
        .enter(authorization.map(HeaderValue::as_bytes), peer.ip);
    match entered {
        Err(_) if anyone => Ok((Actor(format!("anonymous@{}", peer.ip)), Role::ReadOnly)),
        Err(fault) => {
            if authorization.is_some() {
                shared.rates.failed_login(peer.ip, began);
            }
            Err(unprompted(fault, headers))
        }
        entered => entered,
    }
}

/// The page asks for name and password itself: to what its scripts ask for, no browser shall answer with a window of its
/// own. Browsers mark such requests, and leave alone a scheme that they do not know.
fn unprompted(mut fault: HttpError, headers: &HeaderMap) -> HttpError {
    let dest = headers.get("sec-fetch-dest");
    if dest.is_some_and(|dest| dest.as_bytes() == b"empty") {
        for (name, value) in &mut fault.headers {
            if *name == "www-authenticate" {
                value.insert(0, 'x');
            }
        }
    }
    fault
}

/// Guards against DNS rebinding, where nobody has to log in. An attacker's page may change what its own host name means to
/// 127.0.0.1; the browser then takes this daemon for that site, and lets the page read and write here. But it still sends
/// the page's host name in `Host`: only names of this machine pass.
fn not_rebound(rest: &RestConfig, host: Option<&str>) -> Result<(), HttpError> {
    fn name(host: &str) -> &str {
        match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => host.split(':').next().unwrap_or(host),
        }
    }
    let Some(host) = host else { return Ok(()) };
    let known = rest.advertised.as_deref().map(name);
    let name = name(host);
    let ip = name.parse::<IpAddr>();
    if name.is_empty()
        || known.is_some_and(|known| known.eq_ignore_ascii_case(name))
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    {
        return Ok(());
    }
    Err(HttpError::new(
        403,
        format!(
            "{host:?} is no name of this machine; ask 127.0.0.1 or localhost, set rest.advertised, or let people log in (rest.auth.…)"
        ),
    ))
}

/// Guards against cross-site request forgery (CSRF): a page of another site must not change pipelines through its reader's
/// browser. Browsers name the page's origin in `Origin` of every request that could change something, and say in
/// `Sec-Fetch-Site` whether it is of another site.
fn not_forged(shared: &Shared, peer: Peer, headers: &HeaderMap) -> Result<(), HttpError> {
    let site = headers.get("sec-fetch-site");
    let elsewhere = site.is_some_and(|site| site.as_bytes() == b"cross-site");
    let origin = text(headers, &ORIGIN);
    let own = || {
        let scheme = if peer.tls { "https" } else { "http" };
        text(headers, &HOST).map(|host| format!("{scheme}://{host}"))
    };
    let other = origin.is_some_and(|origin| own().is_none_or(|own| own != origin));
    if (elsewhere || other) && !origin.is_some_and(|origin| shared.cors.allows(origin)) {
        return Err(HttpError::new(
            403,
            "a page of another site may not change anything here; access.control.allow.origin lists those that may",
        ));
    }
    Ok(())
}

/// 406 if a route answers in JSON and the client does not accept JSON.
fn acceptable(route: &Route, headers: &HeaderMap) -> Result<(), HttpError> {
    let json = |(_, gives): &(u16, ResponseBody)| matches!(gives, ResponseBody::Json(_));
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
        return Err(HttpError::new(406, "HTTP 406 Not Acceptable"));
    }
    Ok(())
}

/// 415 for a body with another Content-Type. A body without one is read as JSON.
fn json_only(kind: Option<&HeaderValue>) -> Result<(), HttpError> {
    let Some(kind) = kind else { return Ok(()) };
    let kind = kind.to_str().unwrap_or("").to_ascii_lowercase();
    if kind.split(';').next().unwrap_or("").trim() == "application/json" {
        return Ok(());
    }
    Err(HttpError::new(415, "HTTP 415 Unsupported Media Type"))
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

/// Tells a handler that nobody waits any more.
struct Leaves(Asker);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.left();
    }
}

/// Runs the handler on its own thread; a panic affects only this request.
async fn run(
    shared: &Shared,
    route: &'static Route,
    ctx: Ctx,
    mut request: Request,
    began: Instant,
) -> Result<HttpResponse, HttpError> {
    let probe = route.may == Access::Anyone;
    let limit = if probe {
        PROBE_TIMEOUT
    } else {
        shared.rest.request_timeout
    };
    let permit = {
        let waiting = shared.threads_of(route).acquire_owned();
        match within(began, limit, waiting).await {
            Some(Ok(permit)) => Some(permit),
            Some(Err(_)) | None => {
                return Err(HttpError::internal(
                    "Request timed out. The worker is currently handling other requests.",
                ));
            }
        }
    };
    // Dropped with this future: the answer was given, its time is over, or the connection has ended.
    let _leaves = Leaves(ctx.asker.clone());
    let job = tokio::task::spawn_blocking(move || {
        let result = (route.handler)(&ctx, &mut request);
        drop(permit);
        result
    });
    match within(began, limit, job).await {
        Some(Ok(result)) => result,
        Some(Err(error)) => {
            tracing::error!(%error, ?route, "a handler panicked");
            Err(HttpError::internal(format!(
                "{route:?} panicked; this is a defect of Weir, and the log has its place"
            )))
        }
        None => {
            tracing::warn!(?route, ?limit, "a request took too long");
            Err(HttpError::internal(format!(
                "Request timed out. The worker is currently handling {route:?}, which began {limit:?} ago. A change that had begun goes on."
            )))
        }
    }
}
