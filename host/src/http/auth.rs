//! Authentication and roles, rate limits, CORS. Secrets are kept as digests and compared in constant time; nothing that
//! is printed contains them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use openssl::sha::sha256;

use super::fault::HttpError;
use super::limits::{FAILED_LOGIN, PEERS};
use super::route::Role;
use crate::daemon::Actor;

/// Users, tokens, and which of them may only read.
pub(super) struct Logins {
    basic: Vec<(String, [u8; 32])>,
    bearer: Vec<(String, [u8; 32])>,
    read_only: BTreeSet<String>,
    /// Whoever does not have to log in may look only.
    readers: bool,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} users, {} tokens",
            self.basic.len(),
            self.bearer.len()
        )
    }
}

impl Logins {
    /// Pairs of name and secret.
    pub fn new<'a>(
        basic: impl IntoIterator<Item = (&'a str, &'a str)>,
        bearer: impl IntoIterator<Item = (&'a str, &'a str)>,
        read_only: impl IntoIterator<Item = &'a str>,
    ) -> Logins {
        let digest = |(name, secret): (&str, &str)| (name.to_owned(), sha256(secret.as_bytes()));
        Logins {
            basic: basic.into_iter().map(digest).collect(),
            bearer: bearer.into_iter().map(digest).collect(),
            read_only: read_only.into_iter().map(str::to_owned).collect(),
            readers: false,
        }
    }

    /// Nobody has to log in, and nobody may change anything.
    pub fn readers() -> Logins {
        Logins {
            readers: true,
            ..Logins::new([], [], [])
        }
    }

    pub fn locked(&self) -> bool {
        !self.basic.is_empty() || !self.bearer.is_empty()
    }

    /// If no login is needed the header is ignored: some consoles always send one.
    pub fn enter(&self, header: Option<&[u8]>, peer: IpAddr) -> Result<(Actor, Role), HttpError> {
        if !self.locked() {
            let role = match self.readers {
                true => Role::ReadOnly,
                false => Role::Full,
            };
            return Ok((Actor(format!("anonymous@{peer}")), role));
        }
        let name = header.and_then(|header| self.name(header));
        let Some(name) = name else {
            return Err(self.refusal());
        };
        let role = if self.read_only.contains(&name) {
            Role::ReadOnly
        } else {
            Role::Full
        };
        Ok((Actor(name), role))
    }

    fn name(&self, header: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(header).ok()?;
        let (scheme, given) = text.trim().split_once(' ')?;
        let given = given.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            let digest = sha256(given.as_bytes());
            return held(&self.bearer, None, &digest);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = base64::engine::general_purpose::STANDARD
            .decode(given)
            .ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        let user = std::str::from_utf8(pair.get(..colon)?).ok()?;
        let digest = sha256(pair.get(colon + 1..)?);
        held(&self.basic, Some(user), &digest)
    }

    fn refusal(&self) -> HttpError {
        let mut fault = HttpError::new(401, "HTTP 401 Unauthorized");
        if !self.basic.is_empty() {
            fault = fault.header(
                "www-authenticate",
                "Basic realm=\"weir\", charset=\"UTF-8\"",
            );
        }
        if !self.bearer.is_empty() {
            fault = fault.header("www-authenticate", "Bearer realm=\"weir\"");
        }
        fault
    }
}

/// Compares with all of them, so that the time reveals nothing.
fn held(list: &[(String, [u8; 32])], user: Option<&str>, digest: &[u8; 32]) -> Option<String> {
    let mut found = None;
    for (name, secret) in list {
        let same = openssl::memcmp::eq(secret, digest);
        if same && user.is_none_or(|user| user == name) {
            found = Some(name.clone());
        }
    }
    found
}

/// A token bucket per address, which fills with `rate` tokens a second up to those of one second.
#[derive(Debug)]
pub(super) struct Rates {
    rate: f64,
    peers: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Rates {
    pub fn new(rate: u32) -> Rates {
        Rates {
            rate: f64::from(rate),
            peers: Mutex::new(HashMap::new()),
        }
    }

    pub fn take(&self, peer: IpAddr, now: Instant) -> Result<(), HttpError> {
        if self.spend(peer, 1.0, now) {
            return Ok(());
        }
        let message = format!(
            "more than {} requests a second from {peer} (rest.max.rate)",
            self.rate
        );
        Err(HttpError::new(429, message).header("retry-after", "1"))
    }

    pub fn failed_login(&self, peer: IpAddr, now: Instant) {
        let _emptied = self.spend(peer, FAILED_LOGIN, now);
    }

    /// False: there was less than one token.
    fn spend(&self, peer: IpAddr, cost: f64, now: Instant) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS && !peers.contains_key(&peer) {
            // A second without requests fills a bucket, so it can be forgotten.
            peers.retain(|_, (_, last)| now.duration_since(*last).as_secs_f64() < 1.0);
            if peers.len() >= PEERS {
                peers.clear();
            }
        }
        let (tokens, last) = peers.entry(peer).or_insert((self.rate, now));
        let filled = *tokens + now.duration_since(*last).as_secs_f64() * self.rate;
        *tokens = filled.min(self.rate);
        *last = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens = (*tokens - cost).max(0.0);
        true
    }
}

/// Connect's `access.control.allow.*`.
#[derive(Clone, Debug, Default)]
pub(super) struct Cors {
    origins: Vec<String>,
    methods: String,
}

/// For a worker that names none, as in Connect.
const CORS_METHODS: &str = "GET,POST,HEAD";
const CORS_HEADERS: &str = "X-Requested-With,Content-Type,Accept,Origin,Authorization";
/// Seconds for which a browser may remember the answer.
const CORS_AGE: &str = "1800";

impl Cors {
    pub fn new(origins: &str, methods: &str) -> Cors {
        let listed = |text: &str| -> Vec<String> {
            let pieces = text.split(',').map(str::trim);
            pieces
                .filter(|piece| !piece.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let methods = listed(methods).join(",");
        Cors {
            origins: listed(origins),
            methods: if methods.is_empty() {
                CORS_METHODS.to_owned()
            } else {
                methods
            },
        }
    }

    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| glob(known, origin))
    }

    /// Headers of every answer to a page of `origin`.
    pub fn headers(&self, origin: Option<&str>) -> Vec<(&'static str, String)> {
        match origin {
            Some(origin) if self.allows(origin) => vec![
                ("access-control-allow-origin", origin.to_owned()),
                ("vary", "Origin".to_owned()),
            ],
            _ => Vec::new(),
        }
    }

    /// Headers for a browser's preflight request.
    pub fn preflight(&self, origin: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = self.headers(origin);
        if !headers.is_empty() {
            headers.push(("access-control-allow-methods", self.methods.clone()));
            headers.push(("access-control-allow-headers", CORS_HEADERS.to_owned()));
            headers.push(("access-control-max-age", CORS_AGE.to_owned()));
        }
        headers
    }
}

/// One `*` matches any text.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn logins() -> Logins {
        let users = [("ann", "pass:word"), ("bob", "b")];
        Logins::new(users, [("ci", "t0ken")], ["bob"])
    }

    fn basic(pair: &str) -> Vec<u8> {
        let coded = base64::engine::general_purpose::STANDARD.encode(pair);
        format!("Basic {coded}").into_bytes()
    }

    #[test]
    fn the_right_secret_of_the_right_name_opens() {
        let logins = logins();
        let enter = |header: &[u8]| logins.enter(Some(header), PEER).map(|(a, r)| (a.0, r)).ok();
        assert_eq!(
            enter(&basic("ann:pass:word")),
            Some(("ann".into(), Role::Full))
        );
        assert_eq!(enter(&basic("bob:b")), Some(("bob".into(), Role::ReadOnly)));
        assert_eq!(enter(b"bearer t0ken"), Some(("ci".into(), Role::Full)));
        let wrong: [&[u8]; 8] = [
            &basic("ann:b"),
            &basic("ann:"),
            &basic("ann"),
            b"Basic ????",
            b"Bearer t0ke",
            b"Bearer",
            b"Digest t0ken",
            &[0xff, 0x20, 0x41],
        ];
        for header in wrong {
            assert_eq!(enter(header), None, "{}", String::from_utf8_lossy(header));
        }
        let fault = logins.enter(None, PEER).unwrap_err();
        assert_eq!((fault.status, fault.headers.len()), (401, 2));
        assert!(!format!("{logins:?}").contains("t0ken"));
    }

    #[test]
    fn without_locks_everybody_is_anonymous() {
        let open = Logins::new([], [], []);
        let (actor, role) = open.enter(Some(b"Basic nonsense"), PEER).expect("open");
        assert_eq!(
            (actor.0.as_str(), role),
            ("anonymous@127.0.0.1", Role::Full)
        );
    }

    #[test]
    fn a_peer_has_a_rate_and_wrong_passwords_use_it_up() {
        let rates = Rates::new(100);
        let start = Instant::now();
        for _ in 0..100 {
            rates.take(PEER, start).expect("within the rate");
        }
        let fault = rates.take(PEER, start).unwrap_err();
        assert_eq!(fault.status, 429);
        assert_eq!(fault.headers, vec![("retry-after", "1".to_owned())]);
        let later = start + Duration::from_secs(2);
        rates.take(PEER, later).expect("filled again");
        for _ in 0..2 {
            rates.failed_login(PEER, later);
        }
        assert!(rates.take(PEER, later).is_err());
        let other = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
        rates.take(other, later).expect("another peer's rate");
    }

    #[test]
    fn origins_are_as_listed() {
        let cors = Cors::new("https://a.example, https://*.b.example", "GET, PUT");
        assert!(cors.allows("https://a.example") && cors.allows("https://x.b.example"));
        assert!(!cors.allows("https://a.example.evil") && !cors.allows("http://a.example"));
        assert!(Cors::new("*", "").allows("http://anything"));
        assert!(!Cors::default().allows("http://anything"));
        assert!(cors.headers(Some("https://evil")).is_empty());
        assert_eq!(cors.preflight(Some("https://a.example"))[2].1, "GET,PUT");
    }
}
