//! OAuth2 client credentials: one token for all requests, fetched when it is needed and renewed before it ends.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Auth;
use super::client::{ANSWER_MAX, Reply, answer, unreachable};
use crate::error::{Error, Kind, Result};

const OP: &str = "http.token";
/// Assumed lifetime of a token if its endpoint does not give one.
const LIFETIME: Duration = Duration::from_secs(300);
/// A token is renewed this long before its end, or after nine tenths of a shorter lifetime, because requests take a
/// while.
const MARGIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Tokens(Mutex<Option<Held>>);

struct Held {
    token: String,
    until: Instant,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

impl Tokens {
    /// The token, or why there is none now: an answer that is treated like one of the API.
    pub async fn get(
        &self,
        http: &reqwest::Client,
        auth: &Auth,
    ) -> Result<std::result::Result<String, Reply>> {
        let mut held = self.0.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.until > Instant::now()) {
            return Ok(Ok(held.token.clone()));
        }
        match fetch(http, auth).await? {
            Ok(granted) => {
                let life = granted.expires_in.map_or(LIFETIME, Duration::from_secs);
                let margin = MARGIN.min(life / 10);
                let token = granted.access_token.clone();
                *held = Some(Held {
                    token: granted.access_token,
                    until: Instant::now() + life.saturating_sub(margin),
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
    if !*in_body {
        request = request.basic_auth(id, Some(secret));
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Ok(Err(Reply::None(unreachable("the token endpoint", error)?))),
    };
    let answer = answer(
        "the token endpoint",
        response,
        ANSWER_MAX,
        &[secret.to_owned()],
    )
    .await;
    if !(200..300).contains(&answer.status) {
        return Ok(Err(Reply::Answer(answer)));
    }
    match serde_json::from_str::<Granted>(&answer.text) {
        Ok(granted) => Ok(Ok(granted)),
        Err(e) => {
            let message = "the token endpoint's answer has no access_token";
            Err(Error::new(Kind::SinkRefused, OP, message)
                .source(e)
                .hint("sink.http.oauth2.url must be the token endpoint"))
        }
    }
}
