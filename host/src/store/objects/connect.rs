//! Connections to a service, and what its answers reveal besides the result: the bucket's region, the service's clock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use crate::config::Options;
use crate::config::text::machine;
use crate::error::{Error, Kind, Result};
use crate::fs::Limit;
use crate::lock::lock;

/// Clock differences up to this many seconds are not mentioned.
const SKEW_TOLD: i64 = 60;
const SKEW_UNKNOWN: i64 = i64::MIN;

/// Where machines in a cloud get their credentials; these hosts are never asked through a proxy, which would read the
/// credentials.
const METADATA: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "metadata.google.internal",
];

/// Variables that name another such host: a URL, or a host with or without a port.
const METADATA_VARIABLES: &[&str] = &[
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "GCE_METADATA_HOST",
    "GCE_METADATA_ROOT",
    "GCE_METADATA_IP",
    "IDENTITY_ENDPOINT",
];

/// What other tools take a proxy from, for requests with TLS and for those without.
const PROXY: &[&str] = &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const PROXY_PLAIN: &[&str] = &["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"];

/// The certificates of all public authorities together have some hundred KiB.
const CERTIFICATES: Limit = Limit {
    bytes: 16 << 20,
    of: "a file of certificates",
};

/// What answers have revealed.
#[derive(Debug)]
pub(super) struct Watch {
    region: Mutex<Option<String>>,
    /// Seconds by which the service's clock is ahead of this machine's.
    skew: AtomicI64,
    /// The service says that what signs is over; nothing newer was asked for since.
    expired: AtomicBool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            region: Mutex::default(),
            skew: AtomicI64::new(SKEW_UNKNOWN),
            expired: AtomicBool::new(false),
        }
    }
}

impl Watch {
    pub fn region(&self) -> Option<String> {
        lock(&self.region).clone()
    }

    pub fn set_expired(&self, expired: bool) {
        self.expired.store(expired, Ordering::Relaxed);
    }

    pub fn has_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// Seconds by which the service's clock is ahead of this machine's, once it has answered.
    pub fn skew(&self) -> Option<i64> {
        let skew = self.skew.load(Ordering::Relaxed);
        (skew != SKEW_UNKNOWN).then_some(skew)
    }

    /// Text for a remedy: by how much the clocks differ, if it is known.
    pub fn skew_told(&self) -> String {
        match self.skew() {
            Some(skew) if skew >= SKEW_TOLD => format!(" (it is {skew} s behind the store's)"),
            Some(skew) if skew <= -SKEW_TOLD => {
                format!(" (it is {} s ahead of the store's)", skew.unsigned_abs())
            }
            _ => String::new(),
        }
    }

    fn look(&self, answer: &HttpResponse) {
        let header = |name: &str| answer.headers().get(name)?.to_str().ok();
        if let Some(region) = header("x-amz-bucket-region") {
            *lock(&self.region) = Some(region.to_owned());
        }
        let there = header("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        if let Some(there) = there {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
            let skew = there.timestamp().as_second().saturating_sub(now);
            self.skew.store(skew, Ordering::Relaxed);
        }
    }
}

/// Which proxy a request takes: as with other tools its scheme decides, for the store and for who gives credentials alike.
#[derive(Clone, Default)]
pub(super) struct Proxies {
    tls: Option<String>,
    plain: Option<String>,
    /// Hosts that are reached without one, with commas between them.
    direct: String,
}

/// The URL of a proxy may contain a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxies").field(&self.direct).finish()
    }
}

impl Proxies {
    /// The config's, or the machine's.
    pub fn of(options: &Options) -> Result<Proxies> {
        let own = options.proxy.as_ref().map(|proxy| proxy.resolve());
        let key = || format!("{}proxy", options.keys);
        let own = own.transpose().map_err(|e| e.with("key", key()))?;
        Ok(Proxies::from(own.as_deref(), machine))
    }

    fn from(own: Option<&str>, machine: impl Fn(&str) -> Option<String>) -> Proxies {
        let first = |names: &[&str]| names.iter().find_map(|name| machine(name));
        let proxy = |names| match own {
            Some(own) => Some(url(own)),
            None => first(names).map(|found| url(&found)),
        };
        let mut direct: Vec<String> = METADATA.iter().map(|host| (*host).to_owned()).collect();
        let named = METADATA_VARIABLES.iter().filter_map(|name| machine(name));
        direct.extend(named.map(|place| host(&place).to_owned()));
        direct.extend(first(&["NO_PROXY", "no_proxy"]));
        Proxies {
            tls: proxy(PROXY),
            plain: proxy(PROXY_PLAIN),
            direct: direct.join(","),
        }
    }

    fn client(
        &self,
        proxy: Option<&String>,
        options: &ClientOptions,
    ) -> object_store::Result<HttpClient> {
        let mut options = options.clone();
        if let Some(url) = proxy {
            options = options
                .with_proxy_url(url)
                .with_proxy_excludes(&self.direct);
        }
        ReqwestConnector::default().connect(&options)
    }
}

/// A proxy as a URL: people write `host:port` too.
fn url(proxy: &str) -> String {
    match proxy.trim() {
        url if url.contains("://") => url.to_owned(),
        host => format!("http://{host}"),
    }
}

/// The host of a URL, or of a host and a port.
fn host(place: &str) -> &str {
    let place = place.trim();
    let place = place.split_once("://").map_or(place, |(_, rest)| rest);
    let place = place.split(['/', '?']).next().unwrap_or_default();
    match place.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, _)) => v6,
        // An address of version 6 without brackets has no port.
        None if place.matches(':').count() > 1 => place,
        None => place.split(':').next().unwrap_or_default(),
    }
}

#[derive(Debug)]
struct Watched {
    tls: HttpClient,
    plain: HttpClient,
    watch: Arc<Watch>,
}

type Answering<'a> =
    Pin<Box<dyn Future<Output = std::result::Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Watched {
    // The signature that the trait's macro generates.
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Answering<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let client = match request.uri().scheme_str() {
                Some("http") => &self.plain,
                _ => &self.tls,
            };
            let answer = client.execute(request).await?;
            self.watch.look(&answer);
            Ok(answer)
        })
    }
}

/// Makes clients whose answers are watched, and whose requests take the right proxy.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub watch: Arc<Watch>,
    pub proxies: Proxies,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let Proxies { tls, plain, .. } = &self.proxies;
        let over_tls = self.proxies.client(tls.as_ref(), options)?;
        let watched = Watched {
            plain: match tls == plain {
                true => over_tls.clone(),
                false => self.proxies.client(plain.as_ref(), options)?,
            },
            tls: over_tls,
            watch: Arc::clone(&self.watch),
        };
        Ok(HttpClient::new(watched))
    }
}

/// Time limits and trust of every connection.
pub(super) fn client(options: &Options, allow_http: bool) -> Result<ClientOptions> {
    let keys = options.keys;
    let agent = concat!("weir/", env!("CARGO_PKG_VERSION"));
    let mut client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout(options.request_timeout)
        .with_connect_timeout(options.connect_timeout)
        .with_config(object_store::ClientConfigKey::UserAgent, agent);
    if let Some(ca) = &options.ca {
        let path = ca.resolve()?;
        let bad = |message: &str| {
            Error::new(Kind::ConfigInvalid, "store.open", message.to_owned())
                .with("key", format!("{keys}ca"))
                .with("file", path.trim())
                .hint("name a PEM file of certificates that this user may read")
        };
        let pem = ca.reach().read(path.trim().as_ref(), CERTIFICATES);
        let pem = pem.map_err(|e| bad("the certificates cannot be read").source(e))?;
        let all = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if all.is_empty() {
            return Err(bad("there is no certificate in this file"));
        }
        for one in all {
            client = client.with_root_certificate(one);
        }
    }
    Ok(client)
}

/// How often one request is tried. After that the pipeline pauses, reports it and tries again.
pub(super) fn retries(options: &Options, retries: usize) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: retries,
        retry_timeout: options.retry_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skew_is_told_where_it_is_large() {
        let watch = Watch::default();
        assert_eq!(watch.skew_told(), "");
        watch.skew.store(-3600, Ordering::Relaxed);
        assert!(watch.skew_told().contains("3600 s ahead"));
        watch.skew.store(5, Ordering::Relaxed);
        assert_eq!(watch.skew_told(), "");
    }

    #[test]
    fn the_scheme_of_a_request_chooses_its_proxy_and_metadata_takes_none() {
        let of = |own: Option<&str>, set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(known, _)| *known == name);
            Proxies::from(own, |name| Some(value(name)?.1.to_owned()))
        };
        let (tls, plain) = (Some("http://t:1".to_owned()), Some("http://p:2".to_owned()));
        let both = of(
            None,
            &[("HTTPS_PROXY", "t:1"), ("HTTP_PROXY", " http://p:2")],
        );
        assert_eq!((both.tls, both.plain), (tls.clone(), plain.clone()));
        let only = of(None, &[("HTTP_PROXY", "p:2")]);
        assert_eq!((only.tls, only.plain), (None, plain));
        let own = of(Some("t:1"), &[("HTTP_PROXY", "p:2"), ("NO_PROXY", "near")]);
        assert_eq!((own.tls, own.plain), (tls.clone(), tls));
        assert!(own.direct.starts_with("169.254.169.254,"), "{}", own.direct);
        assert!(own.direct.ends_with(",near"), "{}", own.direct);
        for (name, place, host) in [
            (
                "IDENTITY_ENDPOINT",
                "http://127.0.0.1:41/msi/token",
                "127.0.0.1",
            ),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "http://[fd00::1]:80/x",
                "fd00::1",
            ),
            ("GCE_METADATA_HOST", "metadata:8080", "metadata"),
            ("GCE_METADATA_IP", "fd00::2", "fd00::2"),
        ] {
            let direct = of(None, &[(name, place)]).direct;
            assert!(direct.ends_with(&format!(",{host}")), "{direct}");
        }
        let secret = format!("{:?}", of(Some("http://u:hunter2@h"), &[]));
        assert!(!secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let options = Options {
            ca: Some(path.display().to_string().as_str().into()),
            ..Options::default()
        };
        let told = || client(&options, false).map(drop).unwrap_err().to_string();
        assert!(told().contains("cannot be read"), "{}", told());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(told().contains("no certificate in this file"), "{}", told());
        assert!(told().contains("sink.store.ca"), "{}", told());
    }
}
