//! An API that answers what a test says, one request after the other.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use super::HttpSinkConfig;
use crate::config;
use crate::connectors::CATALOG;

/// Where it is.
pub fn api(answers: Vec<(u16, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/rows", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (status, text) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while read.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let length = text.len();
            let head = format!("HTTP/1.1 {status} So\r\ncontent-length: {length}\r\n");
            let answer = format!("{head}connection: close\r\n\r\n{text}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

pub fn config(url: &str, keys: &[(&str, &str)]) -> HttpSinkConfig {
    let always = [
        ("name", "p"),
        ("source.type", "rate"),
        ("sink.type", "http"),
        ("sink.url", "memory:http-testing"),
        ("sink.http.url", url),
        ("sink.http.backoff.first", "1ms"),
        ("sink.http.backoff.max", "2ms"),
    ];
    let keys = always.iter().chain(keys).copied();
    let config = config::from_map("p", keys, &CATALOG).unwrap();
    let http = config.sink.as_any().downcast_ref::<HttpSinkConfig>();
    http.unwrap().clone()
}
