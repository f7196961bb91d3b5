//! One question to a schema registry with Confluent's API, and its answer. The only file here that names reqwest.
//!
//! The URLs are asked in their order until one answers. Credentials are resolved for each request, so that a file that is replaced
//! counts at once; neither they nor what a reference in a URL stands for is in a message.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::schemas::SCHEMA_MAX;
use crate::config::RegistryConfig;
use crate::error::{Error, Kind, Result};
use crate::tls::{Distrust, distrust, trusting};

const OP: &str = "registry.ask";
/// Longest answer: the longest schema as a JSON string, in which a quote or a line end has two bytes, and what stands around it.
const ANSWER_MAX: usize = 2 * SCHEMA_MAX + 4096;
/// What a registry says with 404: no such subject, version, schema. Another 404 is not one of a registry, but of what stands before it.
const UNKNOWN: std::ops::RangeInclusive<i64> = 40401..=40403;
const BELOW: &str = "look at schema.registry.url: /schemas/ids/1 must be below it";
/// As their REST clients send it.
const TYPES: &str = "application/vnd.schemaregistry.v1+json, application/json";

pub struct Registry {
    config: RegistryConfig,
    client: Client,
    runtime: Runtime,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("at", &self.config.shown)
            .finish_non_exhaustive()
    }
}

impl Registry {
    pub fn new(config: &RegistryConfig) -> Result<Registry> {
        let invalid = |message: &str| Error::new(Kind::ConfigInvalid, "registry.connect", message);
        let builder = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .pool_max_idle_per_host(1);
        let client = trusting(builder, &config.trust, "registry.connect")?.build();
        let client = client.map_err(|e| invalid("the HTTP client does not come up").source(e))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| {
            Error::new(
                Kind::LimitReached,
                "registry.connect",
                "a runtime cannot be started",
            )
            .source(e)
        })?;
        Ok(Registry {
            config: config.clone(),
            client,
            runtime,
        })
    }

    pub fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// What the registry says at this path; `None`: it has nothing there, and no other URL that answers has.
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        let (mut away, mut none) = (None, false);
        for url in &self.config.urls {
            match self.runtime.block_on(self.ask(url, path)) {
                Ok(Some(answer)) => return Ok(Some(answer)),
                // The next one may know it, or be up.
                Ok(None) => none = true,
                Err(error) if error.kind() == Kind::SourceUnavailable => away = Some(error),
                Err(error) => return Err(error),
            }
        }
        if none {
            return Ok(None);
        }
        let none = || Error::new(Kind::ConfigInvalid, OP, "no URL of a registry");
        Err(away.unwrap_or_else(none))
    }

    async fn ask(&self, url: &str, path: &str) -> Result<Option<Value>> {
        let mut request = self
            .client
            .get(format!("{url}{path}"))
            .header(ACCEPT, TYPES);
        if let Some(authorization) = self.authorization()? {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = response.status();
        let told = |message: String, kind: Kind| {
            Error::new(kind, OP, message).with("registry", &self.config.shown)
        };
        if matches!(status.as_u16(), 400 | 404 | 422) {
            let code = self.error_code(response).await?;
            let code =
                code.filter(|code| status != StatusCode::NOT_FOUND || UNKNOWN.contains(code));
            return match (code, status) {
                // With another status than 404: what it is asked for can be no id, or no version.
                (Some(_), _) => Ok(None),
                // A proxy says so too while the registry behind it begins.
                (None, StatusCode::NOT_FOUND) => Err(told(
                    format!("HTTP {status} came from where the schema registry should be, and not from a schema registry"),
                    Kind::SourceUnavailable,
                )
                .hint(BELOW)),
                (None, _) => Err(self.refused(status)),
            };
        }
        if matches!(status.as_u16(), 300..=499) && !matches!(status.as_u16(), 408 | 425 | 429) {
            return Err(self.refused(status));
        }
        if !status.is_success() {
            return Err(told(
                format!("the schema registry answered HTTP {status}"),
                Kind::SourceUnavailable,
            ));
        }
        let bytes = self.whole(response).await?;
        let answer = serde_json::from_slice(&bytes);
        answer.map(Some).map_err(|e| {
            told(
                "the schema registry answered what is no JSON".to_owned(),
                Kind::ConfigInvalid,
            )
            .source(e)
            .hint(BELOW)
        })
    }

    fn refused(&self, status: StatusCode) -> Error {
        let hint = match status.as_u16() {
            401 | 403 | 407 => {
                "look at schema.registry.basic.auth.user.info or schema.registry.bearer.auth.token"
            }
            _ => BELOW,
        };
        let message = format!("the schema registry answered HTTP {status}");
        Error::new(Kind::ConfigInvalid, OP, message)
            .with("registry", &self.config.shown)
            .hint(hint)
    }

    /// The registry's own code of a refusal; `None`: it does not come from a registry.
    async fn error_code(&self, response: Response) -> Result<Option<i64>> {
        let said: Value = serde_json::from_slice(&self.whole(response).await?).unwrap_or_default();
        Ok(said.get("error_code").and_then(Value::as_i64))
    }

    async fn whole(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(e))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                let message =
                    format!("the schema registry's answer has more than {ANSWER_MAX} bytes");
                return Err(Error::new(Kind::ConfigInvalid, OP, message));
            }
        }
        Ok(bytes)
    }

    fn authorization(&self) -> Result<Option<HeaderValue>> {
        let value = match (&self.config.login, &self.config.token) {
            (Some(login), _) => format!("Basic {}", STANDARD.encode(login.resolve()?.trim())),
            (None, Some(token)) => format!("Bearer {}", token.resolve()?.trim()),
            (None, None) => return Ok(None),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            Error::new(
                Kind::ConfigInvalid,
                OP,
                "the registry's credentials have line breaks or control characters",
            )
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let timed_out = error.is_timeout();
        let error = error.without_url();
        let mut last: &dyn std::error::Error = &error;
        let mut told = last.to_string();
        while let Some(cause) = last.source() {
            told = cause.to_string();
            last = cause;
        }
        let message = match timed_out {
            true => format!(
                "the schema registry did not answer in {:?}",
                self.config.timeout.max(Duration::ZERO)
            ),
            false => format!("the schema registry cannot be reached: {told}"),
        };
        let (kind, hint) = match distrust(&told) {
            Some(Distrust::Ours) => (
                Kind::ConfigInvalid,
                "it takes only certificates that it knows: name ours in schema.registry.tls.certificate and schema.registry.tls.key",
            ),
            Some(Distrust::Theirs) => (
                Kind::ConfigInvalid,
                "if its certificate is signed by your own authority, name that in schema.registry.tls.ca",
            ),
            None => (
                Kind::SourceUnavailable,
                "schemas that are known are read meanwhile",
            ),
        };
        let error = Error::new(kind, OP, message).with("registry", &self.config.shown);
        match kind {
            Kind::ConfigInvalid => error.hint(hint),
            _ => error.with("meanwhile", hint),
        }
    }
}
