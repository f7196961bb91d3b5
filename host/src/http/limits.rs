//! Limits of the server beside the worker's `rest.*` keys: constants, each with its reason.

use std::time::Duration;

/// Threads that move bytes. Handlers do not run on them.
pub(super) const IO_THREADS: usize = 2;
/// Handlers at a time; further requests wait for one to end, within `rest.request.timeout`. Enough for the slowest
/// calls (a dry run of a swap) not to hold up status pages, few enough for 2 cores.
pub(super) const HANDLERS: usize = 32;
/// Beside those, for each probe: they answer while every handler is busy, and one that hangs (a disk that does not answer)
/// keeps none of the others from answering.
pub(super) const PROBES: usize = 2;
/// Connections beside `rest.max.connections` on which only probes are answered. They are closed after one answer.
pub(super) const PROBE_PLACES: usize = 16;
/// Time for the head of a request there.
pub(super) const PROBE_HEAD: Duration = Duration::from_secs(1);
/// When all places are taken: a client that has sent no whole head within this may lose its own. A head fits one packet.
pub(super) const SPARE_HEAD: Duration = Duration::from_secs(1);
/// The same of the places for probes.
pub(super) const SPARE_PROBE: Duration = Duration::from_millis(250);
/// Connect's limit of `/health`.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this; longer than the 30 s for which common clients pool theirs.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// A client that takes no byte of its answer for so long is cut off.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// How often connections are checked: time limits are exact to within this.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// A client that has closed its sending side counts as gone after this, for requests that change nothing: one that only half
/// closes gets what is ready by then.
pub(super) const LEFT: Duration = Duration::from_secs(2);
/// Header fields of one request.
pub(super) const HEADER_FIELDS: usize = 100;
/// How long the server still reads from a client that was answered before it had sent everything, so that it sees the
/// answer and not a reset: some clients read only after they have sent everything. A body of `rest.max.plugin` at 7
/// MB/s.
pub(super) const LINGER: Duration = Duration::from_secs(10);
/// Peers whose rate is remembered; beyond that, those that have been quiet are forgotten.
pub(super) const PEERS: usize = 4096;
/// What a failed login costs of a peer's rate: at the default, 20 guesses a second.
pub(super) const FAILED_LOGIN: f64 = 50.0;
/// Connections over the limit that are answered with 503 at a time; more are closed without an answer.
pub(super) const TURNED_AWAY: usize = 32;
/// Time to answer one of them: a slow one must not delay the others.
pub(super) const TURN_AWAY_TIME: Duration = Duration::from_secs(1);
/// Pieces of an upload between socket and handler.
pub(super) const PIECES: usize = 4;
/// After an accept that failed (no file descriptors left): long enough not to spin.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Clients of `/events` at a time, each with a connection of `rest.max.connections`: pages that people have before them.
pub(super) const LISTENERS: usize = 64;
/// How often it is looked what is new for them. A pipeline commits once a second at most; what lies between is told as one.
pub(super) const EVENTS_EVERY: Duration = Duration::from_secs(1);
/// Where nothing is new, a line that says so: a client that has left is noticed, and proxies keep the connection.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
/// Clients of `weir run --metrics` at a time: a scraper, its second, and a person.
pub(super) const SCRAPERS: usize = 8;
/// From its connection to its answer; a scraper gives up after 10 s by default.
pub(super) const SCRAPE_TIME: Duration = Duration::from_secs(10);
