//! One request and its answer. Secrets are resolved for each request, so that a file that is replaced counts at once; they stand
//! in no message: not in ours, and not in what the API says back.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Method, Response, StatusCode, Url};
use tokio::time::timeout;

use super::token::Tokens;
use super::{Auth, HttpSinkConfig, Trust};
use crate::config::Text;
use crate::error::{Error, Kind, Result};
use crate::fs::Limit;

const OP: &str = "http.request";
/// An answer that is read to its end: a token, or what is left of a success, so that its connection can be used again.
pub const ANSWER_MAX: usize = 64 << 10;
/// After a success nobody waits longer for the rest of the answer.
const REST_MAX: Duration = Duration::from_millis(250);
/// A refusal's text is waited for so long.
const TEXT_MAX: Duration = Duration::from_secs(5);
/// Shorter secrets would be found in any text.
const SECRET_MIN: usize = 4;
const CERTIFICATES: Limit = Limit {
    bytes: 16 << 20,
    of: "a file of certificates",
};

pub struct Client {
    config: HttpSinkConfig,
    http: reqwest::Client,
    tokens: Tokens,
}

#[derive(Debug)]
pub enum Reply {
    Answer(Answer),
    /// None came; it may pass.
    None(Error),
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
        let builder = trusting(builder, &config.trust)?;
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
        let mut secrets = Vec::new();
        let mut headers = self.headers(key, &mut secrets)?;
        let token = match &self.config.auth {
            auth @ Auth::OAuth2 { .. } => match self.tokens.get(&self.http, auth).await? {
                Ok(token) => Some(token),
                Err(reply) => return Ok(reply),
            },
            Auth::Bearer(token) => Some(token.resolve()?.trim().to_owned()),
            Auth::None | Auth::Basic { .. } => None,
        };
        let authorization = match (&self.config.auth, token) {
            (_, Some(token)) => {
                secrets.push(token.clone());
                Some(format!("Bearer {token}"))
            }
            (Auth::Basic { user, password }, None) => {
                let password = password.resolve()?.trim().to_owned();
                let login = format!("{}:{password}", user.resolve()?.trim());
                let encoded = STANDARD.encode(login);
                secrets.extend([password, encoded.clone()]);
                Some(format!("Basic {encoded}"))
            }
            _ => None,
        };
        if let Some(authorization) = authorization {
            let value = header_value("sink.http.auth", &authorization)?;
            headers.insert(AUTHORIZATION, value);
        }
        let url = self.config.url.resolve()?;
        secrets.extend(referred(&self.config.url, &url));
        let url = Url::parse(url.trim()).map_err(|e| {
            Error::new(Kind::ConfigInvalid, OP, "`sink.http.url` is no URL").source(e)
        })?;
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|e| Error::new(Kind::Bug, OP, "no method").source(e))?;
        let request = self.http.request(method, url).headers(headers).body(body);
        match request.send().await {
            Ok(response) => Ok(Reply::Answer(
                answer("the API", response, self.config.response_bytes, &secrets).await,
            )),
            Err(error) => Ok(Reply::None(unreachable("the API", error)?)),
        }
    }

    fn headers(&self, key: Option<&str>, secrets: &mut Vec<String>) -> Result<HeaderMap> {
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
            secrets.extend(referred(value, &resolved));
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

/// What the references of a text stand for, with what stands between them.
fn referred(text: &Text, resolved: &str) -> Option<String> {
    let typed = text.typed();
    let (first, last) = (typed.find("${")?, typed.rfind('}')?);
    let rest = resolved.strip_prefix(&typed[..first])?;
    let inside = rest.strip_suffix(&typed[last + 1..])?;
    Some(inside.trim().to_owned())
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

fn trusting(mut builder: reqwest::ClientBuilder, trust: &Trust) -> Result<reqwest::ClientBuilder> {
    if let Some(ca) = &trust.ca {
        let (path, pem) = pem("sink.http.tls.ca", ca)?;
        let all = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if all.is_empty() {
            return Err(bad_file(
                "sink.http.tls.ca",
                &path,
                "there is no certificate in this file",
            ));
        }
        for one in all {
            builder = builder.add_root_certificate(one);
        }
    }
    if let (Some(certificate), Some(key)) = (&trust.certificate, &trust.key) {
        let (path, certificate) = pem("sink.http.tls.certificate", certificate)?;
        let (_, key) = pem("sink.http.tls.key", key)?;
        let identity = Identity::from_pkcs8_pem(&certificate, &key).map_err(|e| {
            let message =
                "certificate and key do not make an identity: both must be PEM, the key PKCS #8";
            bad_file("sink.http.tls.certificate", &path, message).source(e)
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn pem(key: &'static str, text: &Text) -> Result<(String, Vec<u8>)> {
    let path = text.resolve()?.trim().to_owned();
    let bytes = text.reach().read(path.as_ref(), CERTIFICATES);
    let bytes = bytes.map_err(|e| bad_file(key, &path, "the file cannot be read").source(e))?;
    Ok((path, bytes))
}

fn bad_file(key: &'static str, path: &str, message: &str) -> Error {
    Error::new(Kind::ConfigInvalid, "http.connect", message)
        .with("key", key)
        .with("file", path)
        .hint("name a PEM file that this user may read")
}

/// Reads at most `most` bytes of its text.
pub async fn answer(
    of: &'static str,
    response: Response,
    most: usize,
    secrets: &[String],
) -> Answer {
    let status = response.status();
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let (retry_after, location) = (header("retry-after"), header("location"));
    let success = status.is_success();
    let (most, longest) = match success && of == "the API" {
        true => (ANSWER_MAX, REST_MAX),
        false => (most, TEXT_MAX),
    };
    let text = read(response, most, longest).await;
    let text = String::from_utf8_lossy(&text);
    Answer {
        of,
        status: status.as_u16(),
        retry_after: retry_after.and_then(|text| wanted(&text)),
        text: match success && of == "the API" {
            true => String::new(),
            false if success => text.into_owned(),
            false => redacted(&text, secrets),
        },
        location: location
            .filter(|_| status.is_redirection())
            .map(|l| redacted(&l, secrets)),
    }
}

/// What came until the end, the limit, a fault or this time.
async fn read(mut response: Response, most: usize, longest: Duration) -> Vec<u8> {
    let mut text = Vec::new();
    let reading = async {
        while text.len() < most
            && let Ok(Some(chunk)) = response.chunk().await
        {
            text.extend_from_slice(&chunk);
        }
    };
    // A success stays one, and a refusal too, whatever becomes of its text.
    let _cut_short = timeout(longest, reading).await;
    text.truncate(most);
    text
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

fn redacted(text: &str, secrets: &[String]) -> String {
    let long = secrets.iter().filter(|secret| secret.len() >= SECRET_MIN);
    long.fold(text.to_owned(), |text, secret| {
        text.replace(secret.as_str(), "…")
    })
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
    if told.contains("certificate") {
        return Err(Error::new(Kind::SinkRefused, OP, message).hint(
            "if its certificate is signed by your own authority, name that in sink.http.tls.ca",
        ));
    }
    Ok(Error::new(Kind::SinkUnavailable, OP, message))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_secret_inside_a_longer_value_is_known() {
        let text = Text::new("Key ${env:HOME}; v=1");
        let resolved = text.resolve().unwrap();
        assert_eq!(referred(&text, &resolved), std::env::var("HOME").ok());
        assert_eq!(referred(&Text::new("plain"), "plain"), None);
    }

    #[test]
    fn what_the_api_says_back_shows_no_secret() {
        let secrets = ["hunter22".to_owned(), "ab".to_owned()];
        assert_eq!(
            redacted("token hunter22 of abc", &secrets),
            "token … of abc"
        );
    }
}
