//! What an error of HDFS means: which errors pass by themselves, and what to do about the others.
//!
//! Name nodes answer with names of Java classes. The errors that waiting does not fix are listed here; all others may
//! pass, and are reported with what the server said.

use std::fmt;

use hdfs_native::HdfsError;

use crate::error::Kind;

/// A server's message is cut after this many characters: the rest of it is a stack trace.
const SAID_MAX_CHARS: usize = 400;

pub(super) struct Meaning {
    pub kind: Kind,
    pub what: &'static str,
    pub hint: &'static str,
}

const fn meaning(kind: Kind, what: &'static str, hint: &'static str) -> Meaning {
    Meaning { kind, what, hint }
}

/// Ends of class names, and a word of the message where the class name is not enough. The first match counts.
const CLASSES: &[(&str, &str, Meaning)] = &[
    (
        "StandbyException",
        "",
        meaning(
            Kind::StoreUnavailable,
            "no name node is active",
            "work goes on by itself when one is; `hdfs haadmin -getAllServiceState` shows them",
        ),
    ),
    (
        "SafeModeException",
        "",
        meaning(
            Kind::StoreUnavailable,
            "the name node is in safe mode",
            "work goes on by itself when it leaves it; `hdfs dfsadmin -safemode get` shows it",
        ),
    ),
    (
        "RetriableException",
        "safe mode",
        meaning(
            Kind::StoreUnavailable,
            "the name node is in safe mode",
            "work goes on by itself when it leaves it; `hdfs dfsadmin -safemode get` shows it",
        ),
    ),
    (
        "NotReplicatedYetException",
        "",
        meaning(
            Kind::StoreUnavailable,
            "the data nodes have not reported a block yet, so the file gets no further one",
            "work goes on by itself; if it lasts, look at the load of the data nodes",
        ),
    ),
    (
        "QuotaExceededException",
        "",
        meaning(
            Kind::StoreUnavailable,
            "the quota of this directory is used up",
            "raise it (`hdfs dfsadmin -setSpaceQuota` or `-setQuota`) or free space; work goes on by itself",
        ),
    ),
    (
        "QuotaByStorageTypeExceededException",
        "",
        meaning(
            Kind::StoreUnavailable,
            "the quota of this directory is used up",
            "raise it (`hdfs dfsadmin -setSpaceQuota -storageType`) or free space; work goes on by itself",
        ),
    ),
    (
        "AccessControlException",
        "",
        meaning(
            Kind::ConfigInvalid,
            "not allowed to do this in HDFS",
            "give this user the right to read and write below the store's root, or set another: store.hadoop.user, HADOOP_USER_NAME or a Kerberos principal",
        ),
    ),
    ("AuthorizationException", "", WHO),
    ("SaslException", "", WHO),
    ("GSSException", "", WHO),
    ("InvalidToken", "", WHO),
    (
        "PathComponentTooLongException",
        "",
        meaning(
            Kind::ConfigInvalid,
            "a name is longer than HDFS takes",
            "choose a shorter sink.table, sink.zone or pipeline name (dfs.namenode.fs-limits.max-component-length, 255 bytes)",
        ),
    ),
    (
        "MaxDirectoryItemsExceededException",
        "",
        meaning(
            Kind::StoreFailed,
            "a directory holds as many files as HDFS takes",
            "partition the table more finely, or raise dfs.namenode.fs-limits.max-directory-items",
        ),
    ),
    (
        "ParentNotDirectoryException",
        "",
        meaning(
            Kind::ConfigInvalid,
            "a file lies where a directory is needed",
            "choose another path for the store, or move the file away",
        ),
    ),
    (
        "InvalidPathException",
        "",
        meaning(
            Kind::ConfigInvalid,
            "HDFS does not take this name",
            "names in HDFS have no colon and no part `.` or `..`",
        ),
    ),
    ("UnsupportedOperationException", "", REFUSED),
    ("SnapshotAccessControlException", "", REFUSED),
    ("RpcNoSuchMethodException", "", REFUSED),
    ("RpcNoSuchProtocolException", "", REFUSED),
    ("VersionMismatch", "", REFUSED),
    (
        "IOException",
        "could only be written to",
        meaning(
            Kind::StoreUnavailable,
            "no data node takes the file",
            "start data nodes or free space on them; work goes on by itself (`hdfs dfsadmin -report` shows them)",
        ),
    ),
];

const WHO: Meaning = meaning(
    Kind::ConfigInvalid,
    "HDFS does not accept who this is",
    "check the Kerberos principal, the keytab or the ticket cache (`klist`), and hadoop.security.authentication in core-site.xml",
);

/// What MIT's Kerberos library says, and what it means. The first match counts.
const KERBEROS: &[(&str, Meaning)] = &[
    (
        "Ticket expired",
        meaning(
            Kind::StoreUnavailable,
            "the Kerberos ticket is over",
            "take a new one (`kinit`, or `kinit -R` before it is over), or set store.kerberos.keytab; work goes on by itself",
        ),
    ),
    ("No credentials cache found", NO_TICKET),
    ("No Kerberos credentials available", NO_TICKET),
    (
        "does not match desired name",
        meaning(
            Kind::ConfigInvalid,
            "the Kerberos ticket is another principal's",
            "set store.kerberos.principal to whose ticket it is (`klist` shows it), or take one of that principal (`kinit`)",
        ),
    ),
    (
        "Cannot contact any KDC",
        meaning(
            Kind::StoreUnavailable,
            "no Kerberos server (KDC) answers",
            "check that the KDC that krb5.conf names for the realm is up and can be reached from here; work goes on by itself",
        ),
    ),
    (
        "Clock skew",
        meaning(
            Kind::StoreUnavailable,
            "Kerberos refuses this machine's clock",
            "set this machine's clock by NTP; work goes on by itself",
        ),
    ),
    (
        "Cannot find KDC",
        meaning(
            Kind::ConfigInvalid,
            "no Kerberos server (KDC) of the realm is known here",
            "name it in the krb5.conf of this machine, or set KRB5_CONFIG to the file that does",
        ),
    ),
    (
        "not found in Kerberos database",
        meaning(
            Kind::ConfigInvalid,
            "the Kerberos server (KDC) does not know this principal, or the name node's",
            "check store.kerberos.principal, and dfs.namenode.kerberos.principal on the name node",
        ),
    ),
];

/// No process can work without one; one that worked waits for it (`away`), as `kinit` may be writing it at this moment.
const NO_TICKET: Meaning = meaning(
    Kind::ConfigInvalid,
    "there is no Kerberos ticket",
    "take one as the user of this process (`kinit <principal>`; `klist` shows it), or set store.kerberos.principal and store.kerberos.keytab to a file that has its key (`klist -k`)",
);

const TICKET_AWAY: Meaning = meaning(
    Kind::StoreUnavailable,
    "the Kerberos ticket is gone",
    "take one again (`kinit`); work goes on by itself",
);

/// The meaning for a process that HDFS has accepted before.
pub(super) fn of_known(error: &HdfsError) -> Meaning {
    match of(error) {
        means if means.what == NO_TICKET.what => TICKET_AWAY,
        means => means,
    }
}

const REFUSED: Meaning = meaning(
    Kind::StoreFailed,
    "HDFS refuses this, and will not do it later either",
    "the cause below is the server's own word for it; what is committed is safe",
);

const AWAY: Meaning = meaning(
    Kind::StoreUnavailable,
    "HDFS cannot do it now",
    "check that the name node and the data nodes are up and can be reached from here; work goes on by itself",
);

pub(super) fn of(error: &HdfsError) -> Meaning {
    match error {
        HdfsError::RPCError(class, said) | HdfsError::FatalRPCError(class, said) => {
            let fits = |(end, word, _): &&(&str, &str, Meaning)| {
                class.ends_with(end) && said.contains(word)
            };
            let found = CLASSES.iter().find(fits);
            found.map_or(AWAY, |(_, _, m)| meaning(m.kind, m.what, m.hint))
        }
        // What the name node says of it is lost in the client.
        HdfsError::IOError(e) if e.to_string().contains("listener disconnected") => meaning(
            Kind::StoreUnavailable,
            "the name node closes the connection",
            "check that it is up; one that asks for Kerberos does so where Hadoop's files here do not ask for it: then let store.hadoop.conf.dir or HADOOP_CONF_DIR name the cluster's files (hadoop.security.authentication in core-site.xml); work goes on by itself",
        ),
        HdfsError::IOError(_) => {
            meaning(Kind::StoreUnavailable, "HDFS cannot be reached", AWAY.hint)
        }
        HdfsError::GSSAPIError(_, _, said) => {
            let found = KERBEROS.iter().find(|(word, _)| said.contains(word));
            found.map_or(WHO, |(_, m)| meaning(m.kind, m.what, m.hint))
        }
        HdfsError::SASLError(_) | HdfsError::NoSASLMechanism => WHO,
        HdfsError::OperationFailed(said) if said.contains("libgssapi") => meaning(
            Kind::ConfigInvalid,
            "Kerberos is asked for and its library is not on this machine",
            "install it (Debian, Ubuntu: `apt-get install libgssapi-krb5-2`; RHEL, Fedora: `dnf install krb5-libs`) and start again",
        ),
        HdfsError::OperationFailed(said) if said.contains("erasure") => meaning(
            Kind::ConfigInvalid,
            "this directory is erasure coded: its files cannot be made durable before they are closed",
            "give the store's root a replicated policy: `hdfs ec -setPolicy -replicate -path <root>`",
        ),
        HdfsError::UnsupportedFeature(_) => meaning(
            Kind::ConfigInvalid,
            "this directory is an encryption zone, which Weir cannot read or write",
            "keep the store outside of HDFS's encryption zones",
        ),
        HdfsError::UnsupportedErasureCodingPolicy(_)
        | HdfsError::InvalidArgument(_)
        | HdfsError::InvalidPath(_)
        | HdfsError::IsADirectoryError(_)
        | HdfsError::UrlParseError(_) => REFUSED,
        HdfsError::XmlParseError(_) => meaning(
            Kind::ConfigInvalid,
            "a file of Hadoop's configuration is no XML",
            "correct core-site.xml or hdfs-site.xml in store.hadoop.conf.dir or HADOOP_CONF_DIR",
        ),
        _ => AWAY,
    }
}

/// The path, or a directory above it, is not there.
pub(super) fn is_absent(error: &HdfsError) -> bool {
    match error {
        HdfsError::FileNotFound(_) => true,
        HdfsError::RPCError(class, _) => class == "java.io.FileNotFoundException",
        _ => false,
    }
}

/// The file that was being written no longer belongs to us: somebody removed it, or the name node closed it while it
/// could not hear from us.
pub(super) fn is_lost(error: &HdfsError) -> bool {
    is_absent(error)
        || matches!(error, HdfsError::RPCError(class, _) if class.ends_with("LeaseExpiredException"))
}

pub(super) fn is_denied(error: &HdfsError) -> bool {
    matches!(error, HdfsError::RPCError(class, _) if class.ends_with("AccessControlException"))
}

/// The first line of what was said.
#[derive(Debug)]
pub(super) struct Said(String);

impl Said {
    pub(super) fn new(error: &HdfsError) -> Said {
        let text = match error {
            // Its numbers say nothing that its words do not.
            HdfsError::GSSAPIError(_, _, said) => format!("Kerberos: {said}"),
            error => error.to_string(),
        };
        let line = text.lines().next().unwrap_or_default();
        // The client adds its own notes on data nodes after this.
        let line = line.split(": [DatanodeInfo").next().unwrap_or_default();
        Said(line.chars().take(SAID_MAX_CHARS).collect())
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(class: &str, said: &str) -> Kind {
        of(&HdfsError::RPCError(class.to_owned(), said.to_owned())).kind
    }

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_stops() {
        for (class, said) in [
            ("org.apache.hadoop.ipc.StandbyException", "in state standby"),
            (
                "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
                "Cannot create file",
            ),
            (
                "org.apache.hadoop.ipc.RetriableException",
                "Name node is in safe mode.",
            ),
            (
                "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException",
                "is exceeded",
            ),
            (
                "org.apache.hadoop.hdfs.protocol.NSQuotaExceededException",
                "is exceeded",
            ),
            (
                "org.apache.hadoop.hdfs.server.namenode.LeaseExpiredException",
                "",
            ),
            (
                "java.io.IOException",
                "could only be written to 0 of the 1 minReplication nodes",
            ),
            ("java.io.IOException", "anything else"),
            ("java.lang.NullPointerException", ""),
        ] {
            assert_eq!(rpc(class, said), Kind::StoreUnavailable, "{class}");
        }
        for (class, kind) in [
            (
                "org.apache.hadoop.security.AccessControlException",
                Kind::ConfigInvalid,
            ),
            (
                "org.apache.hadoop.security.authorize.AuthorizationException",
                Kind::ConfigInvalid,
            ),
            (
                "org.apache.hadoop.security.token.SecretManager$InvalidToken",
                Kind::ConfigInvalid,
            ),
            (
                "org.apache.hadoop.fs.InvalidPathException",
                Kind::ConfigInvalid,
            ),
            (
                "org.apache.hadoop.fs.ParentNotDirectoryException",
                Kind::ConfigInvalid,
            ),
            (
                "org.apache.hadoop.ipc.RPC$VersionMismatch",
                Kind::StoreFailed,
            ),
        ] {
            assert_eq!(rpc(class, ""), kind, "{class}");
        }
    }

    #[test]
    fn of_a_stack_trace_the_first_line_is_told() {
        let error = HdfsError::RPCError("java.io.IOException".into(), "no\n\tat a.b.C".into());
        assert_eq!(
            Said::new(&error).to_string(),
            "RPC error: java.io.IOException no"
        );
    }
}
