//! OAuth2 client credentials: one token for all requests, fetched when it is needed and renewed before it ends.

use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Auth;
use super::client::{Answer, Reply, answer, unreachable};
use super::secrets::Secrets;
use crate::error::{Error, Kind, Result};

const OP: &str = "http.token";
/// Assumed lifetime of a token if its endpoint does not give one.
const LIFETIME: Duration = Duration::from_secs(300);
/// A token is renewed this long before its end, or after nine tenths of a shorter lifetime, because requests take a
/// while.
const MARGIN: Duration = Duration::from_secs(30);
/// Seconds after which a token is renewed, however long it is good for.
const LONGEST: f64 = 86_400.0;
/// Bytes of a refusal that are shown.
const REFUSAL_MAX: usize = 2 << 10;
const ENDPOINT: &str = "the token endpoint";

#[derive(Debug, Default)]
pub struct Tokens(Mutex<Option<Held>>);

struct Held {
    token: String,
    until: Instant,
    /// What it was fetched with: the API may know it from the token.
    with: Secrets,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// What an endpoint granted.
struct Granted {
    token: String,
    life: Duration,
    with: Secrets,
}

impl Granted {
    /// `None`: it is no grant. A lifetime is seconds, as a number or (some endpoints) as text.
    fn read(text: &str) -> Option<Granted> {
        let answer: Value = serde_json::from_str(text).ok()?;
        let seconds = match &answer["expires_in"] {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let life = seconds.filter(|s: &f64| s.is_finite() && *s >= 0.0);
        Some(Granted {
            token: answer["access_token"].as_str()?.to_owned(),
            life: life.map_or(LIFETIME, |s| Duration::from_secs_f64(s.min(LONGEST))),
            with: Secrets::default(),
        })
    }
}

impl Tokens {
    /// The token, or why there is none now. `Err`: there will be none before somebody acts. An answer of the endpoint is
    /// about the credentials, never about the rows. `secrets`: those that the token was fetched with come there.
    pub async fn get(
        &self,
        http: &reqwest::Client,
        auth: &Auth,
        secrets: &mut Secrets,
    ) -> Result<std::result::Result<String, Reply>> {
        let mut held = self.0.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.until > Instant::now()) {
            secrets.extend(&held.with);
            return Ok(Ok(held.token.clone()));
        }
        match fetch(http, auth).await? {
            Ok(granted) => {
                let margin = MARGIN.min(granted.life / 10);
                let token = granted.token.clone();
                secrets.extend(&granted.with);
                *held = Some(Held {
                    token: granted.token,
                    until: Instant::now() + granted.life.saturating_sub(margin),
                    with: granted.with,
                });
                Ok(Ok(token))
            }
            Err(reply) => Ok(Err(reply)),
        }
    }

    /// Forgets the token: the API no longer accepts it.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

async fn fetch(http: &reqwest::Client, auth: &Auth) -> Result<std::result::Result<Granted, Reply>> {
    let Auth::OAuth2 {
        url,
        id,
        secret,
        scope,
        audience,
        in_body,
    } = auth
    else {
        return Err(Error::new(Kind::Bug, OP, "no client credentials"));
    };
    let mut secrets = Secrets::default();
    let optional = [scope, audience].into_iter().flatten();
    for text in [url, id, secret].into_iter().chain(optional) {
        secrets.add_referred(text)?;
    }
    let (url, id, secret) = (url.resolve()?, id.resolve()?, secret.resolve()?);
    let (id, secret) = (id.trim(), secret.trim());
    let mut form = vec![("grant_type", "client_credentials".to_owned())];
    for (name, text) in [("scope", scope), ("audience", audience)] {
        if let Some(text) = text {
            form.push((name, text.resolve()?.trim().to_owned()));
        }
    }
    if *in_body {
        form.push(("client_id", id.to_owned()));
        form.push(("client_secret", secret.to_owned()));
    }
    let mut url = reqwest::Url::parse(url.trim()).map_err(|e| {
        Error::new(Kind::ConfigInvalid, OP, "`sink.http.oauth2.url` is no URL").source(e)
    })?;
    url.set_fragment(None);
    let mut encoder = url.clone();
    encoder.query_pairs_mut().clear().extend_pairs(form);
    let body = encoder.query().unwrap_or_default().to_owned();
    let mut request = http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .body(body);
    secrets.add(secret);
    if !*in_body {
        let login = secrets.add_login(id, secret);
        request = request.header("authorization", basic(&login)?);
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Ok(Err(Reply::none(unreachable(ENDPOINT, error)?))),
    };
    let answer = answer(ENDPOINT, response, REFUSAL_MAX, &secrets).await;
    match answer.status {
        200..=299 => match Granted::read(&answer.text) {
            Some(granted) => Ok(Ok(Granted {
                with: secrets,
                ..granted
            })),
            None => {
                let message = "the token endpoint's answer has no access_token";
                Err(Error::new(Kind::SinkRefused, OP, message)
                    .hint("sink.http.oauth2.url must be the token endpoint"))
            }
        },
        408 | 425 | 429 | 500..=599 => Ok(Err(Reply::None {
            after: answer.retry_after,
            error: answer.passes(),
        })),
        _ => Err(refused(&answer)),
    }
}

/// Never shown.
fn basic(login: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Basic {login}"))
        .map_err(|_| Error::new(Kind::Bug, OP, "a login that is no header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// No token will be granted before somebody acts.
fn refused(answer: &Answer) -> Error {
    let hint = match answer.status {
        300..=399 => "redirects are not followed: set sink.http.oauth2.url to the token endpoint",
        404 | 405 => "look at sink.http.oauth2.url: it must be the token endpoint",
        _ => {
            "look at sink.http.oauth2.client.id and sink.http.oauth2.client.secret, at the scope and the audience, and whether the endpoint \
             reads id and secret in a header or in the body (sink.http.oauth2.credentials)"
        }
    };
    let message = format!("the token endpoint answered {}", answer.told());
    Error::new(Kind::SinkRefused, OP, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_seconds_however_it_is_written_and_at_most_a_day() {
        let life = |expires: &str| {
            let text = format!("{{\"access_token\":\"t\"{expires}}}");
            Granted::read(&text).map(|granted| granted.life.as_secs())
        };
        for (expires, seconds) in [
            ("", 300),
            (",\"expires_in\":3600", 3600),
            (",\"expires_in\":3599.5", 3599),
            (",\"expires_in\":\"3600\"", 3600),
            (",\"expires_in\":18446744073709551615", 86_400),
            (",\"expires_in\":1e300", 86_400),
            (",\"expires_in\":-1", 300),
            (",\"expires_in\":null", 300),
            (",\"expires_in\":\"soon\"", 300),
        ] {
            assert_eq!(life(expires), Some(seconds), "{expires}");
        }
        assert!(Granted::read("{}").is_none() && Granted::read("\"t\"").is_none());
    }
}
