//! Where a store is and how it is reached: a URL, and the options that `sink.store.*` or `source.store.*` give.
//!
//! A URL alone means the default options, with the credentials that this machine has for such a store. Secrets stay
//! [`Text`]: they are resolved at use. No URL contains a secret.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::problem;
use super::shape::{Parsed, refuse};
use super::text::Text;
use crate::fs;

/// A store of a pipeline, or one that is named on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// As [`canonical`] writes it.
    pub url: String,
    pub options: Options,
}

/// The kinds of stores, by the scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    File,
    Memory,
    S3,
    Gcs,
    Azure,
    Hdfs,
}

impl System {
    /// Stores whose files are uploads.
    pub fn is_object_store(self) -> bool {
        matches!(self, System::S3 | System::Gcs | System::Azure)
    }

    pub fn name(self) -> &'static str {
        match self {
            System::File => "a directory",
            System::Memory => "memory",
            System::S3 => "S3",
            System::Gcs => "Google Cloud Storage",
            System::Azure => "Azure Blob Storage",
            System::Hdfs => "HDFS",
        }
    }
}

/// `sink.publish`: how a file reaches its final name in an object store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// An upload at the final name is completed after the commit.
    #[default]
    Complete,
    /// A whole object under a staging name is copied after the commit.
    Copy,
}

/// Encryption by the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sse {
    /// As the bucket says.
    #[default]
    None,
    Aes256,
    Kms,
}

/// The values of the keys below `sink.store.` and `source.store.`. The default is what a URL alone means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The prefix of the keys, `sink.store.` or `source.store.`, for messages.
    pub keys: &'static str,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Not set: true if there is an endpoint.
    pub path_style: Option<bool>,
    pub allow_http: bool,
    pub anonymous: bool,
    pub access_key_id: Option<Text>,
    pub secret_access_key: Option<Text>,
    pub session_token: Option<Text>,
    pub profile: Option<String>,
    pub account_name: Option<String>,
    pub account_key: Option<Text>,
    pub sas_token: Option<Text>,
    pub tenant_id: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Text>,
    pub credentials_file: Option<Text>,
    pub proxy: Option<Text>,
    pub ca: Option<Text>,
    pub sse: Sse,
    pub sse_kms_key: Option<String>,
    pub storage_class: Option<String>,
    pub tags: Vec<(String, String)>,
    /// Time limit of one request with its answer.
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    /// Further tries of one request.
    pub retries: usize,
    /// Time limit of all tries of one request together.
    pub retry_timeout: Duration,
    /// O7: how long the store keeps an upload that is not completed.
    pub lifetime: Duration,
    pub publish: Publish,
    pub hadoop_conf_dir: Option<Text>,
    pub hadoop_user: Option<String>,
    pub kerberos_principal: Option<String>,
    pub kerberos_keytab: Option<Text>,
    pub kerberos_ticket_cache: Option<Text>,
}

impl Default for Options {
    /// The same as the defaults of the keys; a test compares them.
    fn default() -> Options {
        Options {
            keys: "sink.store.",
            endpoint: None,
            region: None,
            path_style: None,
            allow_http: false,
            anonymous: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            profile: None,
            account_name: None,
            account_key: None,
            sas_token: None,
            tenant_id: None,
            client_id: None,
            client_secret: None,
            credentials_file: None,
            proxy: None,
            ca: None,
            sse: Sse::None,
            sse_kms_key: None,
            storage_class: None,
            tags: Vec::new(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            retries: 5,
            retry_timeout: Duration::from_secs(60),
            lifetime: Duration::from_secs(24 * 3600),
            publish: Publish::Complete,
            hadoop_conf_dir: None,
            hadoop_user: None,
            kerberos_principal: None,
            kerberos_keytab: None,
            kerberos_ticket_cache: None,
        }
    }
}

impl Options {
    /// Values that name files of this machine: the key, the value, and whether a secret is in the file.
    pub fn files(&self) -> Vec<(String, &Text, bool)> {
        let named = [
            ("ca", &self.ca, false),
            ("credentials.file", &self.credentials_file, true),
            ("hadoop.conf.dir", &self.hadoop_conf_dir, false),
            ("kerberos.keytab", &self.kerberos_keytab, true),
            ("kerberos.ticket.cache", &self.kerberos_ticket_cache, true),
        ];
        let given = named
            .into_iter()
            .filter_map(|(key, text, secret)| Some((key, text.as_ref()?, secret)));
        given
            .map(|(key, text, secret)| (format!("{}{key}", self.keys), text, secret))
            .collect()
    }

    /// Values that are or may hold secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &Text> {
        let all = [
            &self.access_key_id,
            &self.secret_access_key,
            &self.session_token,
            &self.account_key,
            &self.sas_token,
            &self.client_secret,
            &self.proxy,
        ];
        let files = self.files().into_iter().map(|(_, text, _)| text);
        all.into_iter().flatten().chain(files)
    }

    /// Whether requests are signed with credentials of this machine (its environment, its files, its identity in a
    /// cloud), and not with those of the config.
    pub fn uses_machine_identity(&self, system: System) -> bool {
        if self.anonymous {
            return false;
        }
        match system {
            System::File | System::Memory => false,
            System::S3 => self.secret_access_key.is_none(),
            System::Gcs => self.credentials_file.is_none(),
            System::Azure => {
                self.account_key.is_none()
                    && self.sas_token.is_none()
                    && self.client_secret.is_none()
            }
            System::Hdfs => self.kerberos_keytab.is_none() && self.kerberos_ticket_cache.is_none(),
        }
    }

    /// The key that sends requests to another place than the service itself, if one is set.
    pub fn elsewhere(&self) -> Option<String> {
        let set = [
            ("endpoint", self.endpoint.is_some()),
            ("proxy", self.proxy.is_some()),
            ("ca", self.ca.is_some()),
            ("allow.http", self.allow_http),
            ("hadoop.conf.dir", self.hadoop_conf_dir.is_some()),
        ];
        let found = set.iter().find(|(_, set)| *set);
        found.map(|(key, _)| format!("{}{key}", self.keys))
    }
}

impl Location {
    /// A URL alone: defaults, and the credentials of this machine. A text that is no store's URL stays as it is and
    /// cannot be opened.
    pub fn of(url: &str) -> Location {
        Location {
            url: canonical(url).unwrap_or_else(|_| url.to_owned()),
            options: Options::default(),
        }
    }

    /// `None`: not a store's URL.
    pub fn system(&self) -> Option<System> {
        system(self.url.split_once(':')?.0)
    }

    /// Bucket or container, and the prefix below it; empty if the URL has none.
    pub fn bucket(&self) -> (&str, &str) {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split_once('/').unwrap_or((rest, ""))
    }

    /// Of a bucket or HDFS: the highest place above this one that a URL can name, and the path from there. `None`: there is none.
    pub fn top(&self) -> Option<(Location, String)> {
        if matches!(self.system()?, System::File | System::Memory) {
            return None;
        }
        let (scheme, rest) = self.url.split_once("://")?;
        let (first, path) = rest.split_once('/')?;
        let (top, path) = match first {
            // The name node stands in Hadoop's own configuration.
            "" => {
                let (dir, path) = path.split_once('/')?;
                (format!("/{dir}"), path)
            }
            bucket => (bucket.to_owned(), path),
        };
        let top = Location {
            url: format!("{scheme}://{top}"),
            options: self.options.clone(),
        };
        (!path.is_empty()).then(|| (top, path.to_owned()))
    }

    /// Whether both name one store.
    pub fn is_same(&self, other: &Location) -> bool {
        self.identity() == other.identity()
    }

    /// The path by which the other store lies below this one, links followed; empty where both are the same. `None`: it lies
    /// elsewhere.
    pub fn path_to(&self, other: &Location) -> Option<PathBuf> {
        let ((system, above), (other_system, below)) = (self.identity(), other.identity());
        if system != other_system || self.system() == Some(System::Memory) {
            return (system == other_system && above == below).then(PathBuf::new);
        }
        let real = |path: PathBuf, at: &Location| match at.system() {
            Some(System::File) => fs::resolve(&path).unwrap_or(path),
            _ => path,
        };
        let (above, below) = (real(above, self), real(below, other));
        below.strip_prefix(above).ok().map(Path::to_owned)
    }

    fn identity(&self) -> (String, PathBuf) {
        let option = |text: &Option<String>| text.clone().unwrap_or_default();
        let end = |text: String| text.trim_end_matches('/').to_lowercase();
        let (bucket, prefix) = self.bucket();
        match self.system() {
            Some(System::File) | Some(System::Memory) | None => (String::new(), normal(&self.url)),
            Some(System::Azure) => {
                let (container, host) = bucket.split_once('@').unwrap_or((bucket, ""));
                let account = match host.split('.').next().filter(|name| !name.is_empty()) {
                    Some(account) => account.to_owned(),
                    None => option(&self.options.account_name),
                };
                (format!("azure:{account}/{container}"), prefix.into())
            }
            Some(System::S3) => {
                let endpoint = end(option(&self.options.endpoint));
                (format!("s3:{endpoint}/{bucket}"), prefix.into())
            }
            Some(System::Gcs) => (format!("gs:{bucket}"), prefix.into()),
            Some(System::Hdfs) => (format!("hdfs:{bucket}"), prefix.into()),
        }
    }
}

impl From<&str> for Location {
    fn from(url: &str) -> Location {
        Location::of(url)
    }
}

fn system(scheme: &str) -> Option<System> {
    Some(match scheme {
        "file" => System::File,
        "memory" | "memory+upload" => System::Memory,
        "s3" => System::S3,
        "gs" => System::Gcs,
        "az" | "abfss" => System::Azure,
        "hdfs" => System::Hdfs,
        _ => return None,
    })
}

fn normal(url: &str) -> PathBuf {
    let Some(path) = url.strip_prefix("file:") else {
        return url.into();
    };
    let path = match path.strip_prefix("///") {
        Some(rest) => PathBuf::from(format!("/{rest}")),
        None => std::path::absolute(path).unwrap_or_else(|_| path.into()),
    };
    let mut out = PathBuf::new();
    for part in Path::new(&path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

const EXPECTED: &str = "a store's URL: `file:data/raw_zone`, `file:///srv/lake/raw`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `abfss://container@account.dfs.core.windows.net/prefix`, `hdfs://nameservice/path` or `memory:name`";

/// One spelling for each store: `s3:` for `s3a:` and `s3n:`, `abfss:` for all that Hadoop calls Azure, no slash at the end.
pub fn canonical(text: &str) -> Parsed<String> {
    if text.is_empty() {
        return Err(refuse(problem::MISSING, EXPECTED));
    }
    let bad = || refuse(problem::BAD_URL, EXPECTED);
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(bad().hint(format!("for a directory write `file:{text}`")));
    };
    let rest = rest.trim_end_matches('/');
    match scheme {
        "file" | "memory" | "memory+upload" if rest.is_empty() => Err(bad()),
        "file" if rest.starts_with("//") && !rest.starts_with("///") => {
            let hint = "two slashes name a host; write three for an absolute path, none for a relative one";
            Err(bad().hint(hint))
        }
        "file" | "memory" | "memory+upload" => Ok(format!("{scheme}:{rest}")),
        "s3" | "s3a" | "s3n" => bucket("s3", rest),
        "gs" => bucket("gs", rest),
        "az" | "azure" => bucket("az", rest),
        "abfs" | "abfss" | "wasb" | "wasbs" => azure(rest),
        "hdfs" => hdfs(rest),
        "webhdfs" | "viewfs" => {
            Err(bad().hint("name the name node or its nameservice: `hdfs://nameservice/path`"))
        }
        "http" | "https" => Err(bad().hint(
            "name the bucket, and the service's address with `store.endpoint` beside the URL's key",
        )),
        _ => Err(bad()),
    }
}

/// `//bucket/prefix`.
fn bucket(scheme: &str, rest: &str) -> Parsed<String> {
    let bad = || refuse(problem::BAD_URL, EXPECTED);
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(bad().hint(format!("write two slashes: `{scheme}://bucket/prefix`")));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if bucket.contains(['@', ':']) {
        let hint = "credentials stand in keys of their own, never in a URL";
        return Err(bad().hint(hint));
    }
    if bucket.is_empty() || !bucket.chars().all(legal) {
        return Err(bad().hint("a bucket's name has letters, digits, `.`, `_` and `-`"));
    }
    below(prefix)?;
    Ok(format!("{scheme}://{rest}"))
}

/// `//container@account.host/prefix`; without an account as `az://`.
fn azure(rest: &str) -> Parsed<String> {
    let bad = || refuse(problem::BAD_URL, EXPECTED);
    let whole = rest.strip_prefix("//").ok_or_else(bad)?;
    let (authority, prefix) = whole.split_once('/').unwrap_or((whole, ""));
    let Some((container, host)) = authority.split_once('@') else {
        return bucket("az", rest);
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._$".contains(c);
    let named = |text: &str| !text.is_empty() && text.chars().all(legal);
    if !named(container) || !named(host) || !host.contains('.') {
        return Err(bad().hint("write `abfss://container@account.dfs.core.windows.net/prefix`"));
    }
    below(prefix)?;
    let host = host.replacen(".blob.", ".dfs.", 1);
    let slash = if prefix.is_empty() { "" } else { "/" };
    Ok(format!("abfss://{container}@{host}{slash}{prefix}"))
}

/// `//nameservice/path`; `///path` if Hadoop's own configuration names the name node.
fn hdfs(rest: &str) -> Parsed<String> {
    let bad = || refuse(problem::BAD_URL, EXPECTED);
    let whole = rest.strip_prefix("//").ok_or_else(bad)?;
    let (authority, path) = whole.split_once('/').unwrap_or((whole, ""));
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if !authority.chars().all(legal) {
        return Err(bad().hint("write `hdfs://nameservice/path` or `hdfs://host:port/path`"));
    }
    if authority.is_empty() && path.is_empty() {
        return Err(bad());
    }
    below(path)?;
    Ok(format!("hdfs://{whole}"))
}

/// Checks that every store and every reader understands the names between slashes in the same way.
fn below(prefix: &str) -> Parsed<()> {
    let bad = |hint: &str| Err(refuse(problem::BAD_URL, EXPECTED).hint(hint));
    if prefix.contains(['?', '#']) {
        return bad(
            "a store's URL ends before `?` and `#`; credentials stand in keys of their own",
        );
    }
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if !prefix.is_empty() && prefix.split('/').any(odd) {
        return bad("no empty part, `.` or `..` between the slashes");
    }
    match prefix.chars().any(|c| c.is_control() || c == '\\') {
        true => bad("no control characters and no `\\` in a path"),
        false => Ok(()),
    }
}

/// A refused URL, for a message: without parts that may be secret.
pub fn shown(typed: &str) -> String {
    let plain = typed.split(['?', '#']).next().unwrap_or_default();
    let cut = if plain.len() < typed.len() {
        "?…"
    } else {
        ""
    };
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            match authority.rsplit_once('@') {
                Some((login, host)) if login.contains(':') => {
                    format!("{scheme}://…@{host}{path}{cut}")
                }
                _ => format!("{plain}{cut}"),
            }
        }
        None => format!("{plain}{cut}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_store_has_one_spelling() {
        for (typed, means) in [
            ("file:data/raw/", "file:data/raw"),
            ("s3a://lake/raw/", "s3://lake/raw"),
            ("s3n://lake", "s3://lake"),
            ("gs://lake/a/b", "gs://lake/a/b"),
            ("az://box/raw", "az://box/raw"),
            ("abfs://box/raw", "az://box/raw"),
            (
                "wasbs://box@acc.blob.core.windows.net/raw/",
                "abfss://box@acc.dfs.core.windows.net/raw",
            ),
            (
                "abfss://box@acc.dfs.core.windows.net",
                "abfss://box@acc.dfs.core.windows.net",
            ),
            ("hdfs://ns/lake", "hdfs://ns/lake"),
            ("hdfs://nn:8020/lake", "hdfs://nn:8020/lake"),
            ("hdfs:///lake", "hdfs:///lake"),
        ] {
            assert_eq!(canonical(typed), Ok(means.to_owned()), "{typed}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_store_is_refused_with_the_way_out() {
        for (typed, says) in [
            ("data/raw", "file:data/raw"),
            ("s3:bucket", "two slashes"),
            ("s3://", "two slashes"),
            ("s3://key:secret@bucket/x", "keys of their own"),
            ("az://box/raw?sig=abc", "keys of their own"),
            ("s3://b/a//c", "empty part"),
            ("s3://b/../c", "empty part"),
            ("s3://b/a\\c", "control characters"),
            ("abfss://box@acc/raw", "dfs.core.windows.net"),
            ("https://b.s3.amazonaws.com/x", "store.endpoint"),
            ("webhdfs://nn/x", "hdfs://nameservice"),
        ] {
            let refusal = canonical(typed).expect_err(typed);
            let hint = refusal.hint.unwrap_or_default();
            assert!(hint.contains(says), "{typed}: {hint}");
        }
        assert!(canonical("ftp://x/y").is_err() && canonical("hdfs://").is_err());
    }

    #[test]
    fn a_message_shows_no_secret_of_a_url() {
        assert_eq!(shown("az://box/raw?sv=1&sig=abc"), "az://box/raw?…");
        assert_eq!(shown("s3://key:secret@b/x"), "s3://…@b/x");
        assert_eq!(
            shown("abfss://box@acc.dfs.core.windows.net/x"),
            "abfss://box@acc.dfs.core.windows.net/x"
        );
    }

    #[test]
    fn a_store_lies_below_another_one_by_its_real_path() {
        let dir = tempfile::tempdir().expect("dir");
        let at = |path: &str| format!("file:{}", dir.path().join(path).display());
        std::fs::create_dir_all(dir.path().join("in/deep")).expect("dir");
        std::os::unix::fs::symlink(dir.path().join("in"), dir.path().join("link")).expect("link");
        for (above, below, path) in [
            (at("in"), at("in"), Some("")),
            (at("in"), at("in/zone"), Some("zone")),
            (at("in"), at("link/zone"), Some("zone")),
            (at("link"), at("in/deep/../zone"), Some("zone")),
            (at("in"), at("inside"), None),
            (at("in/deep"), at("in"), None),
            ("s3://b/in".into(), "s3a://b/in/z/y".into(), Some("z/y")),
            ("s3://b".into(), "s3://b/in".into(), Some("in")),
            ("s3://b/in".into(), "s3://c/in/z".into(), None),
            ("s3://b/in".into(), "gs://b/in/z".into(), None),
            ("memory:a".into(), "memory:a".into(), Some("")),
            ("memory:a".into(), "memory:a/b".into(), None),
        ] {
            let found = Location::of(&above).path_to(&Location::of(&below));
            assert_eq!(found, path.map(PathBuf::from), "{above} {below}");
        }
    }

    #[test]
    fn the_highest_place_of_a_store_has_a_url() {
        for (url, top) in [
            ("s3://lake/raw/in", Some(("s3://lake", "raw/in"))),
            ("s3://lake", None),
            ("az://box/raw", Some(("az://box", "raw"))),
            (
                "abfss://box@acc.dfs.core.windows.net/a/b",
                Some(("abfss://box@acc.dfs.core.windows.net", "a/b")),
            ),
            ("hdfs://ns/a/b", Some(("hdfs://ns", "a/b"))),
            ("hdfs:///a/b/c", Some(("hdfs:///a", "b/c"))),
            ("hdfs:///a", None),
            ("file:data/raw", None),
            ("memory:a/b", None),
        ] {
            let found = Location::of(url).top();
            let found = found.map(|(top, path)| (top.url, path));
            let wanted = top.map(|(top, path)| (top.to_owned(), path.to_owned()));
            assert_eq!(found, wanted, "{url}");
            assert!(found.is_none_or(|(top, _)| canonical(&top).is_ok_and(|same| same == top)));
        }
    }

    #[test]
    fn one_store_has_many_urls() {
        let same = |a: &str, b: &str| Location::of(a).is_same(&Location::of(b));
        assert!(same("file:data/raw", "file:./data/x/../raw"));
        assert!(same("file:///a/b", "file:/a/./b"));
        assert!(!same("file:data/raw", "file:data/raw2"));
        assert!(!same("memory:data", "file:data"));
        assert!(same("s3a://b/x", "s3://b/x/"));
        assert!(!same("s3://b/x", "gs://b/x"));
        let mut az = Location::of("az://box/raw");
        az.options.account_name = Some("acc".to_owned());
        assert!(az.is_same(&Location::of("wasbs://box@acc.blob.core.windows.net/raw")));
        let mut other = Location::of("s3://b/x");
        other.options.endpoint = Some("http://localhost:1".to_owned());
        assert!(!other.is_same(&Location::of("s3://b/x")));
    }

    #[test]
    fn a_config_with_its_own_secret_does_not_use_the_machines() {
        let mut options = Options::default();
        for system in [System::S3, System::Gcs, System::Azure, System::Hdfs] {
            assert!(options.uses_machine_identity(system), "{system:?}");
        }
        assert!(!options.uses_machine_identity(System::File));
        options.secret_access_key = Some(Text::new("${env:S}"));
        assert!(!options.uses_machine_identity(System::S3));
        assert!(options.uses_machine_identity(System::Azure));
        options.endpoint = Some("http://x".to_owned());
        assert_eq!(options.elsewhere().as_deref(), Some("sink.store.endpoint"));
    }
}
