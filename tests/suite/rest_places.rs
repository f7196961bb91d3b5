//! Others hold connections and handlers: every client gets an answer or the reason why not, and probes are always
//! answered.

use std::io::Write;

use crate::brokers::until;
use crate::rest_rig::{Reply, Rig, until_closed};

#[test]
fn one_connection_too_many_is_told_so() {
    let rig = Rig::new(&[("rest.max.connections", "3")]);
    let held = busy(&rig, 3);
    until("all places are busy", || {
        let reply = rig.get("/connectors");
        (reply.status == 503).then(|| {
            assert!(reply.message().contains("rest.max.connections"));
            assert_eq!(reply.header("retry-after"), Some("1"));
        })
    });
    // Who looks whether it lives is answered all the same.
    for probe in ["/livez", "/readyz", "/health"] {
        assert_eq!(rig.get(probe).status, 200, "{probe}");
    }
    drop(held);
    until("places are free again", || {
        (rig.get("/connectors").status == 200).then_some(())
    });
}

/// Connections with half a body under way.
fn busy(rig: &Rig, count: usize) -> Vec<std::net::TcpStream> {
    let head = b"POST /connectors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"na";
    let one = |_| {
        let mut socket = rig.socket();
        socket.write_all(head).expect("sent");
        socket
    };
    (0..count).map(one).collect()
}

#[test]
fn a_kept_connection_gives_its_place_to_one_that_comes() {
    let rig = Rig::new(&[("rest.max.connections", "3")]);
    let mut kept: Vec<_> = (0..3).map(|_| rig.socket()).collect();
    for socket in &mut kept {
        socket
            .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        assert_eq!(Reply::read(socket).expect("an answer").status, 200);
    }
    assert_eq!(rig.get("/connectors").status, 200);
    // The one that was answered first is closed, the others are kept.
    assert_eq!(until_closed(&mut kept[0]), b"");
    for socket in &mut kept[1..] {
        socket
            .write_all(b"GET /connectors HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        assert_eq!(Reply::read(socket).expect("an answer").status, 200);
    }
}

#[test]
fn whoever_holds_connections_without_asking_keeps_nobody_out() {
    // As many as there are by default, and the worst that they can send.
    for sent in ["", "GET /connec", "GET / HTTP/1.1\r\nX-A: b\r\n"] {
        let rig = Rig::new(&[]);
        let mut held: Vec<_> = (0..256).map(|_| rig.socket()).collect();
        for socket in &mut held {
            socket.write_all(sent.as_bytes()).expect("sent");
        }
        for probe in ["/livez", "/readyz", "/health"] {
            assert_eq!(rig.get(probe).status, 200, "{probe} {sent:?}");
        }
        until("an answer to a question", || {
            (rig.get("/connectors").status == 200).then_some(())
        });
    }
}

#[test]
fn probes_answer_while_every_handler_hangs() {
    const STUCK: usize = 36;
    let rig = Rig::new(&[("rest.request.timeout", "2s")]);
    // Each has a log whose first entry is read for ever.
    let fifo = |at: usize| {
        let name = format!("p{at}");
        rig.stopped(&name);
        let config = rig.supervisor.pipeline(&name).expect("config");
        let root = config
            .home
            .at
            .url
            .strip_prefix("file:")
            .expect("a directory");
        let log = weir::commit::LogName::new(&name, &config.home.zone);
        let path = std::path::Path::new(root).join(log.entry(0));
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo").success());
        path
    };
    let fifos: Vec<_> = (0..STUCK).map(fifo).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..STUCK)
            .map(|at| {
                let rig = &rig;
                scope.spawn(move || rig.get(&format!("/pipelines/p{at}")).status)
            })
            .collect();
        for one in asked {
            assert_eq!(one.join().expect("asked"), 500);
        }
    });
    // Their clients were answered, and they still hang.
    assert_eq!(rig.get("/connectors").status, 500);
    for probe in ["/livez", "/readyz", "/health"] {
        assert_eq!(rig.get(probe).status, 200, "{probe}");
    }
    for path in fifos {
        let end = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path);
        drop(end.expect("the other end"));
    }
    until("handlers are free again", || {
        (rig.get("/connectors").status == 200).then_some(())
    });
}
