//! An HTTP API of the tests' own, which fails as real ones do: it drops answers after it took a batch, asks to come back later,
//! fails in bursts, resets connections, answers slowly. It honours idempotency keys, and remembers every request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::SslAcceptor;
use serde_json::Value;
use weir::clock::SystemClock;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Request {
    pub fn key(&self) -> &str {
        self.headers
            .get("idempotency-key")
            .map_or("", String::as_str)
    }

    /// Rows of a JSON array.
    pub fn rows(&self) -> Vec<Value> {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// `value` of each row.
    pub fn numbers(&self) -> Vec<i64> {
        self.rows()
            .iter()
            .map(|row| row["value"].as_i64().unwrap())
            .collect()
    }
}

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Takes it and says so.
    Take,
    /// Takes it, and the answer is lost.
    TakeAndDrop,
    /// The connection ends before anything is taken.
    Drop,
    /// Not taken: status, header lines, text.
    Say(u16, Vec<(&'static str, String)>, String),
    /// Takes it; the status comes at once, the text never.
    TakeSlowly,
    /// Says nothing for so long, then takes it.
    Late(Duration),
}

pub fn say(status: u16) -> Reaction {
    Reaction::Say(
        status,
        Vec::new(),
        format!("{{\"error\":\"status {status}\"}}"),
    )
}

type React = Box<dyn FnMut(&Request, usize) -> Reaction + Send>;

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    /// Body by key, or by number where there is no key.
    taken: Vec<(String, Request)>,
    now: usize,
    most: usize,
}

pub struct Api {
    pub port: u16,
    scheme: &'static str,
    seen: Arc<Mutex<Seen>>,
    react: Arc<Mutex<React>>,
    ended: Arc<AtomicBool>,
}

impl Api {
    /// `react` is asked for each request, with its number from 0.
    pub fn new(react: impl FnMut(&Request, usize) -> Reaction + Send + 'static) -> Api {
        Api::start(None, Box::new(react))
    }

    pub fn tls(
        acceptor: SslAcceptor,
        react: impl FnMut(&Request, usize) -> Reaction + Send + 'static,
    ) -> Api {
        Api::start(Some(acceptor), Box::new(react))
    }

    fn start(tls: Option<SslAcceptor>, react: React) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Api {
            port: listener.local_addr().unwrap().port(),
            scheme: if tls.is_some() { "https" } else { "http" },
            seen: Arc::default(),
            react: Arc::new(Mutex::new(react)),
            ended: Arc::default(),
        };
        let (seen, react, ended) = (api.seen.clone(), api.react.clone(), api.ended.clone());
        let tls = tls.map(Arc::new);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), tls) = (stream, tls.clone()) else {
                    continue;
                };
                let (seen, react) = (seen.clone(), react.clone());
                std::thread::spawn(move || {
                    let end = stream.try_clone().unwrap();
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream) {
                                serve(stream, &end, &seen, &react);
                            }
                        }
                        None => serve(stream, &end, &seen, &react),
                    }
                });
            }
        });
        api
    }

    pub fn url(&self) -> String {
        let host = if self.scheme == "https" {
            "localhost"
        } else {
            "127.0.0.1"
        };
        format!("{}://{host}:{}/v1/rows", self.scheme, self.port)
    }

    pub fn now_reacts(&self, react: impl FnMut(&Request, usize) -> Reaction + Send + 'static) {
        *self.react.lock().unwrap() = Box::new(react);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// Each body that was taken, once for each key.
    pub fn taken(&self) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.taken
            .iter()
            .map(|(_, request)| request.clone())
            .collect()
    }

    /// How often each number was taken, under how many keys.
    pub fn numbers(&self) -> BTreeMap<i64, usize> {
        let mut numbers = BTreeMap::new();
        for request in self.taken() {
            for number in request.numbers() {
                *numbers.entry(number).or_default() += 1;
            }
        }
        numbers
    }

    /// Requests that it had at one time, at most.
    pub fn most_at_once(&self) -> usize {
        self.seen.lock().unwrap().most
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Requests of one connection, until it ends.
fn serve(stream: impl Read + Write, end: &TcpStream, seen: &Mutex<Seen>, react: &Mutex<React>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream) {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.requests.push(request.clone());
            seen.now += 1;
            seen.most = seen.most.max(seen.now);
            seen.requests.len() - 1
        };
        let reaction = (react.lock().unwrap())(&request, number);
        if let Reaction::Late(time) = &reaction {
            SystemClock::shared().sleep(*time);
        }
        let takes = !matches!(reaction, Reaction::Drop | Reaction::Say(..));
        {
            let mut seen = seen.lock().unwrap();
            seen.now -= 1;
            if takes {
                let key = match request.key() {
                    "" => number.to_string(),
                    key => key.to_owned(),
                };
                match seen.taken.iter().find(|(of, _)| *of == key) {
                    Some((_, before)) => {
                        assert_eq!(before.body, request.body, "one key, two bodies")
                    }
                    None => seen.taken.push((key, request)),
                }
            }
        }
        let out = stream.get_mut();
        let answered = match reaction {
            Reaction::Take | Reaction::Late(_) => answer(out, 200, &[], "{\"ok\":true}"),
            Reaction::Say(status, headers, text) => answer(out, status, &headers, &text),
            Reaction::TakeSlowly => {
                let head = "HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\n{";
                let written = out.write_all(head.as_bytes()).and_then(|()| out.flush());
                // The client gives up first.
                drop(written);
                let mut rest = Vec::new();
                drop(out.read_to_end(&mut rest));
                return;
            }
            Reaction::TakeAndDrop | Reaction::Drop => {
                drop(end.shutdown(Shutdown::Both));
                return;
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

fn answer(
    out: &mut impl Write,
    status: u16,
    headers: &[(&str, String)],
    text: &str,
) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n",
        text.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    out.write_all(format!("{head}\r\n{text}").as_bytes())?;
    out.flush()
}

fn read(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
        at: Instant::now(),
    })
}
