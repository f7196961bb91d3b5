//! `sink.store.*`, `source.store.*` and `archive.store.*`: how a store is reached. One table for all; the URL decides which keys have a
//! meaning.

use super::check::Checker;
use super::keys::Default::{Derived, Is, Unset};
use super::keys::Group::Store;
use super::keys::Importance::{High, Low, Medium};
use super::keys::{Default, Importance, KeyDef, Scope};
use super::location::{Location, Options, Publish, Sse, System};
use super::problem;
use super::shape::unit::{DAY, HOUR, MINUTE, MS, SECOND, duration, int};
use super::shape::{Shape, Value};
use super::text::Text;

/// Most tags that S3 keeps with one object.
const TAGS_MAX: usize = 10;

use System::{Azure, Gcs, Hdfs, S3};
const OBJECTS: &[System] = &[S3, Gcs, Azure];
const ALL: &[System] = &[S3, Gcs, Azure, Hdfs];

const fn key(
    name: &'static str,
    scope: Scope,
    shape: Shape,
    default: Default,
    importance: Importance,
    doc: &'static str,
) -> KeyDef {
    KeyDef {
        name,
        shape,
        default,
        importance,
        group: Store,
        scope,
        doc,
    }
}

/// Each key below the prefix, with the stores for which it has a meaning.
macro_rules! store_keys {
    ($prefix:literal, $scope:expr; $($name:literal: $takes:expr, $shape:expr, $default:expr, $importance:expr, $doc:expr;)*) => {
        [$(key(concat!($prefix, $name), $scope, $shape, $default, $importance, $doc)),*]
    };
}

macro_rules! takes {
    ($prefix:literal, $scope:expr; $($name:literal: $takes:expr, $shape:expr, $default:expr, $importance:expr, $doc:expr;)*) => {
        &[$(($name, $takes)),*]
    };
}

macro_rules! table {
    ($with:ident, $prefix:literal, $scope:expr) => {
        $with! { $prefix, $scope;
            "endpoint": OBJECTS, Shape::Text, Unset, High,
                "Address of the service where it is not the provider's own: `https://minio.example:9000`. `http://` needs `allow.http`.";
            "region": &[S3], Shape::Text, Derived("`AWS_REGION`, `AWS_DEFAULT_REGION`, the profile, then `us-east-1`"), High,
                "Region of the bucket. An answer from another region is a stop that names the right one.";
            "path.style": &[S3], Shape::Flag, Derived("`true` where `endpoint` is set"), Low,
                "Bucket in the path of a request (`host/bucket/key`) and not in the host's name.";
            "allow.http": OBJECTS, Shape::Flag, Is("false"), Medium,
                "Speak without TLS where the endpoint says `http://`. What is sent can be read and changed on its way.";
            "anonymous": OBJECTS, Shape::Flag, Is("false"), Low,
                "Sign no request: for public buckets.";
            "access.key.id": &[S3], Shape::Text, Unset, High,
                "Id of an access key. With `secret.access.key`; without both, credentials are looked for where AWS's own tools look.";
            "secret.access.key": &[S3], Shape::Text, Unset, High,
                "Its secret, as a reference.";
            "session.token": &[S3], Shape::Text, Unset, Low,
                "Token of a temporary access key, as a reference.";
            "profile": &[S3], Shape::Text, Derived("`AWS_PROFILE`, then `default`"), Medium,
                "Profile of `~/.aws/config` and `~/.aws/credentials`.";
            "account.name": &[Azure], Shape::Text, Derived("the account in the URL, then `AZURE_STORAGE_ACCOUNT_NAME`"), High,
                "Storage account of an `az:` URL.";
            "account.key": &[Azure], Shape::Text, Unset, High,
                "Key of the account, as a reference.";
            "sas.token": &[Azure], Shape::Text, Unset, Medium,
                "Shared access signature with the rights to read, create, write, delete and list, as a reference.";
            "tenant.id": &[Azure], Shape::Text, Unset, Medium,
                "Tenant of a service principal.";
            "client.id": &[Azure], Shape::Text, Unset, Medium,
                "Id of a service principal, or of a managed identity that the machine has beside others.";
            "client.secret": &[Azure], Shape::Text, Unset, Medium,
                "Secret of a service principal, as a reference.";
            "credentials.file": &[Gcs], Shape::Path, Derived("`GOOGLE_APPLICATION_CREDENTIALS`, then the login of `gcloud`, then the machine's service account"), High,
                "JSON file of a service account.";
            "proxy": OBJECTS, Shape::Text, Derived("`HTTPS_PROXY`, `HTTP_PROXY` without TLS, `ALL_PROXY`; `NO_PROXY`"), Low,
                "URL of an HTTP proxy through which the service is reached.";
            "ca": OBJECTS, Shape::Path, Unset, Low,
                "PEM file of certificates that are trusted beside those of the system.";
            "sse.type": &[S3], Shape::Choice(&["none", "AES256", "aws:kms"]), Is("none"), Medium,
                "Encryption by the service, asked for with each file. `none`: as the bucket says.";
            "sse.kms.key": &[S3], Shape::Text, Unset, Medium,
                "Key of `aws:kms`. Not set: the account's own.";
            "storage.class": &[S3, Gcs], Shape::Text, Unset, Low,
                "Storage class of data files, by the service's own name: `STANDARD_IA`, `NEARLINE`. The log is always in the bucket's default class.";
            "tags": &[S3], Shape::Text, Unset, Low,
                "Tags of data files: `team=lake,cost=42`. At most 10.";
            "request.timeout": ALL, duration(100 * MS, HOUR), Is("30s"), Medium,
                "Longest time for one request and its answer. HDFS: of the name nodes.";
            "connect.timeout": OBJECTS, duration(10 * MS, 10 * MINUTE), Is("5s"), Low,
                "Longest time for a connection.";
            "retries": OBJECTS, int(0, 100), Is("5"), Low,
                "Tries of one request beside the first, where the service says that it is busy or does not answer. After them the pipeline pauses, says so, and tries again without end.";
            "retry.timeout": OBJECTS, duration(SECOND, HOUR), Is("60s"), Low,
                "Longest time for all tries of one request.";
            "lifetime": OBJECTS, duration(MINUTE, 366 * DAY), Is("24h"), Medium,
                "How long the service keeps an upload that is not completed. No commit adds a file that was begun longer ago than a quarter of it, and a committed file that is not visible after half of it is an alarm. AWS: the days of the bucket's rule for incomplete uploads, at least 7.";
            "hadoop.conf.dir": &[Hdfs], Shape::Path, Derived("`HADOOP_CONF_DIR`"), High,
                "Directory of `core-site.xml` and `hdfs-site.xml`.";
            "hadoop.user": &[Hdfs], Shape::Text, Derived("`HADOOP_USER_NAME`, then the user of the process"), Medium,
                "User without Kerberos; with it, on whose behalf (a proxy user).";
            "kerberos.principal": &[Hdfs], Shape::Text, Unset, Medium,
                "Principal of the keytab or of the ticket cache.";
            "kerberos.keytab": &[Hdfs], Shape::Path, Derived("`KRB5_CLIENT_KTNAME`"), Medium,
                "File of keys from which tickets are taken.";
            "kerberos.ticket.cache": &[Hdfs], Shape::Path, Derived("`KRB5CCNAME`"), Medium,
                "File of tickets that somebody else renews.";
        }
    };
}

const TAKES: &[(&str, &[System])] = table!(takes, "", Scope::Always);
/// Keys for the zone that is written.
pub const SINK: [KeyDef; TAKES.len()] = table!(store_keys, "sink.store.", Scope::Always);
/// Sources that read a store.
const READ: &[&str] = &["zone", "file"];
/// Keys for the store that is read.
pub const SOURCE: [KeyDef; TAKES.len()] = table!(store_keys, "source.store.", Scope::Sources(READ));

/// Keys for the store of an archive.
pub const ARCHIVE: [KeyDef; TAKES.len()] = table!(store_keys, "archive.store.", Scope::Always);

pub const PUBLISH: &str = "sink.publish";

pub const ARCHIVE_URL: &str = "archive.url";

/// `sink.url` → `sink.store.`
fn prefix(url: &str) -> &'static str {
    match url {
        "source.url" => "source.store.",
        ARCHIVE_URL => "archive.store.",
        _ => "sink.store.",
    }
}

/// The store that a URL's key and its other keys name. `None` only if a problem was reported.
pub fn location(checker: &Checker<'_>, url_key: &str) -> Option<Location> {
    let url = checker.text(url_key)?;
    let keys = prefix(url_key);
    let at = |name: &str| format!("{keys}{name}");
    let text = |name: &str| checker.text(&at(name));
    // If it is not typed, nothing can be secret.
    let raw = |name: &str| -> Option<Text> {
        let entry = checker.raw.get(&at(name))?;
        Some(entry.value.clone())
    };
    let flag = |name: &str| match checker.value(&at(name)) {
        Some(Value::Flag(flag)) => Some(flag),
        _ => None,
    };
    let time = |name: &str| checker.duration(&at(name));
    let plain = Options::default();
    let options = Options {
        keys,
        endpoint: text("endpoint").map(|url| url.trim_end_matches('/').to_owned()),
        region: text("region"),
        path_style: flag("path.style"),
        allow_http: flag("allow.http").unwrap_or_default(),
        anonymous: flag("anonymous").unwrap_or_default(),
        access_key_id: raw("access.key.id"),
        secret_access_key: raw("secret.access.key"),
        session_token: raw("session.token"),
        profile: text("profile"),
        account_name: text("account.name"),
        account_key: raw("account.key"),
        sas_token: raw("sas.token"),
        tenant_id: text("tenant.id"),
        client_id: text("client.id"),
        client_secret: raw("client.secret"),
        credentials_file: raw("credentials.file"),
        proxy: raw("proxy"),
        ca: raw("ca"),
        sse: match text("sse.type").as_deref() {
            Some("AES256") => Sse::Aes256,
            Some("aws:kms") => Sse::Kms,
            _ => Sse::None,
        },
        sse_kms_key: text("sse.kms.key"),
        storage_class: text("storage.class"),
        tags: tags(&text("tags").unwrap_or_default()).unwrap_or_default(),
        request_timeout: time("request.timeout").unwrap_or(plain.request_timeout),
        connect_timeout: time("connect.timeout").unwrap_or(plain.connect_timeout),
        retries: checker.size(&at("retries")).unwrap_or(plain.retries),
        retry_timeout: time("retry.timeout").unwrap_or(plain.retry_timeout),
        lifetime: time("lifetime").unwrap_or(plain.lifetime),
        publish: match checker.text(PUBLISH).as_deref() {
            Some("copy") if url_key == "sink.url" => Publish::Copy,
            _ => Publish::Complete,
        },
        hadoop_conf_dir: raw("hadoop.conf.dir"),
        hadoop_user: text("hadoop.user"),
        kerberos_principal: text("kerberos.principal"),
        kerberos_keytab: raw("kerberos.keytab"),
        kerberos_ticket_cache: raw("kerberos.ticket.cache"),
    };
    Some(Location { url, options })
}

/// `a=b,c=d`; empty for nothing.
fn tags(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut out: Vec<(String, String)> = Vec::new();
    for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
        let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
        let (name, value) = (name.trim(), value.trim());
        let legal = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
        if name.is_empty() || name.len() > 128 || value.len() > 256 {
            return Err(
                "a tag is `name=value`, the name of 1 to 128 bytes, the value of at most 256"
                    .to_owned(),
            );
        }
        if !name.chars().chain(value.chars()).all(legal) {
            return Err("tags have letters, digits, spaces and + - = . _ : / @".to_owned());
        }
        if out.iter().any(|(known, _)| known == name) {
            return Err(format!("the tag `{name}` stands there twice"));
        }
        if out.len() == TAGS_MAX {
            return Err(format!("an object has at most {TAGS_MAX} tags"));
        }
        out.push((name.to_owned(), value.to_owned()));
    }
    Ok(out)
}

/// Without `archive.url`, keys of its store have no meaning. The archive is no part of the zone, nor the zone of it.
pub fn check_archive(checker: &mut Checker<'_>) {
    if checker.typed(ARCHIVE_URL) {
        check(checker, ARCHIVE_URL);
    } else {
        for (name, _) in TAKES {
            let key = format!("archive.store.{name}");
            if checker.typed(&key) {
                let message = format!("`{key}` without `{ARCHIVE_URL}` reaches nothing");
                let hint = "set archive.url, or take the key out";
                checker.contradiction(&key, message, hint);
            }
        }
    }
    let (archive, zone) = (
        location(checker, ARCHIVE_URL),
        location(checker, "sink.url"),
    );
    if let (Some(archive), Some(zone)) = (archive, zone)
        && (zone.path_to(&archive).is_some() || archive.path_to(&zone).is_some())
    {
        let message = format!(
            "`{ARCHIVE_URL}`: an archive lies neither in the zone of `sink.url` nor around it: files that leave the zone would stay in it"
        );
        let hint = "name a directory or a prefix beside the zone";
        checker.contradiction(ARCHIVE_URL, message, hint);
    }
}

/// Checks for keys that have no meaning for the URL, and keys against each other.
pub fn check(checker: &mut Checker<'_>, url_key: &str) {
    let Some(location) = location(checker, url_key) else {
        return;
    };
    let Some(system) = location.system() else {
        return;
    };
    let keys = prefix(url_key);
    for (name, takes) in TAKES {
        let key = format!("{keys}{name}");
        if checker.typed(&key) && !takes.contains(&system) {
            not_here(checker, &key, url_key, takes, system);
        }
    }
    if url_key == "sink.url" && checker.typed(PUBLISH) {
        let copies = location.options.publish == Publish::Copy;
        let takes = if copies { &[S3] } else { OBJECTS };
        if !takes.contains(&system) {
            not_here(checker, PUBLISH, url_key, takes, system);
        }
        if copies && checker.typed("sink.store.storage.class") {
            let message =
                "`sink.store.storage.class`: a copy is made in the bucket's own class".to_owned();
            let hint = "take it out, or write sink.publish = \"complete\"";
            checker.contradiction("sink.store.storage.class", message, hint);
        }
    }
    address(checker, keys, &location.options);
    credentials(checker, keys, system);
    let at = |name: &str| format!("{keys}{name}");
    if let Some(text) = checker.text(&at("tags"))
        && let Err(why) = tags(&text)
    {
        let message = format!("`{}`: {why}", at("tags"));
        checker.problem(&at("tags"), problem::WRONG_TYPE, message);
    }
    if location.options.sse_kms_key.is_some() && location.options.sse != Sse::Kms {
        let message = format!(
            "`{}` without `{}` = aws:kms encrypts nothing",
            at("sse.kms.key"),
            at("sse.type")
        );
        let hint = format!("write {} = \"aws:kms\"", at("sse.type"));
        checker.contradiction(&at("sse.kms.key"), message, &hint);
    }
}

fn not_here(checker: &mut Checker<'_>, key: &str, url_key: &str, takes: &[System], is: System) {
    let names: Vec<&str> = takes.iter().map(|system| system.name()).collect();
    let message = format!(
        "`{key}` is for {}; `{url_key}` names {}",
        names.join(" and "),
        is.name()
    );
    checker.problem(key, problem::DOES_NOT_APPLY, message).hint =
        Some("take the key out".to_owned());
}

fn address(checker: &mut Checker<'_>, keys: &str, options: &Options) {
    let key = format!("{keys}endpoint");
    let Some(endpoint) = &options.endpoint else {
        return;
    };
    let place = match endpoint.split_once("://") {
        Some(("https", place)) => place,
        Some(("http", place)) => {
            if !options.allow_http {
                let message =
                    format!("`{key}` speaks without TLS, and `{keys}allow.http` does not allow it");
                let hint = format!(
                    "write https://, or {keys}allow.http = true on a network that you trust"
                );
                checker.contradiction(&key, message, &hint);
            }
            place
        }
        _ => "",
    };
    if place.is_empty() || place.contains(['@', '?', '#']) || place.contains(char::is_whitespace) {
        let message = format!(
            "`{key}`: expected `https://host:port` or `http://host:port`, without credentials"
        );
        checker.problem(&key, problem::BAD_URL, message);
        return;
    }
    let place = place.to_owned();
    unfit(checker, &key, &place);
}

/// Services that are known not to refuse a second writer of one name, by the end of their hosts' names. The start
/// probes every store (O9). This finds services that ignore the condition, but not those that have a race.
pub const UNFIT: &[(&str, &str)] = &[
    (
        "backblazeb2.com",
        "Backblaze does not know put-if-absent (If-None-Match)",
    ),
    (
        "aliyuncs.com",
        "Alibaba Cloud OSS has put-if-absent under a header of its own only",
    ),
    (
        "myqcloud.com",
        "Tencent COS has put-if-absent under a header of its own only",
    ),
];

fn unfit(checker: &mut Checker<'_>, key: &str, place: &str) {
    let host = place
        .split(['/', ':'])
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let ends = |end: &str| host == end || host.ends_with(&format!(".{end}"));
    if let Some((_, why)) = UNFIT.iter().find(|(end, _)| ends(end)) {
        let message =
            format!("`{key}`: {why}, so two writers could both believe that they committed");
        checker.problem(key, problem::CONTRADICTION, message).hint =
            Some("use a service that docs/stores.md names as fit".to_owned());
    }
}

fn credentials(checker: &mut Checker<'_>, keys: &str, system: System) {
    let at = |name: &str| format!("{keys}{name}");
    let (pairs, sets): (&[(&str, &str)], &[&str]) = match system {
        S3 => (
            &[
                ("access.key.id", "secret.access.key"),
                ("secret.access.key", "access.key.id"),
                ("session.token", "secret.access.key"),
            ],
            &["access.key.id", "profile"],
        ),
        Azure => (
            &[
                ("client.secret", "client.id"),
                ("client.secret", "tenant.id"),
                ("tenant.id", "client.id"),
            ],
            &["account.key", "sas.token", "client.secret"],
        ),
        Gcs => (&[], &["credentials.file"]),
        _ => return,
    };
    for (one, other) in pairs {
        if checker.typed(&at(one)) && !checker.typed(&at(other)) {
            let message = format!("`{}` needs `{}`", at(one), at(other));
            checker.contradiction(&at(one), message, &format!("set {}", at(other)));
        }
    }
    let mut given: Vec<String> = sets
        .iter()
        .map(|name| at(name))
        .filter(|key| checker.typed(key))
        .collect();
    if checker.is(&at("anonymous"), "true") == Some(true) {
        given.push(at("anonymous"));
    }
    if let [first, second, ..] = given.as_slice() {
        let message = format!("`{first}` and `{second}` are two ways to sign, and one is used");
        checker.contradiction(second, message, "take one of them out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_pairs() {
        let ok = tags("team=lake, cost=4 2").expect("tags");
        assert_eq!(ok[1], ("cost".to_owned(), "4 2".to_owned()));
        for bad in ["=x", "a=b,a=c", "a=\u{1}", "a,b,c,d,e,f,g,h,i,j,k"] {
            assert!(tags(bad).is_err(), "{bad}");
        }
    }
}
