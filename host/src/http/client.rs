//! The command line's side of the daemon's HTTP: one request, its answer or the daemon's own words for why not.
//!
//! It blocks, and uses one connection per request. No request is repeated automatically: repeating a push or a swap is
//! the user's decision.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::route::{Method, encoded};
use crate::error::{Error, Kind, Result};

/// Time for name lookup, TCP and TLS: far above that of a slow network, and short enough for a person.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// From the first byte sent to the last one read; above the daemon's own `rest.request.timeout` (90 s), so that its answer
/// is heard.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Bytes of an answer: above every page that the daemon makes.
const ANSWER_BYTES: usize = 64 << 20;
const OP: &str = "daemon.ask";

/// Where the system keeps the certificates that it trusts; the first that is there counts.
const SYSTEM_CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The login for the daemon. Never printed.
pub enum Credentials {
    None,
    Token(String),
    Password { user: String, password: String },
}

/// What a request carries.
#[derive(Clone, Debug)]
pub enum Carries {
    Nothing,
    Json(Value),
    Bytes(Vec<u8>),
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Denied {
    pub error: Error,
    /// The daemon's `details`, null where it said none.
    pub details: Value,
}

impl From<Error> for Box<Denied> {
    fn from(error: Error) -> Box<Denied> {
        let details = Value::Null;
        Box::new(Denied { error, details })
    }
}

impl From<Box<Denied>> for Error {
    fn from(denied: Box<Denied>) -> Error {
        denied.error
    }
}

pub type Answered = Result<Value, Box<Denied>>;

/// A daemon's address, and how to connect to it.
pub struct Client {
    /// As it was given, without a slash at its end.
    url: String,
    host: String,
    port: u16,
    prefix: String,
    tls: Option<SslConnector>,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "client of {}", self.url)
    }
}

impl Client {
    /// `ca`: a PEM file of the certificates to trust instead of the system's.
    pub fn new(url: &str, credentials: &Credentials, ca: Option<&Path>) -> Result<Client> {
        let url = url.trim_end_matches('/');
        let wrong = |why: String| {
            usage(format!("`{url}` is no daemon's address: {why}"))
                .hint("http://HOST:PORT or https://HOST:PORT")
        };
        let uri: Uri = url.parse().map_err(|e| wrong(format!("{e}")))?;
        let authority = uri
            .authority()
            .ok_or_else(|| wrong("no host".to_owned()))?
            .as_str();
        if authority.contains('@') {
            return Err(usage("a password in the address is seen by everybody who lists processes").hint(
                "--token-file FILE or --password-file FILE; WEIR_TOKEN, or WEIR_USER and WEIR_PASSWORD",
            ));
        }
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("neither http nor https".to_owned())),
        };
        let host = uri.host().unwrap_or_default();
        Ok(Client {
            url: url.to_owned(),
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls: secure.then(|| connector(ca)).transpose()?,
            authorization: authorization(credentials)?,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether a secret would be sent unencrypted over a network.
    pub fn bares_a_secret(&self) -> bool {
        let loopback =
            matches!(self.host.as_str(), "localhost" | "::1") || self.host.starts_with("127.");
        self.authorization.is_some() && self.tls.is_none() && !loopback
    }

    pub fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, &Carries::Nothing)
    }

    pub fn post(&self, path: &str, body: &Carries) -> Answered {
        self.ask("POST", path, body)
    }

    pub fn put(&self, path: &str, body: &Carries) -> Answered {
        self.ask("PUT", path, body)
    }

    pub fn delete(&self, path: &str) -> Answered {
        self.ask("DELETE", path, &Carries::Nothing)
    }

    /// `path` is encoded and may have a query. An answer without a body is null.
    fn ask(&self, method: &str, path: &str, body: &Carries) -> Answered {
        debug_assert!(Method::of(method).is_some());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::new(Kind::Bug, OP, "no runtime").source(e))?;
        let answer = runtime.block_on(async {
            let asked = self.asked(self.request(method, path, body)?);
            timeout(ANSWER_MAX, asked)
                .await
                .map_err(|_| self.silent("no answer", ANSWER_MAX))?
        });
        // A name lookup that is still running must not keep the process alive.
        runtime.shutdown_background();
        let (status, body) = answer?;
        match status.is_success() {
            true if body.is_empty() => Ok(Value::Null),
            true => serde_json::from_slice(&body).map_err(|e| {
                let message = format!("{} answers with something else than JSON", self.url);
                Error::new(Kind::DaemonUnavailable, OP, message)
                    .source(e)
                    .hint("is it a Weir daemon's address?")
                    .into()
            }),
            false => Err(self.refusal(status, &body)),
        }
    }

    fn request(&self, method: &str, path: &str, body: &Carries) -> Result<Request<Full<Bytes>>> {
        let (kind, bytes) = match body {
            Carries::Nothing => (None, Bytes::new()),
            Carries::Json(value) => (Some("application/json"), value.to_string().into()),
            Carries::Bytes(bytes) => (Some("application/wasm"), bytes.clone().into()),
        };
        let host = match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, host)
            .header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")));
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(secret) = &self.authorization {
            request = request.header(AUTHORIZATION, secret);
        }
        request
            .body(Full::new(bytes))
            .map_err(|e| usage(format!("{path} is no path of a request: {e}")))
    }

    async fn asked(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        let connected = timeout(CONNECT_MAX, self.connect()).await;
        match connected.map_err(|_| self.silent("no connection", CONNECT_MAX))?? {
            Stream::Plain(stream) => self.exchange(stream, request).await,
            Stream::Tls(stream) => self.exchange(*stream, request).await,
        }
    }

    async fn connect(&self) -> Result<Stream> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|e| {
            self.failed("cannot be reached", e)
                .hint("is `weir daemon` running there? --url or WEIR_URL names another address")
        })?;
        let Some(connector) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let refused = |e: Box<dyn std::error::Error + Send + Sync>| {
            self.failed("does not prove who it is", e)
                .hint("--ca FILE trusts the certificates in a PEM file")
        };
        let ssl = connector
            .configure()
            .and_then(|ready| ready.into_ssl(&self.host))
            .map_err(|e| refused(e.into()))?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|e| refused(e.into()))?;
        Pin::new(&mut stream)
            .connect()
            .await
            .map_err(|e| refused(e.into()))?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broke = |e: hyper::Error| self.failed("broke off", e);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broke)?;
        // Its error is the sender's too.
        drop(tokio::spawn(connection));
        let answer = sender.send_request(request).await.map_err(broke)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect();
        let body = body.await.map_err(|e| self.failed("broke off", e))?;
        Ok((status, body.to_bytes()))
    }

    /// The daemon's `message`, with the kind of error that it had, so that exit codes are those of a local command.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> Box<Denied> {
        let mut told: Value = serde_json::from_slice(body).unwrap_or_default();
        let kind = told["details"]["code"].as_str().and_then(Kind::of_code);
        let kind = kind.unwrap_or(match status.as_u16() {
            409 => Kind::Conflict,
            413 | 429 => Kind::LimitReached,
            400..=499 => Kind::ConfigInvalid,
            _ => Kind::DaemonUnavailable,
        });
        let message = match told["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{} answers {status}", self.url),
        };
        let details = told["details"].take();
        let hint = details["hint"].as_str();
        let message = hint
            .and_then(|hint| message.strip_suffix(&format!("; {hint}")))
            .unwrap_or(&message)
            .to_owned();
        let error = Error::new(kind, OP, message);
        let error = match (hint, status.as_u16()) {
            (Some(hint), _) => error.hint(hint),
            (None, 401) => error.hint(
                "--token-file FILE or --password-file FILE; WEIR_TOKEN, or WEIR_USER and WEIR_PASSWORD",
            ),
            (None, _) => error,
        };
        Box::new(Denied { error, details })
    }

    fn silent(&self, what: &str, after: Duration) -> Error {
        let message = format!("{what} from {} within {} s", self.url, after.as_secs());
        Error::new(Kind::DaemonUnavailable, OP, message)
            .hint("what was asked may still be done: look before you ask again")
    }

    fn failed(&self, what: &str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let message = format!("{} {what}", self.url);
        Error::new(Kind::DaemonUnavailable, OP, message).source(e)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

/// One segment of a path.
pub fn segment(text: &str) -> String {
    encoded(text)
}

/// `?a=1&b=2` of what is there.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let all: Vec<String> = given
        .map(|(key, value)| format!("{key}={}", encoded(value)))
        .collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("?{}", all.join("&")),
    }
}

fn connector(ca: Option<&Path>) -> Result<SslConnector> {
    let failed =
        |e: openssl::error::ErrorStack| Error::new(Kind::Bug, OP, "TLS cannot be set up").source(e);
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    match ca {
        Some(ca) => builder.set_ca_file(ca).map_err(|e| {
            usage(format!("{} holds no certificates", ca.display()))
                .source(e)
                .hint("--ca names a PEM file with `-----BEGIN CERTIFICATE-----`")
        })?,
        None => {
            let mut known = SYSTEM_CERTIFICATES.iter().map(Path::new);
            if let Some(file) = known.find(|file| file.is_file()) {
                builder.set_ca_file(file).map_err(failed)?;
            }
        }
    }
    Ok(builder.build())
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>> {
    let text = match credentials {
        Credentials::None => return Ok(None),
        Credentials::Token(token) => format!("Bearer {token}"),
        Credentials::Password { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        usage("the token has characters that no header may have").hint("one line of ASCII")
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, OP, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client> {
        Client::new(url, &Credentials::None, None)
    }

    #[test]
    fn addresses_are_taken_apart_and_bad_ones_named() {
        let parts = |url: &str| {
            let c = client(url).expect("an address");
            (c.host, c.port, c.prefix, c.tls.is_some())
        };
        let own =
            |host: &str, port, prefix: &str, tls| (host.to_owned(), port, prefix.to_owned(), tls);
        assert_eq!(parts("http://h:8083/"), own("h", 8083, "", false));
        assert_eq!(parts("https://h/weir/"), own("h", 443, "/weir", true));
        assert_eq!(parts("http://[::1]:1"), own("::1", 1, "", false));
        for bad in ["h:8083", "ftp://h", "http://", "http://a b"] {
            assert_eq!(client(bad).expect_err(bad).kind(), Kind::ConfigInvalid);
        }
        let shown = client("http://u:secret@h:1")
            .expect_err("a password")
            .to_string();
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_secret_goes_in_clear_to_this_machine_only() {
        let token = Credentials::Token("t".into());
        let bares = |url: &str| {
            Client::new(url, &token, None)
                .expect("an address")
                .bares_a_secret()
        };
        assert!(!bares("http://127.0.0.1:1") && !bares("http://localhost:1"));
        assert!(bares("http://elsewhere:1") && !bares("https://elsewhere:1"));
    }

    #[test]
    fn refusals_keep_the_daemons_words_and_kind() {
        let client = client("http://h:1").expect("an address");
        let body = br#"{"error_code":409,"message":"no; do that","details":{"code":"config_invalid","hint":"do that"}}"#;
        let error = client.refusal(StatusCode::CONFLICT, body).error;
        assert_eq!((error.kind(), error.message()), (Kind::ConfigInvalid, "no"));
        assert_eq!(error.hint_text(), Some("do that"));
        let plain = client.refusal(StatusCode::NOT_FOUND, b"gone").error;
        assert!(plain.message().contains("answers 404"), "{plain}");
    }
}
