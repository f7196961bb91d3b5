//! A small blocking HTTP/1.1 client for tests: it sends any bytes and reads any answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Connect's own limit for one operation is 90 s.
const PATIENCE: Duration = Duration::from_secs(100);

/// What a server said, or that it closed without a word (status 0).
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Null where the body is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One request on a connection of its own. `headers` override what is sent by default; an empty value leaves one out.
pub fn ask(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    body: Option<&[u8]>,
) -> std::io::Result<Answer> {
    let mut all = vec![
        ("Host".to_owned(), addr.to_string()),
        ("Accept".to_owned(), "application/json".to_owned()),
        ("Connection".to_owned(), "close".to_owned()),
    ];
    if let Some(body) = body {
        all.push(("Content-Type".to_owned(), "application/json".to_owned()));
        all.push(("Content-Length".to_owned(), body.len().to_string()));
    }
    for (name, value) in headers {
        all.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        all.push((name.clone(), value.clone()));
    }
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in all.iter().filter(|(_, value)| !value.is_empty()) {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.unwrap_or_default());
    raw(addr, &bytes, method == "HEAD")
}

/// These bytes as they are; the first answer, interim ones passed over.
pub fn raw(addr: SocketAddr, bytes: &[u8], head: bool) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    // A server may answer and close before it has read everything.
    let sent = stream.write_all(bytes);
    let answer = read(&mut stream, head);
    match (sent, answer) {
        (Err(e), Ok(answer)) if answer.status == 0 => Err(e),
        (_, answer) => answer,
    }
}

/// The next answer on a connection that stays open.
pub fn read(stream: &mut TcpStream, head: bool) -> std::io::Result<Answer> {
    let mut had = Vec::new();
    loop {
        let Some(end) = find(&had, b"\r\n\r\n") else {
            if more(stream, &mut had)? == 0 {
                return Ok(Answer::default());
            }
            continue;
        };
        let mut answer = headers(had.get(..end).unwrap_or_default());
        had.drain(..end + 4);
        if (100..200).contains(&answer.status) {
            continue;
        }
        if !head && answer.status != 204 && answer.status != 304 {
            answer.body = body(stream, &mut had, &answer)?;
        }
        return Ok(answer);
    }
}

fn headers(text: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(text).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    Answer {
        status: status.and_then(|code| code.parse().ok()).unwrap_or(0),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
    }
}

fn body(stream: &mut TcpStream, had: &mut Vec<u8>, answer: &Answer) -> std::io::Result<Vec<u8>> {
    if answer
        .header("transfer-encoding")
        .is_some_and(|t| t.contains("chunked"))
    {
        return chunks(stream, had);
    }
    let length = answer
        .header("content-length")
        .and_then(|l| l.parse::<usize>().ok());
    while length.is_none_or(|length| had.len() < length) {
        if more(stream, had)? == 0 {
            break;
        }
    }
    had.truncate(length.unwrap_or(usize::MAX));
    Ok(std::mem::take(had))
}

fn chunks(stream: &mut TcpStream, had: &mut Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let Some(end) = find(had, b"\r\n") else {
            if more(stream, had)? == 0 {
                return Ok(out);
            }
            continue;
        };
        let line = String::from_utf8_lossy(had.get(..end).unwrap_or_default()).into_owned();
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        while had.len() < end + 2 + size + 2 {
            if more(stream, had)? == 0 {
                break;
            }
        }
        if size == 0 {
            return Ok(out);
        }
        out.extend_from_slice(had.get(end + 2..end + 2 + size).unwrap_or_default());
        had.drain(..(end + 2 + size + 2).min(had.len()));
    }
}

/// A reset counts as an end: servers may close with bytes of ours unread.
fn more(stream: &mut TcpStream, had: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    let n = match stream.read(&mut buffer) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => 0,
        other => other?,
    };
    had.extend_from_slice(buffer.get(..n).unwrap_or_default());
    Ok(n)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
