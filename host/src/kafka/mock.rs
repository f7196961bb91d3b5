//! A broker inside this process, for the demo and for tests: librdkafka's mock cluster.
//!
//! It keeps 5 MiB per partition and silently drops older records, has almost no transactions, and forgets everything at
//! the end. Nothing about exactly-once is tested on it.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rdkafka::mocking::MockCluster;

use crate::error::{Error, Kind, Result};

/// With this many partitions, none exceeds 5 MiB in the demo.
pub const MIN_PARTITIONS: i32 = 6;

enum Order {
    CreateTopic(String, i32, Sender<Result<()>>),
    /// Refuses connections, or serves again; stored records stay.
    Serve(bool, Sender<Result<()>>),
}

/// Serves until it is dropped. The cluster lives in its own thread, because its handle may not move between threads.
pub struct MockBroker {
    bootstrap: String,
    /// `None` only while dropping.
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for MockBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MockBroker({})", self.bootstrap)
    }
}

fn failed(what: &str) -> Error {
    Error::new(Kind::Bug, "kafka.mock", format!("the mock broker: {what}"))
}

impl MockBroker {
    pub fn start() -> Result<MockBroker> {
        let (orders, todo) = channel();
        let (ready, started) = channel();
        let thread = std::thread::Builder::new()
            .name("mock-broker".to_owned())
            .spawn(move || serve(&ready, &todo))
            .map_err(|e| failed("no thread can be started").source(e))?;
        let bootstrap = started.recv().map_err(|_| failed("gone at the start"))??;
        Ok(MockBroker {
            bootstrap,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// For `bootstrap.servers`, also of other processes on this machine.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.order(|reply| Order::CreateTopic(name.to_owned(), partitions, reply))
    }

    /// False: connections end and are refused, until true.
    pub fn serve(&self, serve: bool) -> Result<()> {
        self.order(|reply| Order::Serve(serve, reply))
    }

    fn order(&self, make: impl FnOnce(Sender<Result<()>>) -> Order) -> Result<()> {
        let (reply, answer) = channel();
        let sent = self.orders.as_ref().map(|o| o.send(make(reply)));
        match sent {
            Some(Ok(())) => answer.recv().map_err(|_| failed("gone"))?,
            _ => Err(failed("gone")),
        }
    }
}

impl Drop for MockBroker {
    fn drop(&mut self) {
        // The thread ends when no order can come any more.
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the mock broker's thread panicked");
        }
    }
}

fn serve(ready: &Sender<Result<String>>, todo: &Receiver<Order>) {
    const BROKER: i32 = 1;
    let cluster = match MockCluster::new(1) {
        Ok(cluster) => cluster,
        Err(e) => {
            let told = ready.send(Err(failed("cannot start").source(e)));
            tracing::debug!(?told, "no mock broker");
            return;
        }
    };
    if ready.send(Ok(cluster.bootstrap_servers())).is_err() {
        return;
    }
    for order in todo {
        let (result, reply) = match order {
            Order::CreateTopic(name, partitions, reply) => {
                (cluster.create_topic(&name, partitions, 1), reply)
            }
            Order::Serve(true, reply) => (cluster.broker_up(BROKER), reply),
            Order::Serve(false, reply) => (cluster.broker_down(BROKER), reply),
        };
        let result = result.map_err(|e| failed("order refused").source(e));
        if reply.send(result).is_err() {
            return;
        }
    }
}
