//! An HTTP proxy as in companies: CONNECT for TLS, whole addresses for plain HTTP, a login, and hosts that only the
//! proxy knows.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::proxy::{Body, asked, head, header, read, reply};

/// Takes no connection after its end.
pub struct ForwardProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// A host, and with it all whose names end in it; and where they are.
    host: String,
    at: SocketAddr,
    /// `user:password` of whoever may come.
    login: Option<String>,
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl ForwardProxy {
    /// Knows `host`, and what is below it.
    pub fn to(host: &str, at: SocketAddr, login: Option<&str>) -> ForwardProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            host: host.to_owned(),
            at,
            login: login.map(str::to_owned),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let of = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of.over.load(Ordering::SeqCst) {
                    return;
                }
                let of = Arc::clone(&of);
                // What goes wrong between two others is theirs to see.
                std::thread::spawn(move || drop(of.serve(&client)));
            }
        });
        ForwardProxy { addr, shared }
    }

    /// As a client is told of it, with a login or without.
    pub fn url(&self, login: &str) -> String {
        match login {
            "" => format!("http://{}", self.addr),
            login => format!("http://{login}@{}", self.addr),
        }
    }

    /// Method and host of what was asked for, each once, sorted.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = self.shared.asked.lock().unwrap().clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr)); // wakes the listener
    }
}

impl Shared {
    fn serve(&self, mut client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        while let Some(request) = head(client, Body::Length(0))? {
            let mut words = request.text.split(' ');
            let method = words.next().unwrap_or_default();
            let target = words.next().unwrap_or_default();
            let rest = target.strip_prefix("http://").unwrap_or(target);
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let what = if method == "CONNECT" { method } else { "plain" };
            self.asked.lock().unwrap().push(format!("{what} {host}"));
            let body = read(client, request.body)?;
            if !self.lets_in(&request.text) {
                client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"weir\"\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            let name = host.split(':').next().unwrap_or_default();
            if name != self.host && !name.ends_with(&format!(".{}", self.host)) {
                client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            let mut server = TcpStream::connect(self.at)?;
            server.set_nodelay(true)?;
            if method == "CONNECT" {
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                return tunnel(client, &server);
            }
            let sent = request.text.replacen(target, &format!("/{path}"), 1);
            server.write_all(sent.as_bytes())?;
            server.write_all(&body)?;
            let Some((answer, body)) = reply(&server, asked(&request.text).verb)? else {
                return Ok(());
            };
            client.write_all(&answer.bytes)?;
            client.write_all(&body)?;
            if answer.body == Body::UntilTheEnd {
                return Ok(());
            }
        }
        Ok(())
    }

    fn lets_in(&self, head: &str) -> bool {
        let Some(login) = &self.login else {
            return true;
        };
        let wanted = format!("Basic {}", STANDARD.encode(login));
        header(head, "proxy-authorization") == Some(&wanted)
    }
}

/// Bytes both ways, until both have nothing more to say.
fn tunnel(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    std::thread::scope(|scope| {
        scope.spawn(|| pump(client, server));
        pump(server, client)
    })
}

fn pump(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    drop(to.shutdown(Shutdown::Write));
    copied.map(drop)
}
