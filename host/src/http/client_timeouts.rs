//! Time limits of a client: what its connection is doing, since when, and when it is closed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::{IDLE, STALLED, TICK};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No byte of a request yet.
    Idle,
    /// A request's head is being sent.
    Head,
    /// A request is read, handled or answered; other limits hold.
    Busy,
    /// Answered, not yet flushed.
    Answered,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when the client reads nothing.
    stalled: Option<Instant>,
}

#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

impl Activity {
    /// A new connection counts as sending a head: a client that connects wants to send something.
    pub fn new() -> Activity {
        Activity(Arc::new(Mutex::new(State {
            phase: Phase::Head,
            since: Instant::now(),
            stalled: None,
        })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, phase: Phase) {
        self.with(|state| {
            state.phase = phase;
            state.since = Instant::now();
        });
    }

    pub fn busy(&self) {
        self.enter(Phase::Busy);
    }

    pub fn answered(&self) {
        self.enter(Phase::Answered);
    }

    /// Since when its client wants nothing. True: it was answered; false: it has not sent a request yet.
    pub fn wants_nothing(&self) -> Option<(bool, Instant)> {
        self.with(|state| match state.phase {
            Phase::Idle => Some((true, state.since)),
            Phase::Head => Some((false, state.since)),
            Phase::Busy | Phase::Answered => None,
        })
    }

    #[cfg(test)]
    pub fn idle_now(&self) {
        self.enter(Phase::Idle);
    }

    fn limit(&self, header: Duration) -> Option<Instant> {
        self.with(|state| {
            let phase = match state.phase {
                Phase::Idle => Some(state.since + IDLE),
                Phase::Head => Some(state.since + header),
                Phase::Busy | Phase::Answered => None,
            };
            let stalled = state.stalled.map(|since| since + STALLED);
            match (phase, stalled) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        })
    }

    /// Ends when the client has had its time.
    pub async fn overdue(&self, header: Duration) {
        loop {
            let now = Instant::now();
            let limit = self.limit(header);
            let left = limit.map(|limit| limit.saturating_duration_since(now));
            if left == Some(Duration::ZERO) {
                return;
            }
            tokio::time::sleep(left.unwrap_or(TICK).min(TICK)).await;
        }
    }
}

#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    activity: Activity,
}

impl<S> Watched<S> {
    pub fn new(inner: S, activity: Activity) -> Watched<S> {
        Watched { inner, activity }
    }

    fn note<T>(&self, result: &Poll<T>) {
        let pending = result.is_pending();
        self.activity.with(|state| match (pending, state.stalled) {
            (true, None) => state.stalled = Some(Instant::now()),
            (false, Some(_)) => state.stalled = None,
            _ => {}
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.with(|state| {
                if state.phase == Phase::Idle {
                    state.phase = Phase::Head;
                    state.since = Instant::now();
                }
            });
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.activity.with(|state| {
                if state.phase == Phase::Answered {
                    state.phase = Phase::Idle;
                    state.since = Instant::now();
                }
            });
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
