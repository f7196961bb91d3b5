//! Credentials that sign requests: from the config, or from this machine, where the tools of each cloud look for them.
//!
//! What signs requests itself (keys, a shared access signature) is read again after a minute, so that it can be renewed while
//! Weir runs. What stands for a token that ends (a role, a client's secret, a service account's file) is read again when it
//! gives none any more; a role's keys are kept until five minutes before their end. What the service calls expired is asked
//! for again within seconds. They are never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use super::connect::Watch;
use crate::config::Text;
use crate::config::text::machine;
use crate::error::{Error, Kind, Result};
use crate::fs::{self, Limit};
use crate::lock::lock;

/// How long credentials are used before they are read again.
const FRESH: Duration = Duration::from_secs(60);

/// How soon what the service calls expired, or what gave no credentials, is asked for again: its own clock may be ahead, or a
/// person still at work, so once may not be enough.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Time limit of a profile's own command: it may ask a server, but not a person.
const PROCESS_MAX: Duration = Duration::from_secs(60);
/// Most bytes that are read of its output; credentials have one or two thousand.
const PRINTED_MAX: u64 = 64 << 10;

const PROFILES: Limit = Limit {
    bytes: 1 << 20,
    of: "a file of profiles",
};

type Giving<'a, T> = Pin<Box<dyn Future<Output = object_store::Result<Arc<T>>> + Send + 'a>>;

/// There are no credentials: none were found, or their source no longer gives them.
#[derive(Debug)]
pub(super) struct NoCredentials {
    /// The places that were searched.
    looked: String,
    /// True: there were credentials before.
    had: bool,
    cause: String,
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "looked for credentials in {}: {}",
            self.looked, self.cause
        )
    }
}

impl std::error::Error for NoCredentials {}

impl NoCredentials {
    pub fn meaning(&self, keys: &str) -> (Kind, String, String) {
        match self.had {
            true => (
                Kind::StoreUnavailable,
                "the credentials for the store can no longer be had".to_owned(),
                format!("renew what {} holds; work goes on by itself", self.looked),
            ),
            false => (
                Kind::ConfigInvalid,
                "no credentials for the store were found".to_owned(),
                format!(
                    "set the keys below {keys} (docs/stores.md#credentials), or give this machine what its tools look for"
                ),
            ),
        }
    }

    fn into_error(self) -> object_store::Error {
        object_store::Error::Generic {
            store: "credentials",
            source: Box::new(self),
        }
    }
}

pub(super) type Provider<T> = Arc<dyn CredentialProvider<Credential = T>>;
type Make<T> = dyn Fn() -> Result<Provider<T>> + Send + Sync;

/// How long what a provider was made of can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It gives tokens, which have an end of their own, and renews them itself.
    Tokens,
    /// It gives what it was made of, whatever became of that: made again every minute.
    Itself,
}

/// Wraps another provider; its failure names the places that were searched. A provider keeps what it was made of and what it was
/// given; if the service calls that expired, or the provider has nothing to give, a new one takes its place.
pub(super) struct Named<T> {
    make: Box<Make<T>>,
    inner: Mutex<(Instant, Provider<T>)>,
    kept: Kept,
    watch: Arc<Watch>,
    looked: String,
    had: AtomicBool,
    /// The last request for credentials had none.
    failed: AtomicBool,
}

impl<T> Named<T> {
    pub fn new(
        kept: Kept,
        make: impl Fn() -> Result<Provider<T>> + Send + Sync + 'static,
        watch: &Arc<Watch>,
        looked: impl Into<String>,
    ) -> Result<Arc<Named<T>>> {
        let inner = Mutex::new((Instant::now(), make()?));
        Ok(Arc::new(Named {
            make: Box::new(make),
            inner,
            kept,
            watch: Arc::clone(watch),
            looked: looked.into(),
            had: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }))
    }

    fn is_old(&self, age: Duration) -> bool {
        let over = self.watch.has_expired() || self.failed.load(Ordering::Relaxed);
        (over && age >= RENEW_EVERY) || (self.kept == Kept::Itself && age >= FRESH)
    }

    fn current(&self) -> Provider<T> {
        let mut inner = lock(&self.inner);
        if self.is_old(inner.0.elapsed()) {
            // Files: connections go on meanwhile.
            match tokio::task::block_in_place(|| (self.make)()) {
                Ok(fresh) => {
                    inner.1 = fresh;
                    self.watch.set_expired(false);
                }
                // It was made before of the same, so this passes; and the old one may still do.
                Err(error) => tracing::debug!(%error, "credentials were not read again"),
            }
            inner.0 = Instant::now();
        }
        Arc::clone(&inner.1)
    }
}

impl<T> fmt::Debug for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Named").field(&self.looked).finish()
    }
}

impl<T: Send + Sync> CredentialProvider for Named<T> {
    type Credential = T;

    fn get_credential<'life0, 'async_trait>(&'life0 self) -> Giving<'async_trait, T>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let inner = self.current();
            match inner.get_credential().await {
                Ok(credential) => {
                    self.had.store(true, Ordering::Relaxed);
                    self.failed.store(false, Ordering::Relaxed);
                    Ok(credential)
                }
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    Err(NoCredentials {
                        looked: self.looked.clone(),
                        had: self.had.load(Ordering::Relaxed),
                        cause: super::answers::said(&error).to_string(),
                    }
                    .into_error())
                }
            }
        })
    }
}

/// AWS keys in a file that somebody may renew while Weir runs.
pub(super) struct Keys {
    source: Source,
    watch: Arc<Watch>,
    kept: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

#[derive(Debug)]
enum Source {
    Typed {
        id: Text,
        secret: Text,
        token: Option<Text>,
    },
    Profile(String),
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.source).finish()
    }
}

impl Keys {
    pub fn typed(id: &Text, secret: &Text, token: Option<&Text>, watch: &Arc<Watch>) -> Arc<Keys> {
        let (id, secret, token) = (id.clone(), secret.clone(), token.cloned());
        Keys::of(Source::Typed { id, secret, token }, watch)
    }

    pub fn profile(name: &str, watch: &Arc<Watch>) -> Arc<Keys> {
        Keys::of(Source::Profile(name.to_owned()), watch)
    }

    fn of(source: Source, watch: &Arc<Watch>) -> Arc<Keys> {
        Arc::new(Keys {
            source,
            watch: Arc::clone(watch),
            kept: Mutex::new(None),
        })
    }

    fn fresh(&self) -> Option<Arc<AwsCredential>> {
        let kept = lock(&self.kept);
        let (read, credential) = kept.as_ref()?;
        let most = if self.watch.has_expired() {
            RENEW_EVERY
        } else {
            FRESH
        };
        (read.elapsed() < most).then(|| credential.clone())
    }

    fn read(&self) -> Result<AwsCredential> {
        match &self.source {
            Source::Typed { id, secret, token } => Ok(AwsCredential {
                key_id: id.resolve()?.trim().to_owned(),
                secret_key: secret.resolve()?.trim().to_owned(),
                token: match token {
                    Some(token) => Some(token.resolve()?.trim().to_owned()),
                    None => None,
                },
            }),
            Source::Profile(name) => of_profile(name, &profile(name)),
        }
    }
}

impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    fn get_credential<'life0, 'async_trait>(&'life0 self) -> Giving<'async_trait, AwsCredential>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            if let Some(fresh) = self.fresh() {
                return Ok(fresh);
            }
            // Files, and perhaps a command: connections go on meanwhile.
            match tokio::task::block_in_place(|| self.read()) {
                Ok(credential) => {
                    self.watch.set_expired(false);
                    let credential = Arc::new(credential);
                    *lock(&self.kept) = Some((Instant::now(), credential.clone()));
                    Ok(credential)
                }
                Err(error) => {
                    let looked = match &self.source {
                        Source::Typed { .. } => "the config's keys".to_owned(),
                        Source::Profile(name) => format!("the profile {name}"),
                    };
                    let had = lock(&self.kept).is_some();
                    let cause = error.to_string();
                    Err(NoCredentials { looked, had, cause }.into_error())
                }
            }
        })
    }
}

// -------------------------------------------------------------------- profiles

type Section = BTreeMap<String, String>;

fn home(below: &str) -> Option<PathBuf> {
    Some(Path::new(&machine("HOME")?).join(below))
}

/// The settings of a profile in `~/.aws/config` and `~/.aws/credentials`; the latter file wins. Empty if neither has
/// the profile.
pub(super) fn profile(name: &str) -> Section {
    let file = |variable: &str, below: &str| match machine(variable) {
        Some(path) => Some(PathBuf::from(path)),
        None => home(below),
    };
    let config = file("AWS_CONFIG_FILE", ".aws/config");
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    let head = match name {
        "default" => "default".to_owned(),
        name => format!("profile {name}"),
    };
    let mut all = config.map(|path| section(&path, &head)).unwrap_or_default();
    all.extend(
        credentials
            .map(|path| section(&path, name))
            .unwrap_or_default(),
    );
    all
}

fn section(path: &Path, head: &str) -> Section {
    let text = fs::read_text(path, PROFILES).unwrap_or_default();
    let (mut inside, mut found) = (false, Section::new());
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = name.split_whitespace().eq(head.split_whitespace());
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// Whether a profile has any kind of credentials.
pub(super) fn signs(profile: &Section) -> bool {
    const WAYS: &[&str] = &[
        "aws_access_key_id",
        "credential_process",
        "role_arn",
        "sso_session",
        "sso_start_url",
    ];
    WAYS.iter().any(|key| profile.contains_key(*key))
}

fn of_profile(name: &str, found: &Section) -> Result<AwsCredential> {
    let bad = |message: String, hint: String| {
        Err(Error::new(Kind::ConfigInvalid, "store.credentials", message).hint(hint))
    };
    let of = |key: &str| found.get(key).cloned();
    if let (Some(key_id), Some(secret_key)) = (of("aws_access_key_id"), of("aws_secret_access_key"))
    {
        return Ok(AwsCredential {
            key_id,
            secret_key,
            token: of("aws_session_token"),
        });
    }
    if let Some(command) = of("credential_process") {
        return of_process(&command);
    }
    if signs(found) {
        return bad(
            format!(
                "the profile {name} signs by SSO or by a role, which this version does not do itself"
            ),
            format!(
                "let the AWS CLI do it: in a profile of its own, credential_process = aws configure export-credentials --profile {name} --format process"
            ),
        );
    }
    bad(
        format!("no profile {name} with keys in ~/.aws/credentials or ~/.aws/config"),
        "aws configure --profile NAME writes one".to_owned(),
    )
}

/// Reads credentials from a profile's own command. The command is trusted like the file that names it: both belong to
/// the operator.
fn of_process(command: &str) -> Result<AwsCredential> {
    let failed = |message: &str| {
        Error::new(
            Kind::StoreUnavailable,
            "store.credentials",
            message.to_owned(),
        )
        .hint("run the profile's credential_process by hand and look what it says")
    };
    let stdout = printed(command).map_err(failed)?;
    let unreadable = || failed("credential_process printed no credentials");
    let said: serde_json::Value = serde_json::from_slice(&stdout).map_err(|_| unreadable())?;
    let of = |key: &str| said.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    Ok(AwsCredential {
        key_id: of("AccessKeyId").ok_or_else(unreadable)?,
        secret_key: of("SecretAccessKey").ok_or_else(unreadable)?,
        token: of("SessionToken"),
    })
}

/// Runs a command of the operator for a limited time and returns its output; `Err` says what went wrong.
fn printed(command: &str) -> std::result::Result<Vec<u8>, &'static str> {
    const UNABLE: &str = "credential_process cannot be run";
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = shell.stderr(Stdio::null()).spawn().map_err(|_| UNABLE)?;
    let stdout = child.stdout.take().ok_or(UNABLE)?;
    // Processes that it started may hold the pipe open after its end, so the reader gets no more time than the command.
    let (all, read) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let done = stdout.take(PRINTED_MAX).read_to_end(&mut text);
        done.map_or(Ok(()), |_| all.send(text))
    });
    let printed = read.recv_timeout(PROCESS_MAX);
    let ended = match &printed {
        Ok(_) => child.wait(),
        Err(_) => child.kill().and_then(|()| child.wait()),
    };
    match (printed, ended) {
        (Ok(text), Ok(status)) if status.success() => Ok(text),
        (Ok(_), _) => Err("credential_process failed"),
        (Err(_), _) => Err("credential_process did not end in a minute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_as_the_tools_of_aws_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let text = "[default]\nregion=a\n[profile  dev]\n# no\nregion = eu-west-1\ncredential_process = printf '{}'\n[other]\nregion=b\n";
        std::fs::write(&path, text).unwrap();
        let dev = section(&path, "profile dev");
        assert_eq!(dev["region"], "eu-west-1");
        assert!(signs(&dev));
        assert_eq!(section(&path, "default")["region"], "a");
        assert!(section(&path, "none").is_empty());
        assert!(section(&dir.path().join("nowhere"), "default").is_empty());
    }

    #[test]
    fn a_profile_of_another_way_is_refused_with_the_way_out() {
        let of = |pairs: &[(&str, &str)]| -> Section {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let keys = of(&[("aws_access_key_id", "a"), ("aws_secret_access_key", "s")]);
        assert_eq!(of_profile("dev", &keys).unwrap().key_id, "a");
        for way in ["role_arn", "sso_session", "sso_start_url"] {
            let refused = of_profile("dev", &of(&[(way, "x")])).unwrap_err();
            assert_eq!(refused.kind(), Kind::ConfigInvalid);
            let hint = refused.hint_text().unwrap_or_default();
            assert!(
                hint.contains("export-credentials --profile dev"),
                "{way}: {hint}"
            );
        }
        let refused = of_profile("dev", &of(&[])).unwrap_err();
        assert!(refused.to_string().contains("no profile dev"), "{refused}");
    }

    #[test]
    fn a_process_gives_credentials_or_says_that_it_does_not() {
        let good = "printf '%s' '{\"Version\":1,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"hunter2\",\"SessionToken\":\"t\"}'";
        let credential = of_process(good).unwrap();
        assert_eq!(
            (credential.key_id.as_str(), credential.token.as_deref()),
            ("a", Some("t"))
        );
        for bad in ["exit 3", "echo hunter2", "printf '{}'"] {
            let refused = of_process(bad).unwrap_err();
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }

    fn counted(kept: Kept, watch: &Arc<Watch>) -> (Arc<Named<AwsCredential>>, Arc<Mutex<u32>>) {
        let made = Arc::new(Mutex::new(0));
        let count = Arc::clone(&made);
        let make = move || -> Result<Provider<AwsCredential>> {
            *lock(&count) += 1;
            Ok(Keys::profile("none", &Arc::default()))
        };
        (Named::new(kept, make, watch, "here").unwrap(), made)
    }

    #[test]
    fn what_the_service_calls_expired_is_made_again_but_not_at_every_request() {
        let watch = Arc::<Watch>::default();
        let (named, made) = counted(Kept::Tokens, &watch);
        let times = || {
            named.current();
            *lock(&made)
        };
        assert_eq!(times(), 1);
        watch.set_expired(true);
        assert_eq!(times(), 1, "it was made this moment");
        lock(&named.inner).0 -= RENEW_EVERY;
        assert_eq!((times(), times()), (2, 2));
        assert!(!watch.has_expired());
        lock(&named.inner).0 -= FRESH;
        assert_eq!(times(), 2, "its tokens end by themselves");
    }

    #[test]
    fn what_signs_itself_is_made_again_every_minute() {
        let (named, made) = counted(Kept::Itself, &Arc::default());
        named.current();
        assert_eq!(*lock(&made), 1);
        lock(&named.inner).0 -= FRESH;
        named.current();
        named.current();
        assert_eq!(*lock(&made), 2);
    }

    /// A secret that was replaced before its token ended: what was read at the start gives nothing for ever.
    #[test]
    fn a_provider_that_fails_is_made_again_of_what_is_there_now() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "old").unwrap();
        let at = file.clone();
        let make = move || -> Result<Provider<AwsCredential>> {
            let read = std::fs::read_to_string(&at).map_err(|e| {
                Error::new(Kind::ConfigInvalid, "store.credentials", "no file").source(e)
            })?;
            Ok(match read.as_str() {
                "old" => Keys::profile("none at all", &Arc::default()),
                fresh => Keys::typed(&"id".into(), &fresh.into(), None, &Arc::default()),
            })
        };
        let named = Named::new(Kept::Tokens, make, &Arc::default(), "here").unwrap();
        let asked = || super::super::wait(named.get_credential()).unwrap();
        assert!(asked().is_err());
        std::fs::write(&file, "new").unwrap();
        assert!(asked().is_err(), "not at every request");
        lock(&named.inner).0 -= RENEW_EVERY;
        assert_eq!(asked().unwrap().secret_key, "new");
        std::fs::remove_file(&file).unwrap();
        named.failed.store(true, Ordering::Relaxed);
        lock(&named.inner).0 -= RENEW_EVERY;
        assert_eq!(asked().unwrap().secret_key, "new");
    }

    #[test]
    fn what_is_shown_of_keys_is_the_reference() {
        let (id, secret) = (Text::new("${env:ID}"), Text::new("${env:SECRET}"));
        let shown = format!("{:?}", Keys::typed(&id, &secret, None, &Arc::default()));
        assert!(shown.contains("${env:SECRET}"), "{shown}");
    }
}
