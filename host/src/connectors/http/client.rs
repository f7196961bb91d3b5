//! One request and its answer. Secrets are resolved for each request, so that a file that is replaced counts at once; they stand
//! in no message: not in ours, and not in what the API says back (secrets.rs).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::timeout;

use super::secrets::Secrets;
use super::token::Tokens;
use super::{Auth, HttpSinkConfig};
use crate::error::{Error, Kind, Result};
use crate::tls::{Distrust, distrust, trusting};

const OP: &str = "http.request";
/// Where references are resolved.
const RESOLVE: &str = "config.resolve";
/// Whose answer it is, for messages.
const API: &str = "the API";
/// Bytes of the header `Location` that are shown.
const LOCATION_MAX: usize = 2 << 10;
/// An answer that is read to its end: a token, or what is left of a success, so that its connection can be used again.
pub const ANSWER_MAX: usize = 64 << 10;
/// After a success nobody waits longer for the rest of the answer.
const REST_MAX: Duration = Duration::from_millis(250);
/// A refusal's text is waited for so long.
const TEXT_MAX: Duration = Duration::from_secs(5);
pub struct Client {
    config: HttpSinkConfig,
    http: reqwest::Client,
    tokens: Tokens,
    /// All references could be resolved once. One that cannot be later is most often a file that is being replaced.
    resolved: AtomicBool,
}

#[derive(Debug)]
pub enum Reply {
    Answer(Answer),
    /// None came from the API; it may pass. `after`: the token endpoint asked for this wait.
    None {
        error: Error,
        after: Option<Duration>,
    },
    /// Nothing was sent: a reference cannot be resolved now, and could be before. It says nothing of the API or the rows.
    Unsent(Error),
}

impl Reply {
    pub fn none(error: Error) -> Reply {
        Reply::None { error, after: None }
    }
}

#[derive(Debug)]
pub struct Answer {
    /// Whose it is.
    of: &'static str,
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// Its beginning, without secrets.
    pub text: String,
    /// Of a redirect.
    location: Option<String>,
}

impl Answer {
    /// `HTTP 422 Unprocessable Entity: the answer`
    pub fn told(&self) -> String {
        let reason = StatusCode::from_u16(self.status).ok();
        let reason = reason
            .and_then(|s| s.canonical_reason())
            .unwrap_or_default();
        let status = format!("HTTP {} {reason}", self.status);
        match self.text.trim() {
            "" => status.trim_end().to_owned(),
            text => format!("{}: {text}", status.trim_end()),
        }
    }

    pub fn passes(&self) -> Error {
        let message = format!("{} answered {}", self.of, self.told());
        Error::new(Kind::SinkUnavailable, OP, message)
    }

    pub fn stops(&self) -> Error {
        let hint = match self.status {
            401 | 403 | 407 => {
                "look at sink.http.auth and the secrets that its keys refer to".to_owned()
            }
            300..=399 => match &self.location {
                Some(to) => format!(
                    "redirects are not followed: set sink.http.url to {to}, if you trust it"
                ),
                None => {
                    "redirects are not followed: set sink.http.url to where the API is".to_owned()
                }
            },
            404 | 405 => "look at sink.http.url and sink.http.method".to_owned(),
            _ => "sink.http.statuses.stop has this status; the next start sends the batch again"
                .to_owned(),
        };
        let message = format!("{} answered {}", self.of, self.told());
        Error::new(Kind::SinkRefused, OP, message).hint(hint)
    }
}

impl Client {
    pub fn new(config: HttpSinkConfig) -> Result<Client> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(config.waits.connect)
            .timeout(config.waits.request)
            .pool_max_idle_per_host(config.in_flight);
        let builder = trusting(builder, &config.trust, "http.connect")?;
        let http = builder.build().map_err(|e| {
            Error::new(
                Kind::ConfigInvalid,
                "http.connect",
                "the HTTP client does not come up",
            )
            .source(e)
        })?;
        Ok(Client {
            config,
            http,
            tokens: Tokens::default(),
            resolved: AtomicBool::new(false),
        })
    }

    pub fn config(&self) -> &HttpSinkConfig {
        &self.config
    }

    /// `Err`: no try will be better before somebody acts.
    pub async fn send(&self, body: Bytes, key: &str) -> Result<Reply> {
        let reply = self
            .once(&self.config.method, body.clone(), Some(key))
            .await?;
        let renews = matches!(self.config.auth, Auth::OAuth2 { .. });
        match &reply {
            Reply::Answer(answer) if answer.status == 401 && renews => {
                self.tokens.forget().await;
                self.once(&self.config.method, body, Some(key)).await
            }
            _ => Ok(reply),
        }
    }

    /// Asks without rows: changes nothing there.
    pub async fn look(&self) -> Result<Reply> {
        self.once("HEAD", Bytes::new(), None).await
    }

    /// `key`: of a batch.
    async fn once(&self, method: &str, body: Bytes, key: Option<&str>) -> Result<Reply> {
        let mut secrets = Secrets::default();
        let (url, mut headers, mut authorization) = match self.resolve(key, &mut secrets) {
            Ok(resolved) => resolved,
            Err(error) => return self.unresolved(error),
        };
        if let auth @ Auth::OAuth2 { .. } = &self.config.auth {
            match self.tokens.get(&self.http, auth, &mut secrets).await {
                Ok(Ok(token)) => {
                    secrets.add(&token);
                    authorization = Some(format!("Bearer {token}"));
                }
                Ok(Err(reply)) => return Ok(reply),
                Err(error) => return self.unresolved(error),
            }
        }
        self.resolved.store(true, Ordering::SeqCst);
        if let Some(authorization) = authorization {
            let value = header_value("sink.http.auth", &authorization)?;
            headers.insert(AUTHORIZATION, value);
        }
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|e| Error::new(Kind::Bug, OP, "no method").source(e))?;
        let request = self.http.request(method, url).headers(headers).body(body);
        match request.send().await {
            Ok(response) => Ok(Reply::Answer(
                answer(API, response, self.config.response_bytes, &secrets).await,
            )),
            Err(error) => Ok(Reply::none(unreachable(API, error)?)),
        }
    }

    /// A reference that could be resolved before, and cannot be now, is waited for.
    fn unresolved(&self, error: Error) -> Result<Reply> {
        match error.op() == RESOLVE && self.resolved.load(Ordering::SeqCst) {
            true => {
                let error = Error::new(Kind::SinkUnavailable, OP, error.message());
                Ok(Reply::Unsent(error.hint(
                    "put back what the reference names; sending goes on by itself",
                )))
            }
            false => Err(error),
        }
    }

    /// URL, headers and, where it is known without asking, what authorizes.
    fn resolve(
        &self,
        key: Option<&str>,
        secrets: &mut Secrets,
    ) -> Result<(Url, HeaderMap, Option<String>)> {
        let headers = self.headers(key, secrets)?;
        let authorization = match &self.config.auth {
            Auth::Bearer(token) => {
                let token = token.resolve()?.trim().to_owned();
                secrets.add(&token);
                Some(format!("Bearer {token}"))
            }
            Auth::Basic { user, password } => {
                secrets.add_referred(user)?;
                let (user, password) = (user.resolve()?, password.resolve()?);
                let encoded = secrets.add_login(user.trim(), password.trim());
                Some(format!("Basic {encoded}"))
            }
            Auth::None | Auth::OAuth2 { .. } => None,
        };
        secrets.add_referred(&self.config.url)?;
        let url = self.config.url.resolve()?;
        let url = Url::parse(url.trim()).map_err(|e| {
            Error::new(Kind::ConfigInvalid, OP, "`sink.http.url` is no URL").source(e)
        })?;
        Ok((url, headers, authorization))
    }

    fn headers(&self, key: Option<&str>, secrets: &mut Secrets) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        let own = self.config.content_type.as_deref();
        let content = own.unwrap_or(self.config.body.content_type());
        headers.insert(
            CONTENT_TYPE,
            header_value("sink.http.content.type", content)?,
        );
        for (name, value) in &self.config.headers {
            let resolved = value.resolve()?;
            let at = format!("sink.http.headers.{name}");
            headers.append(header_name(&at, name)?, header_value(&at, resolved.trim())?);
            secrets.add_referred(value)?;
        }
        if let Some((name, key)) = self.config.idempotency_header.as_ref().zip(key) {
            let at = "sink.http.idempotency.header";
            headers.insert(header_name(at, name)?, header_value(at, key)?);
        }
        Ok(headers)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn header_name(key: &str, name: &str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|e| {
        let message = format!("`{key}`: not the name of a header");
        Error::new(Kind::ConfigInvalid, OP, message).source(e)
    })
}

/// Never shown: it may be a secret.
fn header_value(key: &str, value: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        let message = format!("`{key}`: a header's value has no line breaks or control characters");
        Error::new(Kind::ConfigInvalid, OP, message)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Keeps at most `most` bytes of its text.
pub async fn answer(
    of: &'static str,
    response: Response,
    most: usize,
    secrets: &Secrets,
) -> Answer {
    let status = response.status();
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let (retry_after, location) = (header("retry-after"), header("location"));
    let success = status.is_success();
    let (keeps, reads, longest) = match success {
        // What is left of it is read, so that its connection can be used again.
        true if of == API => (0, ANSWER_MAX, REST_MAX),
        true => (ANSWER_MAX, ANSWER_MAX, TEXT_MAX),
        false if most == 0 => (0, 0, TEXT_MAX),
        false => (most, most + secrets.longest(), TEXT_MAX),
    };
    let (text, whole) = read(response, reads, longest).await;
    let text = String::from_utf8_lossy(&text);
    Answer {
        of,
        status: status.as_u16(),
        retry_after: retry_after.and_then(|text| wanted(&text)),
        text: match success {
            true if of == API => String::new(),
            true => text.into_owned(),
            false => secrets.redacted(&text, keeps, whole),
        },
        location: location
            .filter(|_| status.is_redirection())
            .map(|l| secrets.redacted(&l, LOCATION_MAX, true)),
    }
}

/// What came until the end, the limit, a fault or this time; and whether it was the end.
async fn read(mut response: Response, most: usize, longest: Duration) -> (Vec<u8>, bool) {
    let (mut text, mut whole) = (Vec::new(), false);
    let reading = async {
        while text.len() < most {
            match response.chunk().await {
                Ok(Some(chunk)) => text.extend_from_slice(&chunk),
                Ok(None) => {
                    whole = true;
                    return;
                }
                Err(_) => return,
            }
        }
    };
    // A success stays one, and a refusal too, whatever becomes of its text.
    let _cut_short = timeout(longest, reading).await;
    let all = text.len() <= most;
    text.truncate(most);
    (text, whole && all)
}

/// Seconds, or a date.
fn wanted(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let left = at.duration_since(jiff::Timestamp::now());
    Duration::try_from(left).ok()
}

/// Why no answer came. `Err` where it will not come before somebody acts.
pub fn unreachable(of: &'static str, error: reqwest::Error) -> Result<Error> {
    let (timed_out, connects) = (error.is_timeout(), error.is_connect());
    let error = error.without_url();
    let mut last: &dyn std::error::Error = &error;
    let mut told = String::new();
    while let Some(cause) = last.source() {
        told = cause.to_string();
        last = cause;
    }
    let message = match () {
        () if timed_out && connects => {
            format!("{of} cannot be reached in sink.http.timeout.connect")
        }
        () if timed_out => format!("{of} did not answer in sink.http.timeout.request"),
        () if connects => format!("{of} cannot be reached: {told}"),
        () => format!("the connection to {of} broke off: {told}"),
    };
    let hint = match distrust(&told) {
        Some(Distrust::Ours) => {
            "it takes only certificates that it knows: name ours in sink.http.tls.certificate and sink.http.tls.key"
        }
        Some(Distrust::Theirs) => {
            "if its certificate is signed by your own authority, name that in sink.http.tls.ca"
        }
        None => return Ok(Error::new(Kind::SinkUnavailable, OP, message)),
    };
    Err(Error::new(Kind::SinkRefused, OP, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::super::api_for_tests::{api, config};
    use super::*;

    /// A user's name, the address of a token endpoint and all the others that a config only refers to: neither the token endpoint
    /// nor the API can make them known.
    #[test]
    fn whatever_a_reference_stands_for_is_not_shown() {
        let home = std::env::var("HOME").unwrap();
        let encoded = home.replace('/', "%2f");
        let told = format!("{home} or {encoded} is unknown");
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let send = |client: &Client| match runtime.block_on(client.send(Bytes::from("[]"), "k")) {
            Ok(Reply::Answer(answer)) => answer.told(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.to_string(),
        };
        let basic = [
            ("sink.http.auth", "basic"),
            ("sink.http.basic.user", "${env:HOME}"),
            ("sink.http.basic.password", "hunter22"),
        ];
        let client = Client::new(config(&api(vec![(422, told.clone())]), &basic)).unwrap();
        let answer = send(&client);
        assert!(answer.ends_with(": … or … is unknown"), "{answer}");
        let granted = (200, r#"{"access_token":"a-token"}"#.to_owned());
        for key in ["client.id", "client.secret", "scope", "audience"] {
            let tokens = api(vec![(400, told.clone()), granted.clone()]);
            let name = format!("sink.http.oauth2.{key}");
            let mut keys = vec![
                ("sink.http.auth", "oauth2"),
                ("sink.http.oauth2.url", tokens.as_str()),
                ("sink.http.oauth2.client.id", "weir"),
                ("sink.http.oauth2.client.secret", "hunter22"),
            ];
            keys.retain(|(known, _)| *known != name);
            keys.push((&name, "${env:HOME}"));
            let client = Client::new(config(&api(vec![(422, told.clone())]), &keys)).unwrap();
            for _ in ["the token endpoint", "the API"] {
                let answer = send(&client);
                assert!(answer.contains(": … or … is unknown"), "{key}: {answer}");
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(wanted(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(
            wanted("Wed, 21 Oct 2015 07:28:00 GMT"),
            None,
            "long ago: no wait"
        );
        let later = wanted("Wed, 21 Oct 2099 07:28:00 GMT").unwrap();
        assert!(later > Duration::from_secs(3600));
        assert_eq!(wanted("soon"), None);
    }
}
