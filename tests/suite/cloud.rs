//! Imitates what a cloud gives to its machines: the role of an instance (IMDSv2), of a pod, and of a web identity, in
//! the form of AWS's documents. The keys are those of the tests' S3 server. That server knows no sessions, so a proxy
//! before it checks the tokens, removes them, and signs again.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{SslAcceptor, SslMethod};

use crate::object_servers::{ACCESS_KEY, REGION, SECRET_KEY};
use crate::papers::Paper;
use crate::proxy::header;

/// Of an instance, between it and the machine.
const SESSION: &str = "session-of-the-instance";
/// What the machine was given to say who it is.
pub const POD_TOKEN: &str = "token-of-the-pod";
pub const WEB_TOKEN: &str = "token-of-the-web-identity";
pub const ROLE: &str = "arn:aws:iam::111122223333:role/weir";
/// A head of a request.
const HEAD_MAX: usize = 64 << 10;

/// Lives as long as the test process.
pub struct Cloud {
    addr: SocketAddr,
    shared: Arc<Mutex<State>>,
}

struct State {
    token: String,
    lasts: Duration,
    asked: Vec<String>,
}

impl Cloud {
    /// Hands out keys with this session token, which are said to last so long. With a paper it speaks TLS.
    pub fn start(token: &str, lasts: Duration, paper: Option<&Paper>) -> Cloud {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(State {
            token: token.to_owned(),
            lasts,
            asked: Vec::new(),
        }));
        let tls = paper.map(|paper| {
            let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
            acceptor.set_certificate(&paper.certificate).unwrap();
            acceptor.set_private_key(&paper.key).unwrap();
            acceptor.build()
        });
        let of = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let done = match &tls {
                    None => serve(&of, client),
                    Some(tls) => match tls.accept(client) {
                        Ok(client) => serve(&of, client),
                        Err(_) => Ok(()),
                    },
                };
                drop(done); // a client that hangs up is its own affair
            }
        });
        Cloud { addr, shared }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// From now on.
    pub fn gives(&self, token: &str, lasts: Duration) {
        let mut state = self.shared.lock().unwrap();
        state.token = token.to_owned();
        state.lasts = lasts;
    }

    /// Method and path of each request.
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().unwrap().asked.clone()
    }
}

fn serve(state: &Mutex<State>, mut client: impl Read + Write) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let (status, body) = answer(&mut state.lock().unwrap(), &String::from_utf8_lossy(&head));
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    client.write_all(text.as_bytes())?;
    client.flush()
}

fn answer(state: &mut State, head: &str) -> (u16, String) {
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    state.asked.push(format!("{method} {path}"));
    let has = |name, value| header(head, name) == Some(value);
    let says = |text: &str| query.split('&').any(|part| part == text);
    let role = "/latest/meta-data/iam/security-credentials/";
    match (method, path) {
        ("PUT", "/latest/api/token")
            if header(head, "x-aws-ec2-metadata-token-ttl-seconds").is_some() =>
        {
            (200, SESSION.to_owned())
        }
        ("GET", path) if path.starts_with(role) => {
            match (
                has("x-aws-ec2-metadata-token", SESSION),
                path.strip_prefix(role),
            ) {
                (false, _) => (401, String::new()),
                (true, Some("")) => (200, "weir-role".to_owned()),
                (true, Some("weir-role")) => (
                    200,
                    state.json("\"Code\": \"Success\", \"Type\": \"AWS-HMAC\","),
                ),
                (true, _) => (404, String::new()),
            }
        }
        ("GET", "/v1/credentials") => match has("authorization", POD_TOKEN) {
            true => (200, state.json("\"AccountId\": \"111122223333\",")),
            false => (401, String::new()),
        },
        ("POST", "/")
            if says("Action=AssumeRoleWithWebIdentity")
                && says("Version=2011-06-15")
                && says(&format!("WebIdentityToken={WEB_TOKEN}")) =>
        {
            (200, state.xml())
        }
        _ => (400, String::new()),
    }
}

impl State {
    fn expires(&self) -> String {
        let at = jiff::Timestamp::now() + self.lasts;
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn json(&self, more: &str) -> String {
        format!(
            "{{ {more} \"LastUpdated\": \"2026-01-01T00:00:00Z\", \"AccessKeyId\": \"{ACCESS_KEY}\", \
             \"SecretAccessKey\": \"{SECRET_KEY}\", \"Token\": \"{}\", \"Expiration\": \"{}\" }}",
            self.token,
            self.expires()
        )
    }

    fn xml(&self) -> String {
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
             <AssumeRoleWithWebIdentityResult>\n<SubjectFromWebIdentityToken>weir</SubjectFromWebIdentityToken>\n\
             <AssumedRoleUser><Arn>{ROLE}/weir</Arn><AssumedRoleId>AROA:weir</AssumedRoleId></AssumedRoleUser>\n\
             <Credentials>\n<SessionToken>{}</SessionToken>\n<SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\n\
             <Expiration>{}</Expiration>\n<AccessKeyId>{ACCESS_KEY}</AccessKeyId>\n</Credentials>\n\
             </AssumeRoleWithWebIdentityResult>\n<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\n\
             </AssumeRoleWithWebIdentityResponse>",
            self.token,
            self.expires()
        )
    }
}

/// Without its session token, signed by the keys alone (Signature Version 4).
pub fn signed_without_session(head: &str) -> String {
    let Some(authorization) = header(head, "authorization") else {
        return head.to_owned();
    };
    let names = between(authorization, "SignedHeaders=", ",");
    let names: Vec<&str> = names
        .split(';')
        .filter(|name| *name != "x-amz-security-token")
        .collect();
    let names = names.join(";");
    let signature = signature(head, &names);
    let day = between(header(head, "x-amz-date").unwrap(), "", "T");
    let signed = format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{day}/{REGION}/s3/aws4_request, SignedHeaders={names}, Signature={signature}"
    );
    let lines = head.split("\r\n").filter_map(|line| {
        let name = line.split(':').next().unwrap_or_default().to_lowercase();
        match name.as_str() {
            "x-amz-security-token" => None,
            "authorization" => Some(format!("authorization: {signed}")),
            _ => Some(line.to_owned()),
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split(to).next().unwrap()
}

fn signature(head: &str, names: &str) -> String {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut query: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            if pair.contains('=') {
                pair.to_owned()
            } else {
                format!("{pair}=")
            }
        })
        .collect();
    query.sort();
    let of = |name: &str| header(head, name).unwrap_or_default();
    let headers = names
        .split(';')
        .map(|name| format!("{name}:{}\n", of(name)));
    let canonical = format!(
        "{method}\n{path}\n{}\n{}\n{names}\n{}",
        query.join("&"),
        headers.collect::<String>(),
        of("x-amz-content-sha256")
    );
    let date = of("x-amz-date");
    let day = between(date, "", "T");
    let digest = openssl::sha::sha256(canonical.as_bytes());
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{day}/{REGION}/s3/aws4_request\n{}",
        hex(&digest)
    );
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in [day, REGION, "s3", "aws4_request"] {
        key = hmac(&key, part);
    }
    hex(&hmac(&key, &text))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.update(text.as_bytes()).unwrap();
    signer.sign_to_vec().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
