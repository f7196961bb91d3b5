//! `weir run --metrics`: answers `GET /metrics` and `GET /livez`, and nothing else. One thread, few connections, one answer each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::limits::{ACCEPT_PAUSE, HEADER_FIELDS, SCRAPE_TIME, SCRAPERS};
use super::server;
use super::worker::OPENMETRICS;
use crate::config::worker::Listen;
use crate::error::{Error, Kind, Result};

/// Makes the text of a scrape, as of now.
pub type Text = Arc<dyn Fn() -> String + Send + Sync>;

/// Listens, and answers from now on until the process ends. Returns where.
///
/// # Errors
/// `config_invalid`: it is no address of this machine. `limit_reached`: another process has the port.
pub fn serve(listen: &Listen, text: Text) -> Result<SocketAddr> {
    let (listener, addr) = server::open(listen).map_err(|error| {
        let told = Error::new(
            error.kind(),
            "run.metrics",
            format!("cannot listen on {listen}"),
        );
        told.source(error).hint("--metrics names another host:port")
    })?;
    let broken = |error: std::io::Error| {
        Error::new(Kind::Bug, "run.metrics", "no thread for --metrics").source(error)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(broken)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).map_err(broken)?
    };
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || runtime.block_on(accept(listener, text)))
        .map_err(broken)?;
    Ok(addr)
}

async fn accept(listener: TcpListener, text: Text) {
    let places = Arc::new(Semaphore::new(SCRAPERS));
    loop {
        match listener.accept().await {
            // One too many is closed; whoever scrapes comes again.
            Ok((stream, _)) => {
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let text = Arc::clone(&text);
                    tokio::spawn(async move {
                        if timeout(SCRAPE_TIME, speak(stream, text)).await.is_err() {
                            tracing::debug!("a client of --metrics took too long and was cut off");
                        }
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to --metrics could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn speak(stream: TcpStream, text: Text) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &text);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None) // the whole exchange has a limit
        .keep_alive(false)
        .max_headers(HEADER_FIELDS);
    if let Err(error) = builder
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "a connection to --metrics broke");
    }
}

fn answer(request: &Request<Incoming>, text: &Text) -> Response<Full<Bytes>> {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let (status, kind, body) = match (reads, request.uri().path()) {
        (true, "/metrics") => (StatusCode::OK, OPENMETRICS, text()),
        (true, "/livez") => (StatusCode::OK, PLAIN, "the process answers\n".to_owned()),
        (false, "/metrics" | "/livez") => {
            let told = "only GET and HEAD are answered\n".to_owned();
            (StatusCode::METHOD_NOT_ALLOWED, PLAIN, told)
        }
        _ => {
            let told = "here are GET /metrics and GET /livez; `weir daemon` has the rest\n";
            (StatusCode::NOT_FOUND, PLAIN, told.to_owned())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";
