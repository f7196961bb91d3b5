//! Sockets: listens, bounds connections, speaks TLS and HTTP/1.1, ends within a deadline.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslFiletype, SslMethod, select_next_proto};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::client_timeouts::Watched;
use super::disconnect::Disconnect;
use super::fault::HttpError;
use super::gate::{self, Asks, Gate, Place};
use super::limits::{
    ACCEPT_PAUSE, HANDLERS, HEADER_FIELDS, IO_THREADS, LINGER, PROBE_HEAD, PROBES, TICK,
    TURN_AWAY_TIME, TURNED_AWAY,
};
use super::route::Access;
use super::serve::{Body, Peer, Shared, endless, serve, turned_down};
use crate::config::worker::{Listen, RestConfig, TlsFiles};
use crate::error::{Error, Kind, Result};

/// hyper's least buffer, and room for pieces of bodies.
const BUFFER: usize = 64 << 10;

pub(super) struct Server {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    gate: Arc<Gate>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server with {:?}", self.gate)
    }
}

/// A bound address.
pub(super) struct Bound {
    listener: TcpListener,
    tls: Option<Arc<SslAcceptor>>,
    pub addr: SocketAddr,
}

/// Listens; nothing is accepted yet.
pub(super) fn bind(rest: &RestConfig) -> Result<Vec<Bound>> {
    let bound = rest.listen.iter().map(|listen| {
        let tls = match (&rest.tls, listen.tls) {
            (Some(files), true) => Some(Arc::new(acceptor(files)?)),
            (None, true) => {
                return Err(
                    refused(format!("{listen} is to speak TLS, without a certificate"))
                        .hint("set rest.tls.certificate and rest.tls.key"),
                );
            }
            (_, false) => None,
        };
        let (listener, addr) = open(listen)?;
        Ok(Bound {
            listener,
            tls,
            addr,
        })
    });
    bound.collect()
}

fn refused(message: String) -> Error {
    Error::new(Kind::ConfigInvalid, "rest.listen", message)
}

/// # Errors
/// `limit_reached`: another process has the port. `config_invalid`: whatever else keeps it from listening.
pub(super) fn open(listen: &Listen) -> Result<(TcpListener, SocketAddr)> {
    let host = listen.host.trim_matches(['[', ']']);
    let bound = if host.is_empty() {
        TcpListener::bind(("::", listen.port))
            .or_else(|_| TcpListener::bind(("0.0.0.0", listen.port)))
    } else {
        TcpListener::bind((host, listen.port))
    };
    let opened = bound.and_then(|listener| {
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    });
    opened.map_err(|error| {
        // This passes when the other process ends; an address of another machine does not pass.
        let kind = match error.kind() {
            std::io::ErrorKind::AddrInUse => Kind::LimitReached,
            _ => Kind::ConfigInvalid,
        };
        Error::new(kind, "rest.listen", format!("cannot listen on {listen}"))
            .source(error)
            .hint("another daemon or worker may hold the port; rest.listen names another")
    })
}

fn acceptor(files: &TlsFiles) -> Result<SslAcceptor> {
    let made = || -> std::result::Result<SslAcceptor, (&str, openssl::error::ErrorStack)> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())
            .map_err(|error| ("TLS", error))?;
        builder
            .set_certificate_chain_file(&files.certificate)
            .map_err(|error| ("rest.tls.certificate", error))?;
        builder
            .set_private_key_file(&files.key, SslFiletype::PEM)
            .map_err(|error| ("rest.tls.key", error))?;
        builder
            .check_private_key()
            .map_err(|error| ("rest.tls.key is not the certificate's", error))?;
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x08http/1.1", offered).ok_or(AlpnError::NOACK)
        });
        Ok(builder.build())
    };
    made().map_err(|(what, error)| {
        Error::new(Kind::ConfigInvalid, "rest.tls", what.to_owned())
            .with("certificate", files.certificate.display())
            .with("key", files.key.display())
            .source(error)
            .hint("both are PEM files; the certificate's may hold its chain")
    })
}

impl Server {
    pub fn start(bound: Vec<Bound>, shared: Shared) -> Result<Server> {
        let broken = |error: std::io::Error| {
            Error::new(Kind::Bug, "rest.start", "no threads for HTTP").source(error)
        };
        let probes = shared.routes.iter().filter(|r| r.may == Access::Anyone);
        let threads = HANDLERS + PROBES * probes.count();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .max_blocking_threads(threads)
            .thread_name("rest")
            .enable_io()
            .enable_time()
            .build()
            .map_err(broken)?;
        let gate = Gate::new(&shared.rest);
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
        let (stop, stopped) = (shared.stop.clone(), shared.stop.subscribe());
        let shared = Arc::new(shared);
        for bound in bound {
            let listener = {
                let _inside = runtime.enter();
                tokio::net::TcpListener::from_std(bound.listener).map_err(broken)?
            };
            runtime.spawn(accept(Accepting {
                listener,
                tls: bound.tls,
                shared: Arc::clone(&shared),
                gate: Arc::clone(&gate),
                turned_away: Arc::clone(&turned_away),
                stopped: stopped.clone(),
            }));
        }
        Ok(Server {
            runtime,
            stop,
            gate,
        })
    }

    /// Accepts no new connections; running requests have `grace` to be answered.
    pub fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let quiet = self
            .runtime
            .block_on(async { timeout(grace, self.gate.empty()).await });
        if quiet.is_err() {
            tracing::warn!("requests were cut off: {grace:?} were over");
        }
        // A handler that still blocks is left behind; the process ends after this.
        self.runtime.shutdown_timeout(TICK);
    }
}

struct Accepting {
    listener: tokio::net::TcpListener,
    tls: Option<Arc<SslAcceptor>>,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    turned_away: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

async fn accept(mut own: Accepting) {
    loop {
        let accepted = {
            let stopped = pin!(own.stopped.wait_for(|stop| *stop));
            match select(stopped, pin!(own.listener.accept())).await {
                Either::Left(_) => return,
                Either::Right((accepted, _)) => accepted,
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = match own.gate.enter(peer.ip()) {
            Ok(place) => place,
            Err(full) => {
                // Over TLS there is nothing to say before the handshake.
                if own.tls.is_none()
                    && let Ok(permit) = Arc::clone(&own.turned_away).try_acquire_owned()
                {
                    tokio::spawn(async move {
                        turn_away(stream, full).await;
                        drop(permit);
                    });
                }
                continue;
            }
        };
        let (shared, tls, stopped) = (
            Arc::clone(&own.shared),
            own.tls.clone(),
            own.stopped.clone(),
        );
        tokio::spawn(async move {
            connection(shared, stream, peer, tls, stopped, place).await;
        });
    }
}

/// Answers 503 to one connection too many: if it had to wait, a probe would take the server for dead.
async fn turn_away(mut stream: TcpStream, full: gate::Full) {
    let body = HttpError::new(503, full.message()).body();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let told = timeout(TURN_AWAY_TIME, async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        linger(&mut stream).await
    });
    if let Ok(Err(error)) = told.await {
        tracing::debug!(%error, "a connection over the limit was gone");
    }
}

/// Closes the sending side and reads on until the client is done: unread bytes would turn the close into a reset, which
/// can arrive before the answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut dropped = [0; 4096];
    while stream.read(&mut dropped).await? > 0 {}
    Ok(())
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    addr: SocketAddr,
    tls: Option<Arc<SslAcceptor>>,
    stopped: watch::Receiver<bool>,
    place: Place,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let peer = Peer {
        ip: addr.ip().to_canonical(),
        tls: tls.is_some(),
        asks: place.asks,
    };
    let client = Disconnect::of(&stream);
    let Some(acceptor) = tls else {
        speak(shared, stream, (peer, client), stopped, &place).await;
        return;
    };
    let limit = head_limit(&shared, &place);
    let shaken = async {
        let ssl = Ssl::new(acceptor.context())?;
        let mut stream = SslStream::new(ssl, stream)?;
        Pin::new(&mut stream).accept().await?;
        Ok::<_, openssl::ssl::Error>(stream)
    };
    let shaken = match select(pin!(timeout(limit, shaken)), pin!(place.wanted())).await {
        Either::Left((shaken, _)) => shaken,
        Either::Right(_) => return,
    };
    match shaken {
        Ok(Ok(stream)) => speak(shared, stream, (peer, client), stopped, &place).await,
        Ok(Err(error)) => tracing::debug!(peer = %peer.ip, %error, "no TLS handshake"),
        Err(_) => tracing::debug!(peer = %peer.ip, "no TLS handshake in time"),
    }
}

/// Time for a request's head, or for a handshake.
fn head_limit(shared: &Shared, place: &Place) -> Duration {
    let limit = shared.rest.header_timeout;
    match place.asks {
        Asks::All => limit,
        Asks::Probes(_) => limit.min(PROBE_HEAD),
    }
}

fn http1_builder(max_header: usize, place: &Place) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None) // `overdue` keeps it, and tells an idle connection from a slow one
        .half_close(true)
        .keep_alive(place.asks == Asks::All)
        .max_headers(HEADER_FIELDS)
        .max_header_size(max_header)
        .max_buf_size(BUFFER.max(max_header));
    builder
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: Arc<Shared>,
    stream: S,
    (peer, client): (Peer, Disconnect),
    mut stopped: watch::Receiver<bool>,
    place: &Place,
) {
    let activity = place.activity.clone();
    let limit = head_limit(&shared, place);
    let builder = http1_builder(shared.rest.max_header, place);
    let client = Arc::new(client);
    let (listens, listening) = watch::channel(false);
    let service = {
        let (activity, client) = (activity.clone(), Arc::clone(&client));
        service_fn(move |request: Request<Incoming>| {
            activity.busy();
            let (shared, activity) = (Arc::clone(&shared), activity.clone());
            let (client, listens) = (Arc::clone(&client), listens.clone());
            Box::pin(async move {
                let response = answered(&shared, peer, request, &client).await;
                // An answer that goes on keeps its connection busy.
                match endless(response.body()) {
                    true => drop(listens.send_replace(true)),
                    false => activity.answered(),
                }
                Ok::<_, Infallible>(response)
            })
        })
    };
    let socket = TokioIo::new(Watched::new(stream, activity.clone()));
    let mut talk = builder.serve_connection(socket, service);
    // Its time is over, its place is wanted by somebody else, or nobody listens any more.
    let mut overdue = pin!(select(
        Box::pin(activity.overdue(limit)),
        select(
            Box::pin(place.wanted()),
            Box::pin(listener_left(listening, &client))
        )
    ));
    let done = {
        let stop = pin!(stopped.wait_for(|stop| *stop));
        let early = pin!(select(stop, &mut overdue));
        match select(poll_fn(|cx| talk.poll_without_shutdown(cx)), early).await {
            Either::Left((done, _)) => Some(done),
            Either::Right((Either::Left(_), _)) => None,
            Either::Right((Either::Right(_), _)) => {
                tracing::debug!(peer = %peer.ip, "a client took too long and was cut off");
                return;
            }
        }
    };
    let done = match done {
        Some(done) => done,
        None => {
            Pin::new(&mut talk).graceful_shutdown();
            match select(poll_fn(|cx| talk.poll_without_shutdown(cx)), overdue).await {
                Either::Left((done, _)) => done,
                Either::Right(_) => return,
            }
        }
    };
    if let Err(error) = done {
        tracing::debug!(peer = %peer.ip, %error, "a connection broke");
    }
    part(talk.into_parts().io.into_inner(), stopped, place).await;
}

/// For at most [`LINGER`], and not while somebody waits for the place or the end.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut stopped: watch::Receiver<bool>,
    place: &Place,
) {
    let stopping = async {
        drop(stopped.wait_for(|stop| *stop).await);
        tokio::time::sleep(TICK).await;
    };
    let stopping = select(Box::pin(stopping), Box::pin(place.wanted()));
    let lingering = pin!(timeout(LINGER, linger(&mut stream)));
    select(lingering, pin!(stopping)).await;
}

/// Who listens and has nothing to be told would be missed only with the next heartbeat.
async fn listener_left(mut listening: watch::Receiver<bool>, client: &Disconnect) {
    // It does not listen, and never will.
    if listening.wait_for(|listens| *listens).await.is_err() {
        std::future::pending::<()>().await;
    }
    client.left().await;
}

async fn answered(
    shared: &Arc<Shared>,
    peer: Peer,
    request: Request<Incoming>,
    client: &Disconnect,
) -> Response<Body> {
    let reads = request.method().is_safe();
    let serving = serve(Arc::clone(shared), peer, request);
    match reads {
        true => unless_left(shared, serving, client).await,
        false => serving.await,
    }
}

/// The answer. If the client has left, the handler is told so, and a substitute that nobody reads is returned.
async fn unless_left<F: Future<Output = Response<Body>>>(
    shared: &Shared,
    serving: F,
    client: &Disconnect,
) -> Response<Body> {
    match select(pin!(serving), pin!(client.left())).await {
        Either::Left((response, _)) => response,
        Either::Right(_) => turned_down(shared, HttpError::new(503, "the client has left")),
    }
}

/// `future`, or `None` after `limit` from `since`.
pub(super) async fn within<F: Future>(
    since: Instant,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    let left = limit.saturating_sub(since.elapsed());
    timeout(left, future).await.ok()
}
