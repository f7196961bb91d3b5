//! What a service's refusal means: either it passes by itself, or the pipeline stops and the message says what a person
//! has to do.
//!
//! Messages contain nothing of the request, only what the service answered: its status, its code, the first words of
//! its message. Addresses with signatures, headers and bodies are left out.

use std::fmt;

use object_store::client::{HttpError, HttpErrorKind};

use super::connect::Watch;
use super::credentials::NoCredentials;
use crate::config::Options;
use crate::error::Kind;

/// A service's message is cut to this many characters.
const MESSAGE_MAX: usize = 200;

/// The service's own words, safe to show.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub status: Option<u16>,
    pub code: Option<String>,
    message: Option<String>,
    /// Why no answer came.
    transport: Option<String>,
    /// What signed the request is over, by the code or by the service's detail.
    expired: bool,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(transport) = &self.transport {
            return f.write_str(transport);
        }
        f.write_str("the service said")?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if self.status.is_none() && self.code.is_none() {
            f.write_str(" nothing that could be read")?;
        }
        Ok(())
    }
}

impl std::error::Error for Said {}

type Cause<'a> = &'a (dyn std::error::Error + 'static);

fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |e| e.source())
}

pub(super) fn said(error: &object_store::Error) -> Said {
    // The last errors of the chain repeat each other; the longest one contains the body.
    let mut text = String::new();
    for cause in causes(error) {
        let told = cause.to_string();
        if told.len() > text.len() {
            text = told;
        }
    }
    let transport = causes(error).find_map(|cause| cause.downcast_ref::<HttpError>());
    let missing = causes(error).find_map(|cause| cause.downcast_ref::<NoCredentials>());
    if let Some(missing) = missing {
        return Said {
            transport: Some(missing.to_string()),
            ..Said::default()
        };
    }
    let code = element(&text, "Code").or_else(|| element(&text, "code"));
    let expired = |code: &String| EXPIRED.contains(&code.as_str()) || text.contains(OUT_OF_TIME);
    Said {
        status: status(&text),
        expired: code.as_ref().is_some_and(expired),
        code,
        message: element(&text, "Message").map(|message| first_words(&message)),
        transport: transport.map(broken),
    }
}

pub(super) fn lacks_bucket(error: &object_store::Error) -> bool {
    said(error)
        .code
        .is_some_and(|code| NO_BUCKET.contains(&code.as_str()))
}

/// What signs is over, says the service.
pub(super) fn is_expired(error: &object_store::Error) -> bool {
    said(error).expired
}

/// A refusal of who asks, without the code that says why: services answer a HEAD like this.
pub(super) fn gives_no_reason(error: &object_store::Error) -> bool {
    let said = said(error);
    said.code.is_none() && matches!(said.status, Some(400 | 401 | 403))
}

/// The object is shorter than the range.
pub(super) fn lacks_bytes(error: &object_store::Error) -> bool {
    said(error).status == Some(416)
}

/// No connection was made, so nothing was sent.
pub(super) fn never_sent(error: &object_store::Error) -> bool {
    let transport = causes(error).find_map(|cause| cause.downcast_ref::<HttpError>());
    transport.is_some_and(|transport| transport.kind() == HttpErrorKind::Connect)
}

/// How a connection failed, down to its deepest cause. Addresses are removed.
fn broken(error: &HttpError) -> String {
    let deepest = causes(error)
        .last()
        .map_or_else(String::new, |e| e.to_string());
    let what = match error.kind() {
        HttpErrorKind::Connect => "no connection",
        HttpErrorKind::Timeout => "no answer in time",
        HttpErrorKind::Request | HttpErrorKind::Interrupted => "the connection broke",
        HttpErrorKind::Decode => "an answer that could not be read",
        _ => "the request failed",
    };
    format!("{what}: {}", first_words(&deepest))
}

fn status(text: &str) -> Option<u16> {
    let marks = ["status code: ", "error status: "];
    let found = marks.iter().find_map(|mark| text.split_once(mark));
    let digits = found?.1.get(..3)?;
    digits.parse().ok()
}

/// `<name>text</name>`, where the text is plain.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once('<')?;
    (!inside.is_empty()).then(|| plain(inside))
}

/// Replaces XML's character references by the characters.
fn plain(text: &str) -> String {
    const WRITTEN: &[(&str, &str)] = &[
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&apos;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    let mut plain = text.to_owned();
    for (written, means) in WRITTEN {
        plain = plain.replace(written, means);
    }
    plain
}

/// One line, bounded, without anything that looks like part of a signed address or of a string that was signed.
fn first_words(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let marks = [
        "?",
        "sig=",
        "Signature",
        "String to sign",
        "http://",
        "https://",
    ];
    let end = marks.iter().filter_map(|mark| line.find(mark)).min();
    let plain: String = line[..end.unwrap_or(line.len())]
        .chars()
        .filter(|c| !c.is_control())
        .take(MESSAGE_MAX)
        .collect();
    plain.trim().to_owned()
}

/// One meaning, and the codes or the status by which services express it.
struct Meaning {
    codes: &'static [&'static str],
    statuses: &'static [u16],
    kind: Kind,
    what: &'static str,
    hint: fn(&Scene<'_>) -> String,
}

/// The first row with the code counts, otherwise the first with the status.
const MEANINGS: &[Meaning] = &[
    Meaning {
        codes: &["RequestTimeTooSkewed", "RequestInTheFuture"],
        statuses: &[],
        kind: Kind::StoreUnavailable,
        what: "the clock of this machine and that of the store differ too much for requests to be taken",
        hint: |scene| {
            let skew = scene.watch.skew_told();
            format!("set the clock of this machine{skew}; {GOES_ON}")
        },
    },
    Meaning {
        codes: EXPIRED,
        statuses: &[],
        kind: Kind::StoreUnavailable,
        what: "the credentials for the store have expired",
        hint: |scene| {
            format!(
                "renew {}; they are read again every few seconds, and {GOES_ON}",
                scene.signer
            )
        },
    },
    Meaning {
        codes: &[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "AuthenticationFailed",
            "InvalidToken",
            "InvalidSecurity",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            // Sent by versitygw, with status 404.
            "XAdminUserNotFound",
        ],
        statuses: &[],
        kind: Kind::ConfigInvalid,
        what: "the store does not know these credentials",
        hint: |scene| format!("check {}", scene.signer),
    },
    Meaning {
        codes: NO_BUCKET,
        statuses: &[],
        kind: Kind::ConfigInvalid,
        what: "the bucket or container is not there",
        hint: |_| "create it, or name another; Weir makes none".to_owned(),
    },
    Meaning {
        codes: &[
            "QuotaExceeded",
            "XMinioStorageFull",
            "XMinioAdminBucketQuotaExceeded",
            "InsufficientStorage",
            "AccountLimitExceeded",
        ],
        statuses: &[507],
        kind: Kind::StoreUnavailable,
        what: "the store is full",
        hint: |_| format!("free space or raise its quota; {GOES_ON}"),
    },
    Meaning {
        codes: &[
            "NotImplemented",
            "MethodNotAllowed",
            "UnsupportedHeader",
            "UnsupportedHttpVerb",
        ],
        statuses: &[405, 501],
        kind: Kind::ConfigInvalid,
        what: "the service does not know a request that a zone needs",
        hint: |_| "docs/stores.md names the requests, and services that lack them".to_owned(),
    },
    Meaning {
        codes: &[
            "AccessDenied",
            "AllAccessDisabled",
            "AccountProblem",
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "AuthorizationProtocolMismatch",
            "InsufficientAccountPermissions",
            "KeyBasedAuthenticationNotPermitted",
            "PublicAccessNotPermitted",
        ],
        statuses: &[401, 403],
        kind: Kind::ConfigInvalid,
        what: "not allowed to do this in the store",
        hint: |scene| {
            format!(
                "give {} the rights to list, read, write and delete below the zone's root; docs/stores.md has the policy",
                scene.signer
            )
        },
    },
    Meaning {
        codes: &[
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "ServiceUnavailable",
            "ServerBusy",
            "OperationTimedOut",
            "RequestTimeout",
            "TooManyRequests",
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "rateLimitExceeded",
        ],
        statuses: &[408, 429, 503],
        kind: Kind::StoreUnavailable,
        what: "the store is busy and asks for fewer requests",
        hint: |_| {
            format!(
                "{GOES_ON}; fewer tasks or larger files (sink.rotate.bytes) make fewer requests"
            )
        },
    },
    Meaning {
        codes: &["NoSuchKey", "BlobNotFound"],
        statuses: &[404],
        kind: Kind::StoreUnavailable,
        what: "there is no such file in the store",
        hint: |_| "somebody else may have removed it; it is looked for again".to_owned(),
    },
    Meaning {
        codes: &[],
        statuses: &[407],
        kind: Kind::ConfigInvalid,
        what: NO_LOGIN,
        hint: |scene| login(scene.options.keys),
    },
    Meaning {
        codes: &["InternalError"],
        statuses: &[],
        kind: Kind::StoreUnavailable,
        what: "the store failed to do it",
        hint: |_| format!("{GOES_ON}; look at the state of the service if it lasts"),
    },
];

const EXPIRED_TOKEN: &str = "ExpiredToken";
const EXPIRED: &[&str] = &[
    EXPIRED_TOKEN,
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "RequestExpired",
    "InvalidAuthenticationInfo",
];
/// Azure's detail where the time of a shared access signature is over; its code is `AuthenticationFailed`, as for a wrong one.
const OUT_OF_TIME: &str = "not valid in the specified time frame";
const NO_LOGIN: &str = "the proxy asks for a login, and does not know this one";

fn login(keys: &str) -> String {
    format!("write it into {keys}proxy, or HTTPS_PROXY: http://user:password@host:port")
}

const GOES_ON: &str = "work goes on by itself";
const NO_BUCKET: &[&str] = &[
    "NoSuchBucket",
    "ContainerNotFound",
    "ContainerBeingDeleted",
    "InvalidBucketName",
];
const ELSEWHERE: &[&str] = &[
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
];

/// Where requests go and how they are signed, for the text of remedies.
pub(super) struct Scene<'a> {
    pub options: &'a Options,
    pub watch: &'a Watch,
    /// What the credentials are, in words.
    pub signer: &'a str,
}

/// The error's kind, what it means, and what to do.
pub(super) fn meaning(error: &object_store::Error, scene: &Scene<'_>) -> (Kind, String, String) {
    if let Some(missing) = causes(error).find_map(|c| c.downcast_ref::<NoCredentials>()) {
        return missing.meaning(scene.options.keys);
    }
    let said = said(error);
    if said.transport.is_some() && said.status.is_none() && said.code.is_none() {
        return of_transport(&said, scene);
    }
    let code = match said.expired {
        true => EXPIRED_TOKEN,
        false => said.code.as_deref().unwrap_or_default(),
    };
    let moved = matches!(said.status, Some(301 | 307 | 308)) || bare_redirect(error);
    if moved || ELSEWHERE.contains(&code) {
        return elsewhere(error, scene);
    }
    let keys = scene.options.keys;
    if code.starts_with("KMS.") {
        let hint = format!(
            "check {keys}sse.kms.key, and the rights of {} on it",
            scene.signer
        );
        return (
            Kind::ConfigInvalid,
            "the store cannot use the encryption key".to_owned(),
            hint,
        );
    }
    let by_code = MEANINGS.iter().find(|m| m.codes.contains(&code));
    let by_status = |status: u16| MEANINGS.iter().find(|m| m.statuses.contains(&status));
    let found = by_code.or_else(|| by_status(said.status?));
    if let Some(found) = found {
        return (found.kind, found.what.to_owned(), (found.hint)(scene));
    }
    match said.status {
        Some(200..=299 | 500..=599) => (
            Kind::StoreUnavailable,
            "the store failed to do it".to_owned(),
            format!("{GOES_ON}; look at the state of the service if it lasts"),
        ),
        Some(_) => (
            Kind::StoreFailed,
            "the store refuses this, and will not do it later either".to_owned(),
            "the cause below is the service's own word for it; what is committed is safe"
                .to_owned(),
        ),
        // An unknown answer may come from a proxy in between and pass by itself.
        None => (
            Kind::StoreUnavailable,
            "the store cannot do it now".to_owned(),
            format!("{GOES_ON} if it passes; check {keys}endpoint if it lasts"),
        ),
    }
}

fn bare_redirect(error: &object_store::Error) -> bool {
    causes(error).any(|cause| {
        cause
            .to_string()
            .contains("Received redirect without LOCATION")
    })
}

fn elsewhere(error: &object_store::Error, scene: &Scene<'_>) -> (Kind, String, String) {
    let body = causes(error).find_map(|cause| element(&cause.to_string(), "Region"));
    let key = format!("{}region", scene.options.keys);
    let (what, hint) = match body.or_else(|| scene.watch.region()) {
        Some(region) => (
            format!("the bucket is in the region {region}"),
            format!("set {key} = \"{region}\""),
        ),
        None => (
            "the bucket is in another region".to_owned(),
            format!("set {key} to the bucket's region"),
        ),
    };
    (Kind::ConfigInvalid, what, hint)
}

fn of_transport(said: &Said, scene: &Scene<'_>) -> (Kind, String, String) {
    let text = said.to_string();
    let keys = scene.options.keys;
    if text.contains("wrong version number") {
        return (
            Kind::ConfigInvalid,
            "the store does not speak TLS at this address".to_owned(),
            format!(
                "write {keys}endpoint = \"http://…\" with {keys}allow.http = true, or the address that speaks TLS"
            ),
        );
    }
    if text.contains("certificate") {
        return (
            Kind::ConfigInvalid,
            "the store's certificate is not trusted".to_owned(),
            format!("name the authority's certificate with {keys}ca, or correct {keys}endpoint"),
        );
    }
    if text.contains("proxy authorization required") {
        return (Kind::ConfigInvalid, NO_LOGIN.to_owned(), login(keys));
    }
    (
        Kind::StoreUnavailable,
        "the store does not answer".to_owned(),
        format!(
            "work goes on by itself when it does; check {keys}endpoint, the network and the proxy if it lasts"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: format!(
                "Error performing PUT https://b.example/x?X-Amz-Signature=hunter2 in 1s - Server returned non-2xx status code: {status}: {body}"
            )
            .into(),
        }
    }

    fn xml(code: &str, message: &str) -> String {
        format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")
    }

    fn of(error: &object_store::Error) -> (Kind, String, String) {
        let (options, watch) = (Options::default(), Watch::default());
        let scene = Scene {
            options: &options,
            watch: &watch,
            signer: "sink.store.access.key.id",
        };
        meaning(error, &scene)
    }

    #[test]
    fn each_refusal_is_a_named_wait_or_a_named_stop() {
        let (wait, stop, failed) = (
            Kind::StoreUnavailable,
            Kind::ConfigInvalid,
            Kind::StoreFailed,
        );
        for (status, code, kind, says) in [
            ("403 Forbidden", "RequestTimeTooSkewed", wait, "clock"),
            ("400 Bad Request", "ExpiredToken", wait, "expired"),
            ("503 Slow Down", "SlowDown", wait, "busy"),
            ("429 Too Many Requests", "", wait, "busy"),
            ("500 Internal", "InternalError", wait, "failed to do it"),
            (
                "507 Insufficient Storage",
                "XMinioStorageFull",
                wait,
                "full",
            ),
            ("403 Forbidden", "AccessDenied", stop, "not allowed"),
            ("403 Forbidden", "", stop, "not allowed"),
            ("403 Forbidden", "InvalidAccessKeyId", stop, "credentials"),
            ("404 Not Found", "XAdminUserNotFound", stop, "credentials"),
            ("404 Not Found", "NoSuchBucket", stop, "bucket or container"),
            (
                "404 Not Found",
                "ContainerNotFound",
                stop,
                "bucket or container",
            ),
            ("301 Moved", "PermanentRedirect", stop, "region"),
            (
                "501 Not Implemented",
                "NotImplemented",
                stop,
                "does not know",
            ),
            (
                "400 Bad Request",
                "KMS.DisabledException",
                stop,
                "encryption key",
            ),
            ("400 Bad Request", "InvalidArgument", failed, "refuses"),
        ] {
            let (found, what, _) = of(&answer(status, &xml(code, "m")));
            assert_eq!(found, kind, "{status} {code}: {what}");
            assert!(what.contains(says), "{status} {code}: {what}");
        }
        let moved =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        let (_, what, hint) = of(&answer("400 Bad Request", moved));
        assert!(
            what.contains("eu-west-1") && hint.contains("sink.store.region"),
            "{what} {hint}"
        );
    }

    #[test]
    fn a_signature_whose_time_is_over_waits_for_a_new_one() {
        let detail = "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.</Message>\
            <AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [a] - Expiry [b] - Current [c]</AuthenticationErrorDetail></Error>";
        let over = answer("403 Forbidden", detail);
        assert!(is_expired(&over));
        assert_eq!(of(&over).0, Kind::StoreUnavailable);
        let wrong = answer("403 Forbidden", &xml("AuthenticationFailed", "m"));
        assert!(!is_expired(&wrong));
        assert_eq!(of(&wrong).0, Kind::ConfigInvalid);
    }

    #[test]
    fn a_refusal_without_a_reason_is_told_from_one_with() {
        for (status, body, bare) in [
            ("400 Bad Request", String::new(), true),
            ("401 Unauthorized", String::new(), true),
            ("403 Forbidden", String::new(), true),
            ("403 Forbidden", xml("AccessDenied", "m"), false),
            ("404 Not Found", String::new(), false),
            ("503 Slow Down", String::new(), false),
        ] {
            assert_eq!(
                gives_no_reason(&answer(status, &body)),
                bare,
                "{status} {body}"
            );
        }
        assert!(lacks_bytes(&answer("416 Range Not Satisfiable", "")));
    }

    #[test]
    fn no_address_and_no_signature_is_told() {
        let leaky = xml(
            "SignatureDoesNotMatch",
            "Server failed. String to sign was hunter2 https://b/x?sig=hunter2",
        );
        let told = said(&answer("403 Forbidden", &leaky)).to_string();
        assert_eq!(
            told,
            "the service said 403 SignatureDoesNotMatch: Server failed."
        );
        let page = "<html>hunter2</html>";
        let told = said(&answer("502 Bad Gateway", page)).to_string();
        assert_eq!(told, "the service said 502");
    }
}
