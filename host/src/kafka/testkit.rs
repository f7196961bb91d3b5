//! For tests only: makes and deletes topics, deletes records, gives rights, runs transactions. Not part of the API.
#![allow(unsafe_code, reason = "rd_kafka_CreateAcls has no safe wrapper")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use std::ffi::CString;
use std::ptr;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use rdkafka_sys as sys;

use crate::error::{Error, Kind, Result};

const WAIT: Duration = Duration::from_secs(20);

fn failed(what: &'static str, error: &KafkaError) -> Error {
    Error::new(
        Kind::SourceUnavailable,
        "testkit",
        format!("{what}: {error}"),
    )
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The admin client answers from a thread of its own; waiting for it needs no runtime.
fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut task = Task::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut task) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub struct Admin {
    client: AdminClient<DefaultClientContext>,
}

impl Admin {
    pub fn connect(bootstrap: &str) -> Result<Admin> {
        let client = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .create()
            .map_err(|e| failed("admin", &e))?;
        Ok(Admin { client })
    }

    fn options() -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(WAIT))
            .operation_timeout(Some(WAIT))
    }

    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let done = wait(self.client.create_topics([&topic], &Self::options()));
        each("create topic", done)
    }

    /// All settings of a topic; others have their defaults afterwards.
    pub fn configure_topic(&self, name: &str, config: &[(&str, &str)]) -> Result<()> {
        let mut topic = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let done = wait(self.client.alter_configs([&topic], &Self::options()));
        for one in done.map_err(|e| failed("configure topic", &e))? {
            one.map_err(|(_, code)| failed("configure topic", &KafkaError::AdminOp(code)))?;
        }
        Ok(())
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let done = wait(self.client.delete_topics(&[name], &Self::options()));
        each("delete topic", done)
    }

    pub fn add_partitions(&self, name: &str, total: usize) -> Result<()> {
        let new = NewPartitions::new(name, total);
        let done = wait(self.client.create_partitions([&new], &Self::options()));
        each("add partitions", done)
    }

    /// Lets a user do this with one topic or group, on a broker that has an authorizer.
    pub fn allow(&self, user: &str, on: On<'_>, may: May) -> Result<()> {
        let allow = sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW;
        self.add_acl(user, on, may, allow)
    }

    /// Forbids it, whatever was allowed.
    pub fn forbid(&self, user: &str, on: On<'_>, may: May) -> Result<()> {
        let deny = sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_DENY;
        self.add_acl(user, on, may, deny)
    }

    fn add_acl(
        &self,
        user: &str,
        on: On<'_>,
        may: May,
        permission: sys::rd_kafka_AclPermissionType_t,
    ) -> Result<()> {
        let bad = |_| Error::new(Kind::Bug, "testkit", "a zero in a name");
        let (kind, name) = match on {
            On::Topic(name) => (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name),
            On::Group(name) => (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP, name),
            On::TransactionalIds => (
                sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
                "*",
            ),
        };
        let may = match may {
            May::Describe => sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_DESCRIBE,
            May::Read => sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ,
            May::Write => sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE,
        };
        let name = CString::new(name).map_err(bad)?;
        let user = CString::new(format!("User:{user}")).map_err(bad)?;
        let client = self.client.inner().native_ptr();
        // SAFETY: the client and the strings outlive the call; each handle made here is destroyed once.
        let done = unsafe {
            let mut acl = sys::rd_kafka_AclBinding_new(
                kind,
                name.as_ptr(),
                sys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
                user.as_ptr(),
                c"*".as_ptr(),
                may,
                permission,
                ptr::null_mut(),
                0,
            );
            let queue = sys::rd_kafka_queue_new(client);
            sys::rd_kafka_CreateAcls(client, &mut acl, 1, ptr::null(), queue);
            let wait = i32::try_from(WAIT.as_millis()).unwrap_or(i32::MAX);
            let event = sys::rd_kafka_queue_poll(queue, wait);
            let done = !event.is_null()
                && sys::rd_kafka_event_error(event)
                    == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if !event.is_null() {
                sys::rd_kafka_event_destroy(event);
            }
            sys::rd_kafka_queue_destroy(queue);
            sys::rd_kafka_AclBinding_destroy(acl);
            done
        };
        match done {
            true => Ok(()),
            false => Err(Error::new(
                Kind::SourceUnavailable,
                "testkit",
                "no right was given or taken",
            )),
        }
    }

    /// Everything below `before` is gone afterwards.
    pub fn delete_records(&self, name: &str, partition: i32, before: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(before))
            .map_err(|e| failed("delete records", &e))?;
        let done = wait(self.client.delete_records(&list, &Self::options()))
            .map_err(|e| failed("delete records", &e))?;
        for element in done.elements() {
            element.error().map_err(|e| failed("delete records", &e))?;
        }
        Ok(())
    }
}

/// What a right is on.
#[derive(Clone, Copy, Debug)]
pub enum On<'a> {
    Topic(&'a str),
    Group(&'a str),
    /// All of them.
    TransactionalIds,
}

#[derive(Clone, Copy, Debug)]
pub enum May {
    Describe,
    Read,
    Write,
}

fn each(
    what: &'static str,
    done: Result<Vec<rdkafka::admin::TopicResult>, KafkaError>,
) -> Result<()> {
    for topic in done.map_err(|e| failed(what, &e))? {
        topic.map_err(|(_, code)| failed(what, &KafkaError::AdminOp(code)))?;
    }
    Ok(())
}

/// A producer of transactions.
pub struct Transactions {
    producer: BaseProducer,
}

impl Transactions {
    pub fn open(bootstrap: &str, id: &str) -> Result<Transactions> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("transactional.id", id)
            .set("linger.ms", "0")
            .create()
            .map_err(|e| failed("transactional producer", &e))?;
        producer
            .init_transactions(WAIT)
            .map_err(|e| failed("init transactions", &e))?;
        Ok(Transactions { producer })
    }

    /// One transaction of these records, committed or aborted; `None` leaves it open.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        values: &[String],
        commit: Option<bool>,
    ) -> Result<()> {
        let op = |e| failed("transaction", &e);
        self.producer.begin_transaction().map_err(op)?;
        for value in values {
            let record = BaseRecord::<[u8], str>::to(topic)
                .partition(partition)
                .payload(value.as_str());
            self.producer.send(record).map_err(|(e, _)| op(e))?;
        }
        self.producer.flush(WAIT).map_err(op)?;
        match commit {
            Some(commit) => self.end(commit),
            None => Ok(()),
        }
    }

    /// Ends a transaction that was left open.
    pub fn end(&self, commit: bool) -> Result<()> {
        let done = match commit {
            true => self.producer.commit_transaction(WAIT),
            false => self.producer.abort_transaction(WAIT),
        };
        done.map_err(|e| failed("transaction", &e))
    }
}
