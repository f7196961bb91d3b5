//! The Connect script: the steps of tests/connect/*.http, run against any base URL, each answer reduced to what a client
//! of Kafka Connect can rely on.
//!
//! A step:
//! ```text
//! ### group/name
//! @until /connector/state RUNNING     asks again until the answer says so (also `status CODE`, `/pointer# LENGTH`); what
//!                                     only reads is asked again in any case while states are on their way
//! @keep location                      a header that counts
//! @message                            the text of the error counts too
//! @only FileStream                    of a list of objects, those whose class contains this
//! @varies                             Connect itself answers differently from run to run: the status alone counts
//! @twice                              on one connection, the second answer counts
//! @raw                                the rest is sent as it is, \r \n \t \0 \xNN and {{N*x}} (N times x) replaced
//! METHOD target
//! Header: value                       an empty value leaves a default header out
//!
//! body                                {{N*x}} replaced
//! ```
//! `$T` is the run's tag (in names of connectors and topics), `$DIR` its directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::connect_http::{self as http, Answer};

/// Files of steps, in order.
pub const FILES: &[&str] = &[
    "service",
    "plugins",
    "create",
    "configure",
    "states",
    "offsets",
    "consoles",
    "transport",
];
/// A state that has not come by then does not come.
const WAIT: Duration = Duration::from_secs(45);

#[derive(Debug)]
pub struct Step {
    pub name: String,
    until: Vec<(String, String)>,
    keep: Vec<String>,
    only: Option<String>,
    message: bool,
    varies: bool,
    twice: bool,
    request: Request,
}

#[derive(Debug)]
enum Request {
    Raw(String),
    Asked {
        method: String,
        target: String,
        headers: Vec<(String, String)>,
        body: Option<String>,
    },
}

/// Where and as whom the script runs.
pub struct Run<'a> {
    pub addr: SocketAddr,
    /// Letters only; in every name, so that two runs share a broker.
    pub tag: &'a str,
    pub dir: PathBuf,
    /// Polls; false at the deadline.
    pub wait: &'a dyn Fn(Duration, &mut dyn FnMut() -> bool) -> bool,
}

/// A step's name and what counts of its answer.
pub type Transcript = Vec<(String, Value)>;

pub fn steps(texts: &[String]) -> Vec<Step> {
    texts
        .iter()
        .flat_map(|text| text.split("\n### ").skip(1))
        .map(step)
        .collect()
}

fn step(text: &str) -> Step {
    let (name, rest) = text.split_once('\n').expect("a step has lines");
    let mut step = Step {
        name: name.trim().to_owned(),
        until: Vec::new(),
        keep: Vec::new(),
        only: None,
        message: false,
        varies: false,
        twice: false,
        request: Request::Raw(String::new()),
    };
    let mut raw = false;
    let mut rest = rest;
    while let Some((line, after)) = rest.split_once('\n') {
        let Some(directive) = line.strip_prefix('@') else {
            break;
        };
        let (what, value) = directive.split_once(' ').unwrap_or((directive, ""));
        match what {
            "until" => {
                let (at, is) = value.split_once(' ').expect("@until WHERE WHAT");
                step.until.push((at.to_owned(), is.to_owned()));
            }
            "keep" => step.keep.push(value.to_owned()),
            "only" => step.only = Some(value.to_owned()),
            "message" => step.message = true,
            "varies" => step.varies = true,
            "twice" => step.twice = true,
            "raw" => raw = true,
            other => panic!("{name}: @{other}"),
        }
        rest = after;
    }
    step.request = if raw {
        let text = rest.trim_end_matches('\n');
        let ends = text.contains("\n\n") || text.contains("\\r\\n\\r\\n");
        Request::Raw(format!("{text}{}", if ends { "" } else { "\n\n" }))
    } else {
        asked(rest)
    };
    step
}

fn asked(text: &str) -> Request {
    let (head, body) = match text.split_once("\n\n") {
        Some((head, body)) => (head, Some(body.trim_end_matches('\n'))),
        None => (text, None),
    };
    let mut lines = head.lines();
    let first = lines.next().expect("METHOD target");
    let (method, target) = first.split_once(' ').expect("METHOD target");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("Header: value");
        (name.to_owned(), value.trim().to_owned())
    });
    Request::Asked {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: headers.collect(),
        // An empty body is written as two quotes.
        body: body
            .filter(|body| !body.is_empty())
            .map(|body| body.replace("\"\"\"\"", "")),
    }
}

impl Step {
    fn reads(&self) -> bool {
        matches!(&self.request, Request::Asked { method, .. } if method == "GET")
    }
}

impl Run<'_> {
    pub fn all(&self, steps: &[Step]) -> Transcript {
        steps
            .iter()
            .map(|step| (step.name.clone(), self.one(step)))
            .collect()
    }

    fn one(&self, step: &Step) -> Value {
        let mut last = Value::Null;
        let mut ask = || {
            let answer = match self.send(step) {
                Ok(answer) => answer,
                Err(e) => {
                    last = json!({ "failed": e.kind().to_string() });
                    return step.until.is_empty();
                }
            };
            last = self.kept(step, &answer);
            if step.reads() && passing(&answer) {
                return false;
            }
            step.until
                .iter()
                .all(|(at, is)| holds(&answer, &self.filled(at), is))
        };
        if step.until.is_empty() && !step.reads() {
            ask();
        } else if !(self.wait)(WAIT, &mut ask) && !step.until.is_empty() {
            let until = format!("{:?}", step.until);
            last = json!({ "in vain": self.neutral(&until), "last": last });
        }
        last
    }

    fn send(&self, step: &Step) -> std::io::Result<Answer> {
        match &step.request {
            Request::Raw(text) => {
                let text = text.replace("$HOST", &self.addr.to_string());
                http::raw(self.addr, &bytes(&self.filled(&text)), false)
            }
            Request::Asked {
                method,
                target,
                headers,
                body,
            } => {
                let target = self.filled(target);
                let body = body.as_ref().map(|body| repeated(&self.filled(body)));
                let mut answer = Err(std::io::ErrorKind::Other.into());
                for _ in 0..if step.twice { 2 } else { 1 } {
                    let body = body.as_ref().map(|b| b.as_bytes());
                    answer = http::ask(self.addr, method, &target, headers, body);
                }
                answer
            }
        }
    }

    fn filled(&self, text: &str) -> String {
        let dir = self.dir.display().to_string();
        text.replace("$T", self.tag).replace("$DIR", &dir)
    }

    fn neutral(&self, text: &str) -> String {
        neutral(text, self.addr, self.tag, &self.dir)
    }

    fn kept(&self, step: &Step, answer: &Answer) -> Value {
        let mut out = Map::new();
        out.insert("status".to_owned(), answer.status.into());
        if step.varies {
            return Value::Object(out);
        }
        let media = answer.header("content-type").unwrap_or("none");
        let media = media.split(';').next().unwrap_or(media).trim();
        for name in &step.keep {
            let value = answer.header(name).map(|v| sorted(&self.neutral(v), name));
            out.insert(name.clone(), value.into());
        }
        let text = self.neutral(&answer.text());
        let body = match serde_json::from_str::<Value>(&text) {
            Ok(body) => self.reduced(step, body),
            Err(_) if text.is_empty() => Value::Null,
            Err(_) => json!("not JSON"),
        };
        // A media type says nothing of an empty body.
        if !body.is_null() {
            out.insert("type".to_owned(), media.into());
        }
        out.insert("body".to_owned(), body);
        Value::Object(out)
    }

    fn reduced(&self, step: &Step, body: Value) -> Value {
        let mut body = body;
        if let (Some(only), Value::Array(list)) = (&step.only, &mut body) {
            list.retain(|entry| entry["class"].as_str().is_some_and(|c| c.contains(only)));
        }
        if body.get("error_code").is_some() && !step.message && body["message"].is_string() {
            body["message"] = "a text".into();
        }
        if step.message
            && let Some(message) = body["message"].as_str()
        {
            body["message"] = message.lines().collect::<Vec<_>>().into();
        }
        reduce(&mut body, "");
        body
    }
}

/// What differs between two runs by nature, taken out of a text.
pub fn neutral(text: &str, addr: SocketAddr, tag: &str, dir: &Path) -> String {
    text.replace(&dir.display().to_string(), "$DIR")
        .replace(tag, "$T")
        .replace(&format!("http://{addr}"), "$BASE")
}

/// What a worker says on its way after a change: 500 to some who only read while it is about to rebalance, then states
/// that no connector stays in.
fn passing(answer: &Answer) -> bool {
    let text = answer.text();
    match answer.status {
        500 => text.contains("rebalance"),
        _ => ["UNASSIGNED", "RESTARTING"]
            .iter()
            .any(|state| text.contains(&format!(r#""state":"{state}""#))),
    }
}

/// What counts of a JSON answer.
pub fn reduced(mut value: Value) -> Value {
    reduce(&mut value, "");
    value
}

/// Lists without an order of their own are sorted; what a run, a release or an author decides becomes a placeholder.
fn reduce(value: &mut Value, key: &str) {
    let placeholder = match (key, &*value) {
        ("worker_id", Value::String(_)) => Some("host:port"),
        ("trace", Value::String(_)) => Some("a trace"),
        ("version", Value::String(_)) => Some("a version"),
        ("commit", Value::String(_)) => Some("a commit"),
        ("documentation" | "display_name", Value::String(text)) if !text.is_empty() => {
            Some("a text")
        }
        ("last_modified", Value::Number(_)) => Some("a time"),
        _ => None,
    };
    if let Some(text) = placeholder {
        *value = text.into();
        return;
    }
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| reduce(value, key)),
        Value::Array(list) => {
            if key == "errors" {
                *value = list.len().into();
                return;
            }
            let named = |entry: &Value| {
                let name = entry.get("name").or(entry.pointer("/value/name"));
                name.and_then(Value::as_str).map(str::to_owned)
            };
            let mut by_name = Map::new();
            for entry in list.iter_mut() {
                reduce(entry, "");
                if let Some(name) = named(entry) {
                    by_name.insert(name, entry.clone());
                }
            }
            if !by_name.is_empty() {
                *value = Value::Object(by_name);
            } else if key != "message" {
                list.sort_by_key(Value::to_string);
            }
        }
        _ => {}
    }
}

/// Lists in headers have no order.
fn sorted(value: &str, name: &str) -> String {
    if name != "allow" {
        return value.to_owned();
    }
    let mut parts: Vec<&str> = value.split(',').map(str::trim).collect();
    parts.sort_unstable();
    parts.join(",")
}

fn holds(answer: &Answer, at: &str, is: &str) -> bool {
    if at == "status" {
        return answer.status.to_string() == is;
    }
    let body = answer.json();
    if let Some(at) = at.strip_suffix('#') {
        let list = body.pointer(at);
        let len = match list {
            Some(Value::Array(list)) => Some(list.len()),
            Some(Value::Object(map)) => Some(map.len()),
            _ => None,
        };
        return len.is_some_and(|len| len.to_string() == is);
    }
    match body.pointer(at) {
        Some(Value::String(text)) => text == is,
        Some(other) => serde_json::from_str::<Value>(is).is_ok_and(|is| is == *other),
        None => is == "absent" && answer.status == 200,
    }
}

/// `{{N*x}}` stands for x, N times.
fn repeated(text: &str) -> String {
    let mut out = text.to_owned();
    while let Some((before, rest)) = out.split_once("{{") {
        let (inside, after) = rest.split_once("}}").expect("{{N*x}}");
        let (count, what) = inside.split_once('*').expect("{{N*x}}");
        let count = count.parse().expect("a number");
        out = format!("{before}{}{after}", what.repeat(count));
    }
    out
}

/// Lines joined by CR LF, escapes replaced.
fn bytes(text: &str) -> Vec<u8> {
    let text = repeated(text).replace('\n', "\r\n");
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        let (one, skip) = match after.as_bytes().first() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (0, 1),
            Some(b'x') => {
                let hex = after.get(1..3).expect("\\xNN");
                (u8::from_str_radix(hex, 16).expect("\\xNN"), 3)
            }
            _ => (b'\\', 0),
        };
        out.push(one);
        rest = after.get(skip..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
