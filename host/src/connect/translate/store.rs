//! Where the rows go, and how to connect: bucket, container or name node become `sink.url`, credentials and similar
//! keys `sink.store.*`. Each key is honoured, or refused by its name.
//!
//! `store.map` of a worker can replace the service by another place; then its keys have no effect, and a note says so.

use super::Work;
use super::sink::show;
use crate::config::problem;
use crate::connect::classes::Class;
use crate::connect::{
    AZURE_BLOB_SINK, AZURE_GEN1_SINK, AZURE_GEN2_SINK, GCS_SINK, HDFS_SINK, HDFS3_SINK,
};

mod credentials;

const URL: &str = "sink.url";
const DIR: &str = "topics.dir";
const GEN2: &str = "azure.datalake.gen2.account.name";
const GEN1: &str = "azure.datalake.account.name";

/// The service that a class of Confluent's writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    S3,
    Gcs,
    Blob,
    /// Retired by Microsoft.
    Gen1,
    Gen2,
    Hdfs2,
    Hdfs3,
}

impl Service {
    pub(super) fn of(class: &Class) -> Service {
        match class.name {
            GCS_SINK => Service::Gcs,
            AZURE_BLOB_SINK => Service::Blob,
            AZURE_GEN1_SINK => Service::Gen1,
            AZURE_GEN2_SINK => Service::Gen2,
            HDFS_SINK => Service::Hdfs2,
            HDFS3_SINK => Service::Hdfs3,
            _ => Service::S3,
        }
    }

    fn is_hdfs(self) -> bool {
        matches!(self, Service::Hdfs2 | Service::Hdfs3)
    }

    /// Schemes of URLs of the same service, for which its keys mean something.
    fn schemes(self) -> &'static [&'static str] {
        match self {
            Service::S3 => &["s3", "s3a", "s3n"],
            Service::Gcs => &["gs"],
            Service::Blob | Service::Gen1 | Service::Gen2 => {
                &["az", "abfs", "abfss", "wasb", "wasbs"]
            }
            Service::Hdfs2 | Service::Hdfs3 => &["hdfs"],
        }
    }
}

/// A key that becomes one of `sink.store.` as it is.
const SAME: &[(&str, &str)] = &[
    ("aws.access.key.id", "access.key.id"),
    ("aws.secret.access.key", "secret.access.key"),
    ("azblob.account.key", "account.key"),
    ("azblob.account.name", "account.name"),
    ("azblob.proxy.url", "proxy"),
    ("azblob.retry.retries", "retries"),
    ("azblob.sas.token", "sas.token"),
    ("azure.datalake.gen2.access.key", "account.key"),
    ("azure.datalake.gen2.account.name", "account.name"),
    ("azure.datalake.gen2.client.id", "client.id"),
    ("azure.datalake.gen2.client.key", "client.secret"),
    ("azure.datalake.gen2.sas.key", "sas.token"),
    ("gcs.credentials.path", "credentials.file"),
    ("gcs.part.retries", "retries"),
    ("gcs.proxy.url", "proxy"),
    ("hadoop.conf.dir", "hadoop.conf.dir"),
    ("s3.part.retries", "retries"),
    ("s3.path.style.access.enabled", "path.style"),
    ("s3.proxy.url", "proxy"),
    ("s3.region", "region"),
    ("s3.sse.kms.key.id", "sse.kms.key"),
    ("s3.ssea.name", "sse.type"),
];

/// Proxies with a login: a key of the class, the key that holds both.
const PROXY_LOGINS: &[&str] = &[
    "azblob.proxy.password",
    "azblob.proxy.user",
    "gcs.proxy.password",
    "gcs.proxy.user",
    "s3.proxy.password",
    "s3.proxy.user",
];

const ELSEWHERE: &str =
    "no effect: the rows go to another place (sink.url, or store.map of the worker)";

pub(super) fn translate(work: &mut Work<'_>) {
    let service = Service::of(work.class);
    delimiters(work);
    let dir = directory_of_topics(work);
    let wanted = wanted(work, service, dir.as_deref().unwrap_or("topics"));
    let url = dir.and_then(|_| place(work, service, wanted));
    // If there is no place (already reported), the other keys are still checked.
    let applies = url.is_none_or(|url| {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        service.schemes().contains(&scheme)
    });
    for (theirs, ours) in SAME {
        same(work, theirs, ours, applies);
    }
    endpoint(work, service, applies);
    if applies {
        defaults(work, service);
    }
    credentials::translate(work, service, applies);
    proxy_logins(work);
    refusals(work, service, applies);
}

/// A key as it was typed, references and all.
fn same(work: &mut Work<'_>, theirs: &str, ours: &str, applies: bool) {
    if work.class.key(theirs).is_none() {
        return;
    }
    let Some(typed) = work.typed(theirs) else {
        return;
    };
    match applies {
        true => work.put(&format!("sink.store.{ours}"), typed, theirs),
        false => work.note(theirs, ELSEWHERE),
    }
}

fn delimiters(work: &mut Work<'_>) {
    for (key, plain) in [("directory.delim", "/"), ("file.delim", "+")] {
        if work.get(key).is_some_and(|delim| delim != plain) {
            work.note(key, "no effect: paths have `/`, and names of files `+`");
        }
    }
}

/// `topics.dir`, without slashes at its ends. `None`: it is refused.
fn directory_of_topics(work: &mut Work<'_>) -> Option<String> {
    let dir = work.get(DIR).unwrap_or_else(|| "topics".to_owned());
    let dir = dir.trim_matches('/').to_owned();
    if dir.contains("${") {
        let reason = "the directory is one for all topics; each topic is a table below it";
        work.refuse(DIR, reason, "write a plain path");
        return None;
    }
    Some(dir)
}

/// A root as the class names it, the key that names it, and the part of `topics.dir` below it.
pub(super) struct Root {
    pub root: String,
    pub from: &'static str,
    pub below: String,
}

/// `None`: it is missing, which is reported unless there is a native `sink.url`.
fn wanted(work: &mut Work<'_>, service: Service, dir: &str) -> Option<Root> {
    let below = dir.to_owned();
    let named = |work: &mut Work<'_>, key: &'static str, scheme: &str| {
        let name = required(work, key)?;
        Some(Root {
            root: format!("{scheme}://{name}"),
            from: key,
            below: below.clone(),
        })
    };
    match service {
        Service::S3 => named(work, "s3.bucket.name", "s3"),
        Service::Gcs => named(work, "gcs.bucket.name", "gs"),
        Service::Blob => {
            required(work, "azblob.account.name");
            let container = work.get("azblob.container.name");
            Some(Root {
                root: format!("az://{}", container.as_deref().unwrap_or("default")),
                from: match container {
                    Some(_) => "azblob.container.name",
                    None => "azblob.account.name",
                },
                below,
            })
        }
        // The first directory is the file system, which Azure calls a container too.
        Service::Gen2 => {
            required(work, GEN2)?;
            let (container, below) = dir.split_once('/').unwrap_or((dir, ""));
            Some(Root {
                root: format!("az://{container}"),
                from: GEN2,
                below: below.to_owned(),
            })
        }
        Service::Gen1 => named(work, GEN1, "adl"),
        Service::Hdfs2 | Service::Hdfs3 => {
            let (hdfs, store) = (work.get("hdfs.url"), work.get("store.url"));
            let (root, from) = match (hdfs, store) {
                (Some(url), _) => (url, "hdfs.url"),
                (None, Some(url)) => (url, "store.url"),
                (None, None) => {
                    required(work, "hdfs.url");
                    return None;
                }
            };
            Some(Root { root, from, below })
        }
    }
}

pub(super) fn required(work: &mut Work<'_>, key: &str) -> Option<String> {
    let found = work.get(key);
    if found.is_none() && !work.has(URL) {
        let message = format!("`{key}` is missing and has no default");
        work.problem(key, problem::MISSING, message);
    }
    found
}

/// `sink.url`: the native one, what the worker maps the root to, a directory, or the service itself.
pub(super) fn place(work: &mut Work<'_>, service: Service, wanted: Option<Root>) -> Option<String> {
    if let Some(url) = work.native(URL) {
        work.used("store.url");
        return Some(url);
    }
    let Root { root, from, below } = wanted?;
    let root = root.trim_end_matches('/').to_owned();
    let (root, from) = match mapped(work, &root) {
        Some(mapped) => (mapped, from),
        None => match directory(work, service, &root) {
            Some(found) => found,
            None => {
                served(work, service, &root, from)?;
                (root, from)
            }
        },
    };
    let key = if work.is_there(DIR) { DIR } else { from };
    let url = match below.as_str() {
        "" => root,
        below => format!("{}/{below}", root.trim_end_matches('/')),
    };
    work.note(key, format!("tables are directories of {url}, one per topic, with the commit log in _system beside them"));
    work.put(URL, url.clone(), key);
    Some(url)
}

/// Whether the service itself can be written to.
fn served(work: &mut Work<'_>, service: Service, root: &str, from: &'static str) -> Option<()> {
    const SCHEMES: &[&str] = &[
        "hdfs", "s3", "s3a", "s3n", "gs", "az", "abfs", "abfss", "wasb", "wasbs",
    ];
    if service == Service::Gen1 {
        work.refuse(
            from,
            "Azure Data Lake Storage Gen1 was retired on 2024-02-29: there is no service to write to",
            "its data went to Gen2: write io.confluent.connect.azure.datalake.gen2.AzureDataLakeGen2SinkConnector with its keys, or name a place in sink.url",
        );
        return None;
    }
    let scheme = root.split_once("://").map_or("", |(scheme, _)| scheme);
    if !SCHEMES.contains(&scheme) {
        let hint = "write hdfs://NAMENODE:8020 or hdfs://NAMESERVICE; a file system of Hadoop that is not spoken here can be mapped by store.map of the worker";
        work.refuse(
            from,
            format!("`{root}` is no store that is spoken here"),
            hint,
        );
        return None;
    }
    Some(())
}

/// A directory of this machine that replaces the service: a path or `file:` URL in the key for its address.
fn directory(work: &mut Work<'_>, service: Service, root: &str) -> Option<(String, &'static str)> {
    let local = |url: &str| {
        let plain = !url.contains(':');
        match url.strip_prefix("file:") {
            Some(path) => Some(format!("file:{path}")),
            None if plain => Some(format!("file:{url}")),
            None => None,
        }
    };
    if service.is_hdfs() {
        let from = if work.is_there("hdfs.url") {
            "hdfs.url"
        } else {
            "store.url"
        };
        return Some((local(root)?, from));
    }
    let directory = local(&work.get("store.url")?)?;
    let (_, name) = root.split_once("://")?;
    let root = format!("{}/{name}", directory.trim_end_matches('/'));
    Some((root, "store.url"))
}

/// By the longest prefix that the worker maps, of whole parts; `s3://` maps every bucket.
fn mapped(work: &Work<'_>, wanted: &str) -> Option<String> {
    let stores = work.defaults.stores.iter();
    let of = |(prefix, to): &(String, String)| {
        let prefix = prefix.trim_end_matches('/');
        let rest = wanted.strip_prefix(prefix)?;
        let whole = rest.is_empty() || rest.starts_with('/');
        let below = rest.trim_start_matches('/');
        let to = to.trim_end_matches('/');
        let to = if below.is_empty() {
            to.to_owned()
        } else {
            format!("{to}/{below}")
        };
        whole.then_some((prefix.len(), to))
    };
    let longest = stores.filter_map(of).max_by_key(|(length, _)| *length);
    longest.map(|(_, to)| to)
}

/// `store.url` of a cloud's class: another address than the cloud's own.
fn endpoint(work: &mut Work<'_>, service: Service, applies: bool) {
    const KEY: &str = "store.url";
    if service.is_hdfs() {
        work.used(KEY);
        return;
    }
    let Some(url) = work.get(KEY) else { return };
    if !applies {
        // A directory, or a service that is not asked.
        if url.starts_with("http") {
            work.note(KEY, ELSEWHERE);
        }
        return;
    }
    match url.split_once("://") {
        Some(("https", _)) => work.put("sink.store.endpoint", url, KEY),
        Some(("http", _)) => {
            work.put("sink.store.endpoint", url, KEY);
            work.put("sink.store.allow.http", "true", KEY);
        }
        _ => work.refuse(
            KEY,
            format!("`{url}` is no address of a service"),
            "write http://HOST:PORT or https://HOST:PORT, or a directory: file:/srv/lake",
        ),
    }
}

/// Connect's defaults that differ from ours; and keys that need more than a copy.
fn defaults(work: &mut Work<'_>, service: Service) {
    const REGION: &str = "s3.region";
    // A key that some forks of the connector have.
    const PATH_STYLE: &str = "s3.path.style.access";
    const CONNECT: &str = "azblob.connection.timeout.ms";
    if service == Service::S3
        && let Some(typed) = work.typed(PATH_STYLE)
    {
        work.put("sink.store.path.style", typed, PATH_STYLE);
    }
    if service == Service::Blob
        && let Some(ms) = work.millis(CONNECT, i64::MAX)
    {
        work.put("sink.store.connect.timeout", show(ms), CONNECT);
    }
    if service == Service::S3 && !work.is_there(REGION) && !work.has("sink.store.region") {
        let default = work.class.key(REGION).and_then(|key| key.default.clone());
        if let Some(region) = default {
            work.put("sink.store.region", region, REGION);
        }
    }
}

fn proxy_logins(work: &mut Work<'_>) {
    for key in PROXY_LOGINS {
        if work.class.key(key).is_some() && work.typed(key).is_some() {
            work.refuse(
                key,
                "the login of a proxy stands in its URL",
                "sink.store.proxy = \"http://USER:${env:PROXY_PASSWORD}@HOST:PORT\"",
            );
        }
    }
}

/// Features of the service that are not supported.
fn refusals(work: &mut Work<'_>, service: Service, applies: bool) {
    if service != Service::S3 || !applies {
        for key in ["s3.acl.canned", "s3.wan.mode"] {
            work.used(key);
        }
        return;
    }
    const ACL: &str = "s3.acl.canned";
    if let Some(acl) = work.get(ACL)
        && acl != "private"
    {
        work.refuse(
            ACL,
            format!("objects are written with the bucket's default, never as `{acl}`"),
            "take the key out, and let the bucket say who may read (its policy, or Object Ownership)",
        );
    }
    const WAN: &str = "s3.wan.mode";
    if work.flag(WAN) == Some(true) {
        work.refuse(
            WAN,
            "no transfer acceleration is asked for by itself",
            "write false, and name the accelerated address: sink.store.endpoint = \"https://BUCKET.s3-accelerate.amazonaws.com\"",
        );
    }
}
