//! Messages to a URL that an operator chose, beside everything else: whoever sends one never waits for it.
//!
//! A message is tried a few times and then lost. Of those that are lost the first is said, and how many there were when the
//! receiver takes them again. The URL may hold a secret (many receivers are such), so no message names more than its host.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::runtime::Runtime;

use crate::config::worker::WebhookConfig;
use crate::error::{Error, Kind, Result};

const OP: &str = "webhook";
/// Messages that wait: with 50 pipelines that commit each second, those of five seconds. They hold less than 1 MiB.
const WAITING: usize = 256;
/// How often one message is tried, and the wait before the second time; it doubles.
const TRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// One try, from the connection to the end of the answer's head.
const TIMEOUT: Duration = Duration::from_secs(5);
/// When the process ends, messages that wait have so long.
const LAST: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// Ends with the last message, or after [`LAST`], when it is dropped.
pub struct Poster {
    /// `None` only while it is dropped.
    queue: Option<Sender<String>>,
    counts: Arc<Counts>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Tried in vain.
    failed: AtomicU64,
    /// Too many were waiting.
    dropped: AtomicU64,
}

struct Courier {
    config: WebhookConfig,
    client: Client,
    runtime: Runtime,
    counts: Arc<Counts>,
    /// Lost since the receiver last took one.
    lost: u64,
    told_dropped: bool,
    /// The process ends.
    ending: Arc<AtomicBool>,
    ends_since: Option<Instant>,
}

impl Poster {
    /// # Errors
    /// `config_invalid` where the URL or a reference in it is none.
    pub fn begin(config: WebhookConfig) -> Result<Poster> {
        url(&config)?;
        let failed = |e: &dyn fmt::Display| {
            Error::new(Kind::LimitReached, OP, format!("it does not come up: {e}"))
        };
        let client = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|e| failed(&e))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| failed(&e))?;
        let (queue, messages) = bounded(WAITING);
        let counts = Arc::new(Counts::default());
        let ending = Arc::new(AtomicBool::new(false));
        let courier = Courier {
            config,
            client,
            runtime,
            counts: counts.clone(),
            lost: 0,
            told_dropped: false,
            ending: ending.clone(),
            ends_since: None,
        };
        let thread = std::thread::Builder::new().name("webhook".to_owned());
        let thread = thread
            .spawn(move || courier.run(&messages))
            .map_err(|e| failed(&e))?;
        Ok(Poster {
            queue: Some(queue),
            counts,
            ending,
            thread: Some(thread),
        })
    }

    /// Never waits.
    pub fn send(&self, json: String) {
        let Some(queue) = &self.queue else {
            return;
        };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(json) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Messages that were tried in vain, or for which there was no room, since the process began.
    pub fn lost(&self) -> u64 {
        let Counts { failed, dropped } = &*self.counts;
        failed.load(Ordering::Relaxed) + dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Poster {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Courier {
    fn run(mut self, messages: &Receiver<String>) {
        loop {
            match messages.recv_timeout(LOOK) {
                Ok(json) if self.in_time() => self.deliver(json),
                Ok(_) => drop(self.counts.dropped.fetch_add(1, Ordering::Relaxed)),
                Err(RecvTimeoutError::Timeout) => self.tell_dropped(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// False: the process ends, and has waited long enough for the receiver.
    fn in_time(&mut self) -> bool {
        if !self.ending.load(Ordering::SeqCst) {
            return true;
        }
        let since = *self.ends_since.get_or_insert_with(Instant::now);
        since.elapsed() < LAST
    }

    fn deliver(&mut self, json: String) {
        self.tell_dropped();
        // While the receiver is away each message is tried once, or the others would wait for nothing.
        let once = self.lost > 0 || self.ending.load(Ordering::SeqCst);
        let tries = if once { 1 } else { TRIES };
        let mut wait = FIRST_WAIT;
        let mut last = None;
        for number in 1..=tries {
            match self.once(&json) {
                Ok(()) => return self.took(),
                Err(Failure { error, passes }) => {
                    last = Some(error);
                    if !passes || number == tries {
                        break;
                    }
                }
            }
            self.runtime
                .block_on(async { tokio::time::sleep(wait).await });
            wait *= 2;
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.lost += 1;
        if self.lost == 1 {
            let error = last.map_or_else(String::new, |error| error.one_line());
            tracing::warn!(
                error,
                "progress.webhook.url does not take messages; they are lost until it does"
            );
        }
    }

    fn took(&mut self) {
        if self.lost > 0 {
            tracing::info!(
                lost = self.lost,
                "progress.webhook.url takes messages again"
            );
            self.lost = 0;
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        if !self.told_dropped && dropped > 0 {
            self.told_dropped = true;
            tracing::warn!(
                waiting = WAITING,
                "progress.webhook.url is slower than commits come; some messages are lost, and `lost` in the others says how many"
            );
        }
    }

    fn once(&self, json: &str) -> Result<(), Failure> {
        let gives_up = |error: Error| Failure {
            error,
            passes: false,
        };
        let url = url(&self.config).map_err(gives_up)?;
        let host = url.host_str().unwrap_or("").to_owned();
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.config.authorization {
            let value = authorization.resolve().map_err(gives_up)?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| {
                gives_up(Error::new(
                    Kind::ConfigInvalid,
                    OP,
                    "`progress.webhook.authorization` has a line break",
                ))
            })?;
            request = request.header(AUTHORIZATION, value);
        }
        let answer = (self.runtime).block_on(async { request.body(json.to_owned()).send().await });
        let away = |message: String, passes: bool| Failure {
            error: Error::new(Kind::SinkUnavailable, OP, message),
            passes,
        };
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let passes = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
                Err(away(
                    format!("{host} answered HTTP {}", status.as_u16()),
                    passes,
                ))
            }
            Err(error) if error.is_timeout() => Err(away(
                format!("{host} did not answer in {} s", TIMEOUT.as_secs()),
                true,
            )),
            Err(_) => Err(away(format!("{host} cannot be reached"), true)),
        }
    }
}

struct Failure {
    error: Error,
    /// Another try may succeed.
    passes: bool,
}

fn url(config: &WebhookConfig) -> Result<Url> {
    let wrong = |what: &str| {
        let message = format!("`progress.webhook.url` {what}");
        Error::new(Kind::ConfigInvalid, OP, message)
            .hint("for instance https://hooks.example.com/weir")
    };
    let url = config.url.resolve()?;
    let url = Url::parse(url.trim()).map_err(|_| wrong("is no URL"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong("does not begin with http:// or https://")),
    }
}
