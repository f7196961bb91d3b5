//! The keys of `source.type = "socket"`, and what they forbid together.

use std::path::PathBuf;
use std::sync::Arc;

use super::SocketConfig;
use crate::commit::LogName;
use crate::config::keys::Default::{Derived, Is, Required};
use crate::config::keys::Group::Source;
use crate::config::keys::Importance::{High, Medium};
use crate::config::keys::{KeyDef, Scope, keys};
use crate::config::shape::Shape;
use crate::config::shape::unit::{GIB, MIB, bytes, int};
use crate::config::{self, Checker, Gives, Home, SourceType, TableName, Trigger};
use crate::store;

const SOCKET: Scope = Scope::Source("socket");
const SPOOL: &str = "source.spool.dir";

pub const SOURCE: SourceType = SourceType {
    name: "socket",
    gives: Gives::Records,
    keys: KEYS,
    prefixed: None,
    trigger: Trigger::Continuous,
    table: |_| Some(TableName::PerTopic),
    topics: Some("source.topic"),
    pattern: None,
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "source.host": Shape::Text, Required("the name or address of the server that sends lines"), High, Source, SOCKET,
        "Server that sends lines over TCP, each ended by LF or CR LF. Weir connects to it, and again when it goes away.";
    "source.port": int(1, 65_535), Required("the port on which that server listens"), High, Source, SOCKET,
        "TCP port on which that server listens.";
    "source.spool.dir": Shape::Path, Derived("`_system/<pipeline>/<zone>/socket` below a sink that is a directory"), Medium, Source, SOCKET,
        "Directory of this machine where lines wait until they are committed: a server does not send them twice. One pipeline alone uses it. Must be named where the sink is no directory.";
    "source.spool.max.bytes": bytes(MIB, 1024 * GIB), Is("1GiB"), Medium, Source, SOCKET,
        "How much may wait there. Above it nothing more is taken from the server, which is said, until commits have made room.";
};

fn check(checker: &mut Checker<'_>) {
    if checker
        .trigger()
        .is_some_and(|trigger| trigger != Trigger::Continuous)
    {
        let message = "`trigger`: a socket has no end".to_owned();
        checker.contradiction("trigger", message, "take the key out");
    }
    let home = checker.location("sink.url");
    if !checker.typed(SPOOL) && home.is_some_and(|at| store::directory_of(&at.url).is_none()) {
        let message =
            format!("`{SPOOL}` is missing: the sink is no directory beside which lines could wait");
        let hint = "name a directory on a disk of this machine, one for each pipeline";
        checker.contradiction(SPOOL, message, hint);
    }
}

/// `None` only where a problem was told.
fn build(checker: &Checker<'_>, home: &Home) -> Option<config::Source> {
    let log = LogName::new(checker.text("name")?, home.zone.clone());
    let typed = checker.text(SPOOL).map(PathBuf::from);
    let own = typed.is_some();
    let beside =
        || store::directory_of(&home.at.url).map(|root| root.join(log.dir()).join("socket"));
    Some(config::Source::Records(Arc::new(SocketConfig {
        topics: checker.topics()?,
        host: checker.text("source.host")?,
        port: u16::try_from(checker.number("source.port")?).ok()?,
        record_max: checker.size("source.record.max.bytes")?,
        spool: typed.or_else(beside)?,
        owner: log.to_string(),
        own_spool: own,
        spool_max: checker.number("source.spool.max.bytes")?,
        receives: true,
    })))
}
