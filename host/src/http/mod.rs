//! The daemon's HTTP: Kafka Connect's REST API, ours beside it, and the checks in front of both (limits, authentication,
//! DNS rebinding, CSRF). The only folder that names hyper and openssl.
//!
//! Every row of the table of routes is one `route::Route`. Its handler is a blocking function that sees no socket:
//! ```text
//! socket ─ server ─ client_timeouts ─ serve: rate, host name, route, login, role, media types, body ─ handler on its own thread ─ JSON
//! ```

mod auth;
mod body;
mod classes;
pub mod client;
mod client_timeouts;
mod connectors;
pub mod differences;
mod disconnect;
mod events;
mod fault;
mod gate;
mod limits;
mod offsets;
mod openapi;
mod pipelines;
mod plugins;
mod request_body;
mod route;
mod schemas;
pub mod scrape;
mod serve;
mod server;
#[cfg(test)]
mod tests;
mod ui;
mod worker;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, watch};

pub use self::pipelines::{DeadLetters, History};

use self::auth::{Cors, Logins, Rates};
use self::limits::{HANDLERS, LISTENERS};
use self::route::{Method, Route};
use self::serve::Shared;
use self::server::Server;
use crate::config::Text;
use crate::config::worker::{self as config, Listen, RestConfig, WorkerConfig};
use crate::daemon::{Supervisor, Watched};
use crate::error::{Error, Kind, Result};

/// All routes, in the order of the document.
fn routes() -> &'static [Route] {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        [
            worker::routes(),
            connectors::routes(),
            offsets::routes(),
            classes::routes(),
            plugins::routes(),
            pipelines::routes(),
            events::routes(),
            ui::routes(),
        ]
        .concat()
    })
}

/// Those of `weir run --ui`.
fn routes_of_a_run() -> &'static [Route] {
    const PATHS: &[&str] = &[
        "/",
        "/whoami",
        "/livez",
        "/metrics",
        "/ui",
        "/ui/{file}",
        "/events",
        "/pipelines",
        "/pipelines/{pipeline}",
        "/pipelines/{pipeline}/log",
        "/pipelines/{pipeline}/history",
        "/pipelines/{pipeline}/progress",
        "/pipelines/{pipeline}/files",
        "/pipelines/{pipeline}/dlq",
        "/pipelines/{pipeline}/dlq/counts",
        "/pipelines/{pipeline}/dlq/{topic}/{partition}/{offset}",
    ];
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let of_a_run = |route: &&Route| route.method == Method::Get && PATHS.contains(&route.path);
        routes().iter().filter(of_a_run).copied().collect()
    })
}

/// What every connection sees.
fn shared(
    rest: &RestConfig,
    (watched, supervisor): (Arc<dyn Watched>, Option<Arc<Supervisor>>),
    routes: &'static [Route],
    logins: Logins,
) -> Shared {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Shared {
        watched,
        supervisor,
        rest: rest.clone(),
        routes,
        logins,
        cors: Cors::new(&text(&rest.allow_origin), &text(&rest.allow_methods)),
        rates: Rates::new(rest.max_rate),
        handlers: Arc::new(Semaphore::new(HANDLERS)),
        probes: serve::probes(routes),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        stop: watch::Sender::new(false),
    }
}

/// The document that `GET /openapi.json` answers with.
pub fn openapi() -> Value {
    openapi::document(routes())
}

/// A listening server. Dropped without [`Admin::stop`], it ends at once.
#[derive(Debug)]
pub struct Admin {
    server: Server,
    addrs: Vec<SocketAddr>,
}

impl Admin {
    /// Listens on all of `rest.listen`, and answers from now on.
    pub fn serve(supervisor: Arc<Supervisor>, worker: &WorkerConfig) -> Result<Admin> {
        let rest = &worker.rest;
        let locks = locks(rest)?;
        let bound = server::bind(rest)?;
        let addrs: Vec<SocketAddr> = bound.iter().map(|bound| bound.addr).collect();
        if !locks.locked() && !rest.open_to_network {
            // Checked again by address: the config had only names.
            let beyond = addrs
                .iter()
                .find(|addr| !addr.ip().to_canonical().is_loopback());
            if let Some(addr) = beyond {
                let message =
                    format!("rest.listen: {addr} is open to the network, and nobody has to log in");
                return Err(Error::new(Kind::ConfigInvalid, "rest.listen", message).hint(
                    "listen on 127.0.0.1, or set rest.auth.basic.<user> or rest.auth.bearer.<name>, \
                     or write rest.open.to.network = true",
                ));
            }
        }
        for (addr, listen) in addrs.iter().zip(&rest.listen) {
            let open = !listen.tls && !addr.ip().to_canonical().is_loopback();
            if open && locks.locked() {
                tracing::warn!(%addr, "secrets cross the network readable: give the listener https and rest.tls.certificate");
            }
        }
        if let Some(first) = addrs.first() {
            supervisor.listens_on(*first)?;
        }
        let watched: Arc<dyn Watched> = supervisor.clone();
        let shared = shared(rest, (watched, Some(supervisor)), routes(), locks);
        let server = Server::start(bound, shared)?;
        for (addr, listen) in addrs.iter().zip(&rest.listen) {
            let scheme = if listen.tls { "https" } else { "http" };
            tracing::info!("listening on {scheme}://{addr}");
        }
        Ok(Admin { server, addrs })
    }

    /// The page and what it shows, of pipelines that no daemon keeps: nothing can be changed. Only this machine may ask,
    /// because nobody logs in.
    ///
    /// # Errors
    /// `config_invalid`: it is no address of this machine alone. `limit_reached`: another process has the port.
    pub fn watch(watched: Arc<dyn Watched>, listen: &Listen) -> Result<Admin> {
        let refused = |message: String| Error::new(Kind::ConfigInvalid, "run.ui", message);
        let at = listen.to_string();
        // The addresses are looked at below, once they are known.
        let keys = [
            ("rest.listen", at.as_str()),
            ("rest.open.to.network", "true"),
        ];
        let mut rest = config::from_map("--ui", keys)?.rest;
        rest.open_to_network = false;
        let bound = server::bind(&rest).map_err(|error| {
            Error::new(error.kind(), "run.ui", format!("cannot listen on {listen}"))
                .source(error)
                .hint("--ui names another host:port")
        })?;
        let addrs: Vec<SocketAddr> = bound.iter().map(|bound| bound.addr).collect();
        let beyond = |addr: &&SocketAddr| !addr.ip().to_canonical().is_loopback();
        if let Some(addr) = addrs.iter().find(beyond) {
            let message = format!("--ui: {addr} is open to the network, and nobody has to log in");
            return Err(refused(message).hint("listen on 127.0.0.1; `weir daemon` has logins"));
        }
        let shared = shared(&rest, (watched, None), routes_of_a_run(), Logins::readers());
        let server = Server::start(bound, shared)?;
        Ok(Admin { server, addrs })
    }

    /// The first listener's.
    pub fn addr(&self) -> SocketAddr {
        let unbound = SocketAddr::from(([0, 0, 0, 0], 0));
        self.addrs.first().copied().unwrap_or(unbound)
    }

    /// As `rest.listen` lists them.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Accepts no new connections; running requests have `grace`.
    pub fn stop(self, grace: Duration) {
        self.server.stop(grace);
    }
}

/// Secrets are resolved here, once, and kept as digests only.
fn locks(rest: &RestConfig) -> Result<Logins> {
    let resolved = |what: &str, all: &std::collections::BTreeMap<String, Text>| {
        let pairs = all.iter().map(|(name, text)| {
            let key = format!("rest.auth.{what}.{name}");
            let secret = text.resolve().map_err(|error| error.with("key", &key))?;
            let secret = secret.trim().to_owned();
            if secret.is_empty() {
                let message = format!("{key} refers to something empty");
                return Err(Error::new(Kind::ConfigInvalid, "rest.auth", message));
            }
            Ok((name.clone(), secret))
        });
        pairs.collect::<Result<Vec<(String, String)>>>()
    };
    let (basic, bearer) = (
        resolved("basic", &rest.basic)?,
        resolved("bearer", &rest.bearer)?,
    );
    Ok(Logins::new(
        basic.iter().map(|(n, s)| (n.as_str(), s.as_str())),
        bearer.iter().map(|(n, s)| (n.as_str(), s.as_str())),
        rest.read_only.iter().map(String::as_str),
    ))
}
