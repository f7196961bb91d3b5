//! One row of the table of routes. The router, the check of roles and `/openapi.json` are made from it.
//!
//! Handlers are plain blocking functions and know nothing of sockets.

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;

use schemars::SchemaGenerator;
use serde::Serialize;

use super::events::Feed;
use super::fault::HttpError;
use crate::daemon::{Actor, Asker, Supervisor, Watched};
use crate::text::printable_json;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Patch,
    Delete,
}

impl Method {
    pub fn word(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    /// HEAD is answered like GET; the body is left out when the answer is written.
    pub fn of(word: &str) -> Option<Method> {
        Some(match word {
            "GET" | "HEAD" => Method::Get,
            "PUT" => Method::Put,
            "POST" => Method::Post,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            _ => return None,
        })
    }
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Probes, without a password; answered even while all handlers are busy.
    Anyone,
    /// Without a password, as it shows nothing of this daemon: the files of the page.
    Open,
    Reader,
    Writer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    ReadOnly,
    Full,
}

/// The JSON Schema of a type ([`super::schemas::of`]), made when it is asked for.
pub(super) type Schema = fn(&mut SchemaGenerator) -> schemars::Schema;

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestBody {
    /// A body, if any, is read and dropped.
    Nothing,
    /// `application/json` of at most `rest.max.body`, wholly read before the handler runs.
    Json(Schema),
    /// Bytes of at most `rest.max.plugin`, given to the handler as they come. Any media type.
    Bytes,
}

/// What an answer carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum ResponseBody {
    Nothing,
    Json(Schema),
    Text(&'static str),
    /// One of the files of the page, of one of these kinds.
    File(&'static [&'static str]),
}

/// One query parameter, or the description of a path's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param {
    pub name: &'static str,
    pub schema: Schema,
    pub doc: &'static str,
    /// May be given more than once.
    pub many: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Route {
    pub method: Method,
    /// `/connectors/{name}/status`. A literal segment wins over `{…}`.
    pub path: &'static str,
    pub may: Access,
    pub tag: &'static str,
    pub summary: &'static str,
    pub query: &'static [Param],
    pub takes: RequestBody,
    /// Status and body of every answer that is no error, likeliest first.
    pub gives: &'static [(u16, ResponseBody)],
    /// Statuses of errors of this route's own; those that every route can answer are added in `openapi`.
    pub faults: &'static [u16],
    pub handler: fn(&Ctx, &mut Request) -> Result<HttpResponse, HttpError>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method.word(), self.path)
    }
}

/// Whose pipelines are shown, and who makes the request.
#[derive(Clone)]
pub(super) struct Ctx {
    pub watched: Arc<dyn Watched>,
    /// Who changes them; none in `weir run`.
    pub supervisor: Option<Arc<Supervisor>>,
    pub actor: Actor,
    pub role: Role,
    /// Somebody who is not known here is not let in.
    pub locked: bool,
    /// Shows when nobody waits for the answer any more.
    pub asker: Asker,
}

impl Ctx {
    /// 404 where no daemon is: its routes are not served there.
    pub fn daemon(&self) -> Result<&Arc<Supervisor>, HttpError> {
        let daemon = self.supervisor.as_ref();
        daemon.ok_or_else(|| HttpError::not_found("`weir daemon` has this route, a run has not"))
    }
}

/// A request that passed login and limits.
pub(super) struct Request {
    /// Percent-decoded segments of the path, by the names in [`Route::path`].
    pub params: Vec<(&'static str, String)>,
    /// Decoded, in the order given.
    pub query: Vec<(String, String)>,
    /// Whole body of a [`RequestBody::Json`] route; otherwise empty.
    pub body: Vec<u8>,
    /// Body of a [`RequestBody::Bytes`] route, at most `rest.max.plugin`; a reader that ends early is an `io::Error`.
    pub upload: Option<Box<dyn Read + Send>>,
    /// `http://host:port` that the client used, for `Location`.
    pub base: String,
    /// The path as it was sent.
    pub path: String,
    /// `If-None-Match`
    pub known: Option<String>,
}

impl Request {
    pub fn param(&self, name: &str) -> &str {
        let mut found = self.params.iter();
        found
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        let mut found = self.query.iter();
        found
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.query.iter();
        all.filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// As Java reads a boolean: `true` in any case is true, all else is false.
    pub fn flag(&self, name: &str) -> bool {
        self.query(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A number of only digits in the query; otherwise 400 that names the parameter.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, HttpError> {
        self.query(name)
            .map(|text| {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse().ok().filter(|_| digits);
                number.ok_or_else(|| {
                    HttpError::bad(format!(
                        "the parameter `{name}` takes a whole number, not {text:?}"
                    ))
                })
            })
            .transpose()
    }
}

/// What a handler answers.
#[derive(Debug)]
pub(super) struct HttpResponse {
    pub status: u16,
    pub content: Content,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
pub(super) enum Content {
    None,
    Json(Vec<u8>),
    /// Content type and text.
    Text(&'static str, String),
    /// Content type and bytes that are part of the program.
    File(&'static str, &'static [u8]),
    /// `text/event-stream`, until its client leaves or the daemon ends.
    Events(Feed),
}

impl HttpResponse {
    pub fn empty(status: u16) -> HttpResponse {
        HttpResponse {
            status,
            content: Content::None,
            headers: Vec::new(),
        }
    }

    /// In the order of the type's fields.
    pub fn json(status: u16, body: &impl Serialize) -> Result<HttpResponse, HttpError> {
        let json = serde_json::to_string(body)
            .map_err(|error| HttpError::internal(format!("an answer that is no JSON: {error}")))?;
        // Hidden characters are escaped, so that a terminal shows them.
        let bytes = match printable_json(&json) {
            Cow::Borrowed(_) => json.into_bytes(),
            Cow::Owned(shown) => shown.into_bytes(),
        };
        Ok(HttpResponse {
            status,
            content: Content::Json(bytes),
            headers: Vec::new(),
        })
    }

    pub fn text(status: u16, kind: &'static str, text: String) -> HttpResponse {
        HttpResponse {
            status,
            content: Content::Text(kind, text),
            headers: Vec::new(),
        }
    }

    pub fn events(feed: Feed) -> HttpResponse {
        HttpResponse {
            status: 200,
            content: Content::Events(feed),
            headers: Vec::new(),
        }
    }

    pub fn file(kind: &'static str, bytes: &'static [u8]) -> HttpResponse {
        HttpResponse {
            status: 200,
            content: Content::File(kind, bytes),
            headers: Vec::new(),
        }
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> HttpResponse {
        self.headers.push((name, value));
        self
    }
}

/// What a path and a method lead to.
#[derive(Debug)]
pub(super) enum Found {
    Route(&'static Route, Vec<(&'static str, String)>),
    /// The path is known, with these methods.
    OtherMethods(Vec<Method>),
    Unknown,
}

/// Leading and trailing slashes do not count: clients that join a base URL and a path send both.
pub(super) fn find(
    routes: &'static [Route],
    method: Option<Method>,
    path: &str,
) -> Result<Found, HttpError> {
    let segments = segments(path)?;
    let mut best: Option<(usize, &'static Route)> = None;
    let mut others = Vec::new();
    for route in routes {
        let Some(literal) = matched(route.path, &segments) else {
            continue;
        };
        if Some(route.method) != method {
            others.push(route.method);
        } else if best.is_none_or(|(score, _)| literal > score) {
            best = Some((literal, route));
        }
    }
    let Some((_, route)) = best else {
        others.sort();
        others.dedup();
        return Ok(if others.is_empty() {
            Found::Unknown
        } else {
            Found::OtherMethods(others)
        });
    };
    let names = route.path.trim_matches('/').split('/');
    let params = names
        .zip(segments)
        .filter_map(|(name, value)| Some((name.strip_prefix('{')?.strip_suffix('}')?, value)));
    Ok(Found::Route(route, params.collect()))
}

/// Number of literal segments, if the path matches the route.
fn matched(pattern: &'static str, segments: &[String]) -> Option<usize> {
    let pattern = pattern.trim_matches('/');
    let wanted: Vec<&str> = pattern.split('/').filter(|s| !s.is_empty()).collect();
    if wanted.len() != segments.len() {
        return None;
    }
    let mut literal = 0;
    for (want, have) in wanted.iter().zip(segments) {
        if want.starts_with('{') {
            if have.is_empty() {
                return None;
            }
        } else if want == have {
            literal += 1;
        } else {
            return None;
        }
    }
    Some(literal)
}

fn segments(path: &str) -> Result<Vec<String>, HttpError> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/').map(|s| decoded(s, false)).collect()
}

/// Percent-decoding; 400 if an escape is incomplete or the result is not UTF-8.
pub(super) fn decoded(text: &str, plus_is_space: bool) -> Result<String, HttpError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'%' => {
                let hex = |b: &u8| char::from(*b).to_digit(16);
                let [high, low, tail @ ..] = rest else {
                    return Err(HttpError::bad("the address ends within a `%` escape"));
                };
                let (Some(high), Some(low)) = (hex(high), hex(low)) else {
                    return Err(HttpError::bad(
                        "the address has a `%` without two hex digits",
                    ));
                };
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = tail;
            }
            b'+' if plus_is_space => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).map_err(|_| HttpError::bad("the address is not UTF-8"))
}

/// The inverse, for `Location`: one segment of a path.
pub(super) fn encoded(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `a=1&b=2`, decoded.
pub(super) fn query(text: &str) -> Result<Vec<(String, String)>, HttpError> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(key, true)?, decoded(value, true)?))
        })
        .collect()
}
