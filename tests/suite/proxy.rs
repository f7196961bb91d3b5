//! What may happen between Weir and an object store: a proxy that forwards HTTP byte for byte, counts requests, and
//! disturbs them where a test says so.
//!
//! Weir uses the proxy as its endpoint: the signed `Host` is that of the proxy, and the server gets it unchanged.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use weir::clock::SystemClock;

use crate::connect_http as http;

/// Of a head that a client or a server sends.
const HEAD_MAX: usize = 64 << 10;
/// For a server that is killed in the middle of an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request of S3's API asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// PUT, only where there is nothing.
    Create,
    Put,
    Copy,
    Begin,
    Part,
    Complete,
    Abort,
    /// Of open uploads, or of the parts of one.
    Uploads,
    Head,
    Get,
    List,
    Delete,
    Other,
}

/// What kind of object it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// An entry of a commit log.
    Entry,
    /// An intent, or staged bytes.
    Staging,
    /// Of the probe at the start.
    Probe,
    /// Whatever else is below `_system`.
    System,
    /// A data file.
    Data,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub verb: Verb,
    pub what: What,
    /// Path and query, as sent.
    pub target: String,
    /// The whole head.
    pub head: String,
    /// Which of its verb and what it is, from 0.
    pub nth: u64,
}

/// An error as the store would word it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub code: &'static str,
}

pub const SLOW_DOWN: Answer = Answer {
    status: 503,
    code: "SlowDown",
};
pub const INTERNAL: Answer = Answer {
    status: 500,
    code: "InternalError",
};
pub const TOO_MANY: Answer = Answer {
    status: 429,
    code: "TooManyRequests",
};
/// What S3 may answer to a completion, a copy or several deletes.
pub const ERROR_INSIDE: Answer = Answer {
    status: 200,
    code: "InternalError",
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    Delay(Duration),
    /// The connection ends before the server has heard anything.
    LostRequest,
    /// Half of the request's body arrives, then the connection is reset.
    ResetInBody,
    /// Not done; answered by us.
    Refused(Answer),
    /// Done, and answered as if it were not.
    DoneBut(Answer),
    /// Done, and the connection ends without an answer.
    LostReply,
    /// Done, and the answer ends in its middle.
    CutReply,
    /// Done, and answered by a server whose clock says this.
    Dated(&'static str),
}

type Decide = Box<dyn FnMut(&Asked) -> Fault + Send>;

/// Ends with its value: no connection outlives it.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    rewrite: fn(&str) -> String,
    decide: Mutex<Decide>,
    seen: Mutex<Seen>,
    over: AtomicBool,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    faults: BTreeMap<String, u64>,
    nth: BTreeMap<(Verb, What), u64>,
    /// Without an answer yet.
    pending: BTreeMap<Verb, usize>,
    open: Vec<Weak<TcpStream>>,
}

impl Proxy {
    pub fn before(server: SocketAddr) -> Proxy {
        Proxy::that_rewrites(str::to_owned, server)
    }

    /// The server gets other heads than what was sent.
    pub fn that_rewrites(rewrite: fn(&str) -> String, server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            rewrite,
            decide: Mutex::new(Box::new(|_| Fault::None)),
            seen: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let of = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of.over.load(Ordering::SeqCst) {
                    return;
                }
                let client = Arc::new(client);
                of.seen().open.push(Arc::downgrade(&client));
                let of = Arc::clone(&of);
                // What goes wrong between two others is theirs to see.
                std::thread::spawn(move || drop(of.serve(&client)));
            }
        });
        Proxy { addr, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on each request is asked about.
    pub fn decide(&self, decide: impl FnMut(&Asked) -> Fault + Send + 'static) {
        *self.shared.decide.lock().unwrap() = Box::new(decide);
    }

    /// All requests since the last [`forget`](Self::forget), in the order in which they came.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.seen().asked.clone()
    }

    /// How many requests of a kind have come and are not answered yet. Counted before it is decided what becomes of them.
    pub fn pending(&self, verb: Verb) -> usize {
        let seen = self.shared.seen();
        seen.pending.get(&verb).copied().unwrap_or(0)
    }

    pub fn forget(&self) {
        let mut seen = self.shared.seen();
        seen.asked.clear();
        seen.faults.clear();
    }

    /// How often each kind of fault came.
    pub fn faults(&self) -> BTreeMap<String, u64> {
        self.shared.seen().faults.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr)); // wakes the listener
        let open = std::mem::take(&mut self.shared.seen().open);
        for stream in open.iter().filter_map(Weak::upgrade) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A head, and how its body is framed.
pub struct Head {
    pub bytes: Vec<u8>,
    pub text: String,
    pub body: Body,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Body {
    Length(usize),
    Chunks,
    UntilTheEnd,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn serve(&self, mut client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut server: Option<Arc<TcpStream>> = None;
        while let Some(request) = head(client, Body::Length(0))? {
            let asked = self.noted(asked(&request.text));
            let _pending = Pending::of(self, asked.verb);
            let fault = (self.decide.lock().unwrap())(&asked);
            if fault != Fault::None {
                *self.seen().faults.entry(name(fault)).or_default() += 1;
            }
            match fault {
                Fault::LostRequest => return Ok(()),
                Fault::ResetInBody => {
                    if let Body::Length(length) = request.body {
                        let half = read(client, Body::Length(length / 2))?;
                        let server = self.connect()?;
                        (&*server).write_all(&request.bytes)?;
                        (&*server).write_all(&half)?;
                    }
                    return Ok(()); // what nobody has read makes it a reset
                }
                Fault::Delay(time) => SystemClock::shared().sleep(time),
                _ => {}
            }
            let body = read(client, request.body)?;
            if let Fault::Refused(answer) = fault {
                client.write_all(&worded(answer, asked.verb))?;
                continue;
            }
            let to = match server.take() {
                Some(open) if is_idle(&open)? => open,
                _ => self.connect()?,
            };
            (&*to).write_all((self.rewrite)(&request.text).as_bytes())?;
            (&*to).write_all(&body)?;
            let Some((reply, reply_body)) = reply(&to, asked.verb)? else {
                return Ok(());
            };
            match fault {
                Fault::LostReply => return Ok(()),
                Fault::DoneBut(answer) => client.write_all(&worded(answer, asked.verb))?,
                Fault::Dated(date) => {
                    client.write_all(dated(&reply.text, date).as_bytes())?;
                    client.write_all(&reply_body)?;
                }
                Fault::CutReply => {
                    client.write_all(&reply.bytes)?;
                    let half = reply_body.get(..reply_body.len() / 2);
                    return client.write_all(half.unwrap_or_default());
                }
                _ => {
                    client.write_all(&reply.bytes)?;
                    client.write_all(&reply_body)?;
                }
            }
            if reply.body == Body::UntilTheEnd {
                return Ok(());
            }
            server = Some(to);
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<Arc<TcpStream>> {
        let server = TcpStream::connect(self.server)?;
        server.set_nodelay(true)?;
        server.set_read_timeout(Some(PATIENCE))?;
        let server = Arc::new(server);
        self.seen().open.push(Arc::downgrade(&server));
        Ok(server)
    }

    fn noted(&self, mut asked: Asked) -> Asked {
        let mut seen = self.seen();
        let next = seen.nth.entry((asked.verb, asked.what)).or_default();
        asked.nth = *next;
        *next += 1;
        seen.asked.push(asked.clone());
        asked
    }
}

struct Pending<'a>(&'a Shared, Verb);

impl Pending<'_> {
    fn of(shared: &Shared, verb: Verb) -> Pending<'_> {
        *shared.seen().pending.entry(verb).or_default() += 1;
        Pending(shared, verb)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        *self.0.seen().pending.entry(self.1).or_default() -= 1;
    }
}

/// Without what it is told.
fn name(fault: Fault) -> String {
    match fault {
        Fault::Refused(answer) => format!("Refused {} {}", answer.status, answer.code),
        Fault::DoneBut(answer) => format!("DoneBut {} {}", answer.status, answer.code),
        Fault::Delay(_) => "Delay".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Whether the server still holds this connection.
fn is_idle(server: &TcpStream) -> io::Result<bool> {
    server.set_nonblocking(true)?;
    let heard = server.peek(&mut [0]);
    server.set_nonblocking(false)?;
    Ok(heard.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock))
}

/// The next head, and nothing behind it. `None`: the connection has ended.
pub fn head(mut stream: &TcpStream, without_length: Body) -> io::Result<Option<Head>> {
    let mut seen = vec![0; HEAD_MAX];
    let length = loop {
        let had = stream.peek(&mut seen)?;
        if had == 0 {
            return Ok(None);
        }
        let had = seen.get(..had).unwrap_or_default();
        if let Some(at) = had.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if had.len() == HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        std::thread::yield_now();
    };
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let chunked = header(&text, "transfer-encoding").is_some_and(|t| t.contains("chunked"));
    let length = header(&text, "content-length").and_then(|l| l.parse().ok());
    let body = match (chunked, length) {
        (true, _) => Body::Chunks,
        (false, Some(length)) => Body::Length(length),
        (false, None) => without_length,
    };
    Ok(Some(Head { bytes, text, body }))
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let found = lines.find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// A whole body, in its framing.
pub fn read(mut stream: &TcpStream, body: Body) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match body {
        Body::Length(length) => {
            bytes.resize(length, 0);
            stream.read_exact(&mut bytes)?;
        }
        Body::UntilTheEnd => {
            stream.read_to_end(&mut bytes)?;
        }
        Body::Chunks => loop {
            let line = bytes.len();
            while !bytes.get(line..).unwrap_or_default().ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                bytes.extend(byte);
            }
            let size = String::from_utf8_lossy(bytes.get(line..).unwrap_or_default()).into_owned();
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let from = bytes.len();
            bytes.resize(from + size + 2, 0);
            stream.read_exact(bytes.get_mut(from..).unwrap_or_default())?;
            if size == 0 {
                break;
            }
        },
    }
    Ok(bytes)
}

/// The final answer with its body; interim ones are passed over. `None`: the server has hung up.
pub fn reply(server: &TcpStream, verb: Verb) -> io::Result<Option<(Head, Vec<u8>)>> {
    loop {
        let Some(mut reply) = head(server, Body::UntilTheEnd)? else {
            return Ok(None);
        };
        let status = reply.text.split(' ').nth(1).unwrap_or_default().to_owned();
        if status.starts_with('1') {
            continue;
        }
        if verb == Verb::Head || status == "204" || status == "304" {
            reply.body = Body::Length(0);
        }
        let body = read(server, reply.body)?;
        return Ok(Some((reply, body)));
    }
}

fn dated(head: &str, date: &str) -> String {
    let lines = head
        .split("\r\n")
        .filter(|line| !line.to_lowercase().starts_with("date:"));
    let lines: Vec<&str> = lines.collect();
    lines
        .join("\r\n")
        .replacen("\r\n", &format!("\r\nDate: {date}\r\n"), 1)
}

fn worded(answer: Answer, verb: Verb) -> Vec<u8> {
    let Answer { status, code } = answer;
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>said by the test's proxy</Message></Error>"
    );
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n"
    );
    let body = if verb == Verb::Head { "" } else { &body };
    format!("{head}{body}").into_bytes()
}

pub fn asked(head: &str) -> Asked {
    let mut line = head.split(' ');
    let method = line.next().unwrap_or_default();
    let target = line.next().unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let has = |key: &str| query.split('&').any(|q| q.split('=').next() == Some(key));
    let verb = match method {
        "HEAD" => Verb::Head,
        "GET" if has("list-type") => Verb::List,
        "GET" if has("uploads") || has("uploadId") => Verb::Uploads,
        "GET" => Verb::Get,
        "PUT" if has("uploadId") => Verb::Part,
        "PUT" if header(head, "x-amz-copy-source").is_some() => Verb::Copy,
        "PUT" if header(head, "if-none-match").is_some() => Verb::Create,
        "PUT" => Verb::Put,
        "POST" if has("uploads") => Verb::Begin,
        "POST" if has("uploadId") => Verb::Complete,
        "POST" if has("delete") => Verb::Delete,
        "DELETE" if has("uploadId") => Verb::Abort,
        "DELETE" => Verb::Delete,
        _ => Verb::Other,
    };
    // A list names its prefix in the query.
    let named = format!("{path}?{query}").replace("%2F", "/");
    let what = match &named {
        n if n.contains(".probe-") => What::Probe,
        n if n.contains("/staging") => What::Staging,
        n if n.contains("/log/") => What::Entry,
        n if n.contains("_system") => What::System,
        _ => What::Data,
    };
    Asked {
        verb,
        what,
        target,
        head: head.to_owned(),
        nth: 0,
    }
}

/// Answers each request with its own body.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            while let Ok(Some(request)) = head(&client, Body::Length(0)) {
                let Ok(body) = read(&client, request.body) else {
                    break;
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                drop(client.write_all(head.as_bytes()));
                drop(client.write_all(&body));
            }
        }
    });
    addr
}

#[test]
fn what_a_request_asks_for_is_known() {
    let of = |head: &str| {
        let asked = asked(head);
        (asked.verb, asked.what)
    };
    let key = "/b/p/_system/raw/raw_zone";
    for (head, wanted) in [
        (
            format!("PUT {key}/log/00000000000000000001.json HTTP/1.1\r\nIf-None-Match: *\r\n"),
            (Verb::Create, What::Entry),
        ),
        (
            "GET /b?list-type=2&prefix=p%2F_system%2Fraw%2Fstaging%2F HTTP/1.1\r\n".to_owned(),
            (Verb::List, What::Staging),
        ),
        (
            "POST /b/p/books/x.parquet?uploads HTTP/1.1\r\n".to_owned(),
            (Verb::Begin, What::Data),
        ),
        (
            "PUT /b/p/books/x.parquet?partNumber=1&uploadId=7 HTTP/1.1\r\n".to_owned(),
            (Verb::Part, What::Data),
        ),
        (
            "POST /b/p/books/x.parquet?uploadId=7 HTTP/1.1\r\n".to_owned(),
            (Verb::Complete, What::Data),
        ),
        (
            "DELETE /b/p/books/x.parquet?uploadId=7 HTTP/1.1\r\n".to_owned(),
            (Verb::Abort, What::Data),
        ),
        (
            "HEAD /b/p/books/.probe-1/x HTTP/1.1\r\n".to_owned(),
            (Verb::Head, What::Probe),
        ),
    ] {
        assert_eq!(of(&head), wanted, "{head}");
    }
}

#[test]
fn each_fault_is_what_it_says() {
    let proxy = Proxy::before(echo());
    let body = vec![7; 100_000];
    let put = |fault: Fault| {
        proxy.decide(move |_| fault);
        http::ask(proxy.addr, "PUT", "/b/k", &[], Some(&body))
    };
    let whole = put(Fault::None).unwrap();
    assert!(whole.status == 200 && whole.body == body);
    for fault in [Fault::LostRequest, Fault::LostReply, Fault::ResetInBody] {
        let lost = put(fault);
        assert!(
            lost.as_ref().is_err() || lost.is_ok_and(|a| a.status == 0),
            "{fault:?}"
        );
    }
    let cut = put(Fault::CutReply).unwrap();
    assert_eq!(cut.body.len(), body.len() / 2);
    for fault in [Fault::Refused(SLOW_DOWN), Fault::DoneBut(SLOW_DOWN)] {
        let answer = put(fault).unwrap();
        assert!(answer.status == 503 && answer.text().contains("<Code>SlowDown</Code>"));
    }
    let seen = proxy.asked();
    assert!(
        seen.iter()
            .all(|a| (a.verb, a.what) == (Verb::Put, What::Data))
    );
    assert_eq!(
        proxy.faults().values().sum::<u64>(),
        6,
        "{:?}",
        proxy.faults()
    );
}
