//! Messages to a URL that an operator chose, beside everything else: whoever sends one never waits for it.
//!
//! A message is tried a few times and then lost. Of those that are lost the first is said, and how many there were when the
//! receiver takes them again, or the process ends. The URL may hold a secret (many receivers are such), so no message names more than its host.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use futures::future::{Either, select};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

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
/// When the process ends, all messages that wait have so long together, the one on its way among them.
const LAST: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// Ends with the last message, or after [`LAST`], when it is dropped.
pub struct Poster {
    /// `None` only while it is dropped.
    queue: Option<Sender<String>>,
    counts: Arc<Counts>,
    /// [`LAST`]
    last: Duration,
    /// Told the deadline when the process ends.
    ending: watch::Sender<Option<Instant>>,
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
    /// The process ends, and until then messages are tried.
    ending: watch::Receiver<Option<Instant>>,
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
        let (ending, ends) = watch::channel(None);
        let courier = Courier {
            config,
            client,
            runtime,
            counts: counts.clone(),
            lost: 0,
            told_dropped: false,
            ending: ends,
        };
        let thread = std::thread::Builder::new().name("webhook".to_owned());
        let thread = thread
            .spawn(move || courier.run(&messages))
            .map_err(|e| failed(&e))?;
        Ok(Poster {
            queue: Some(queue),
            counts,
            last: LAST,
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
        self.ending.send_replace(Some(Instant::now() + self.last));
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
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tell_lost();
        // A name that is being looked up is not waited for.
        self.runtime.shutdown_background();
    }

    /// False: the process ends, and has waited long enough for the receiver.
    fn in_time(&self) -> bool {
        self.ends().is_none_or(|until| Instant::now() < until)
    }

    fn ends(&self) -> Option<Instant> {
        *self.ending.borrow()
    }

    fn deliver(&mut self, json: String) {
        self.tell_dropped();
        // While the receiver is away each message is tried once, or the others would wait for nothing.
        let tries = if self.lost > 0 { 1 } else { TRIES };
        let mut wait = FIRST_WAIT;
        let mut last = None;
        for number in 1..=tries {
            match self.once(&json) {
                Ok(()) => return self.took(),
                Err(Failure { error, passes }) => {
                    last = Some(error);
                    if !passes || number == tries || self.ends().is_some() {
                        break;
                    }
                }
            }
            self.pause(wait);
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

    /// Not longer than until the process ends.
    fn pause(&self, wait: Duration) {
        let mut ending = self.ending.clone();
        (self.runtime).block_on(async {
            let ends = ending.wait_for(Option::is_some);
            drop(select(pin!(sleep(wait)), pin!(ends)).await);
        });
    }

    /// At the end: those that were not tried at all are said too.
    fn tell_lost(&self) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        if self.lost > 0 || (dropped > 0 && !self.in_time()) {
            tracing::warn!(
                lost = self.lost,
                dropped,
                "the process ends, and progress.webhook.url has not taken the last messages"
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
        let mut ending = self.ending.clone();
        let answer = (self.runtime).block_on(async {
            let ends = async {
                let until = ending.wait_for(Option::is_some).await.map(|until| *until);
                sleep_until(until.ok().flatten().unwrap_or_else(Instant::now).into()).await;
            };
            let sent = request.body(json.to_owned()).send();
            match select(pin!(sent), pin!(ends)).await {
                Either::Left((answer, _)) => Some(answer),
                Either::Right(_) => None,
            }
        });
        let away = |message: String, passes: bool| Failure {
            error: Error::new(Kind::SinkUnavailable, OP, message),
            passes,
        };
        let Some(answer) = answer else {
            let message = format!("{host} did not answer before the process ended");
            return Err(away(message, false));
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::Text;

    /// It takes connections, reads nothing and says nothing.
    #[test]
    fn a_receiver_that_never_answers_holds_the_end_back_for_so_long_and_no_longer() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", silent.local_addr().expect("a port"));
        let config = WebhookConfig {
            url: Text::new(&url),
            authorization: None,
        };
        let mut poster = Poster::begin(config).expect("it begins");
        poster.last = Duration::from_secs(1);
        for _ in 0..20 {
            poster.send("{}".to_owned());
        }
        // The first is on its way.
        let (_connection, _) = silent.accept().expect("a connection");
        let counts = poster.counts.clone();
        let begun = Instant::now();
        drop(poster);
        let took = begun.elapsed();
        assert!(took < TIMEOUT - Duration::from_secs(1), "{took:?}");
        let Counts { failed, dropped } = &*counts;
        let lost = (
            failed.load(Ordering::Relaxed),
            dropped.load(Ordering::Relaxed),
        );
        assert_eq!(lost.0 + lost.1, 20, "{lost:?}");
    }
}
