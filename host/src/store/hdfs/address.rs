//! From a URL and its options to a client: where the cluster is and who we are there.

use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::time::Duration;

use hdfs_native::{Client, ClientBuilder, HdfsError};

use super::meaning::{self, Said};
use crate::config::Options;
use crate::config::location;
use crate::error::{Error, Kind, Result};
use crate::store::{Location, runtime};

const OP: &str = "store.open";

/// The port of a URL that has none and names no name service, as in Hadoop.
const PORT: u16 = 8020;

/// How often a call goes on to the next name node, and how many milliseconds it waits after the first round of them
/// (the wait doubles). Few and short, whatever Hadoop's files say: the caller pauses, reports it and asks again.
const CLIENT: [(&str, &str); 2] = [
    ("dfs.client.failover.max.attempts", "3"),
    ("dfs.client.failover.sleep.base.millis", "200"),
];

#[derive(Clone)]
pub(super) struct Address {
    /// As typed, without a slash at the end: `hdfs://ns/zones`.
    pub url: String,
    /// Absolute, without a slash at the end; empty for the root of HDFS.
    pub root: String,
    /// The longest wait for one answer of a name node.
    pub patience: Duration,
    cluster: String,
    options: Options,
}

impl Address {
    /// Asks no server.
    pub(super) fn of(at: &Location) -> Result<Address> {
        let invalid = |message: &str| {
            Error::new(Kind::ConfigInvalid, OP, message)
                .with("url", &at.url)
                .hint("write hdfs://nameservice/path or hdfs://host:port/path")
        };
        let whole = location::canonical(&at.url);
        if !at.url.starts_with("hdfs://") || whole.is_err() {
            return Err(invalid("not a url of HDFS"));
        }
        let (authority, path) = at.bucket();
        let path = path.trim_end_matches('/');
        if path.contains(':') {
            return Err(invalid("names in HDFS have no colon"));
        }
        let root = match path {
            "" => String::new(),
            path => format!("/{path}"),
        };
        let address = Address {
            url: format!("hdfs://{authority}{root}"),
            cluster: format!("hdfs://{authority}"),
            root,
            patience: at.options.request_timeout,
            options: at.options.clone(),
        };
        address.has_files()?;
        address.has_principal()?;
        Ok(address)
    }

    /// Checks the directory that a key names. What the environment names is left to Hadoop's own rules.
    fn has_files(&self) -> Result<()> {
        let Some(dir) = &self.options.hadoop_conf_dir else {
            return Ok(());
        };
        let dir = dir.resolve()?;
        let there = |name: &&str| Path::new(&dir).join(name).is_file();
        if ["core-site.xml", "hdfs-site.xml"].iter().any(there) {
            return Ok(());
        }
        let message = "there is neither a core-site.xml nor an hdfs-site.xml in this directory";
        let refused = Error::new(Kind::ConfigInvalid, OP, message).with("path", dir);
        Err(refused.hint(format!(
            "let {}hadoop.conf.dir name the directory that Hadoop's own tools use, often /etc/hadoop/conf",
            self.options.keys
        )))
    }

    fn has_principal(&self) -> Result<()> {
        let options = &self.options;
        let given = options.kerberos_keytab.is_some() || options.kerberos_ticket_cache.is_some();
        if !given || options.kerberos_principal.is_some() {
            return Ok(());
        }
        let message = "a keytab or a ticket cache is given, and no Kerberos principal";
        let refused = Error::new(Kind::ConfigInvalid, OP, message).with("url", &self.url);
        Err(refused.hint(format!(
            "set {}kerberos.principal to whose it is",
            options.keys
        )))
    }

    /// With the keys' full names: `sink.store.…` or `source.store.…`.
    pub(super) fn hint(&self, text: &str) -> String {
        text.replace(" store.", &format!(" {}", self.options.keys))
    }

    /// A new client. It connects when it is first asked.
    pub(super) fn connect(&self) -> Result<Client> {
        let failed = |e: HdfsError| {
            let means = meaning::of(&e);
            Error::new(Kind::ConfigInvalid, OP, means.what)
                .with("url", &self.url)
                .hint(self.hint(means.hint))
                .source(Said::new(&e))
        };
        match self.build(&self.cluster)? {
            Err(HdfsError::InvalidArgument(said)) if said.contains("NameNode") => {
                self.build(&self.host()?)?.map_err(failed)
            }
            built => built.map_err(failed),
        }
    }

    fn build(&self, cluster: &str) -> Result<hdfs_native::Result<Client>> {
        let mut builder = ClientBuilder::new()
            .with_url(cluster)
            .with_config(CLIENT)
            .with_io_runtime(runtime::handle()?);
        let options = &self.options;
        if let Some(dir) = &options.hadoop_conf_dir {
            builder = builder.with_config_dir(dir.resolve()?);
        }
        if let Some(user) = &options.hadoop_user {
            builder = builder.with_user(user);
        }
        if let Some(principal) = &options.kerberos_principal {
            builder = builder.with_kerberos_principal(principal);
        }
        if let Some(keytab) = &options.kerberos_keytab {
            builder = builder.with_kerberos_keytab(keytab.resolve()?);
        }
        if let Some(cache) = &options.kerberos_ticket_cache {
            builder = builder.with_kerberos_cache(cache.resolve()?);
        }
        Ok(builder.build())
    }

    /// The URL's host, if the cluster is not a name service of Hadoop's files.
    fn host(&self) -> Result<String> {
        let host = self.cluster.trim_start_matches("hdfs://");
        match (host, PORT).to_socket_addrs() {
            Ok(found) if found.len() > 0 => Ok(format!("{}:{PORT}", self.cluster)),
            answer => {
                let message = format!(
                    "{host} is neither a name service that Hadoop's files describe nor a host"
                );
                let refused = Error::new(Kind::ConfigInvalid, OP, message)
                    .with("url", &self.url)
                    .hint(format!("set HADOOP_CONF_DIR or {}hadoop.conf.dir to the directory whose hdfs-site.xml has dfs.ha.namenodes of it, or write hdfs://host:port/path", self.options.keys));
                Err(match answer {
                    Err(e) => refused.source(e),
                    Ok(_) => refused,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Text;

    fn of(url: &str) -> Result<Address> {
        Address::of(&Location::of(url))
    }

    #[test]
    fn urls_name_a_cluster_and_a_root() {
        for (url, cluster, root, shown) in [
            ("hdfs://ns/a/b", "hdfs://ns", "/a/b", "hdfs://ns/a/b"),
            ("hdfs://h:9000/a/", "hdfs://h:9000", "/a", "hdfs://h:9000/a"),
            ("hdfs://h:9000", "hdfs://h:9000", "", "hdfs://h:9000"),
            ("hdfs:///a", "hdfs://", "/a", "hdfs:///a"),
        ] {
            let address = of(url).unwrap();
            assert_eq!(
                (
                    address.cluster.as_str(),
                    address.root.as_str(),
                    address.url.as_str()
                ),
                (cluster, root, shown)
            );
        }
        for url in [
            "hdfs:/a",
            "hdfs://u@h/a",
            "hdfs://h/a//b",
            "hdfs://h/../b",
            "hdfs://h/a:b",
        ] {
            assert_eq!(
                of(url).err().map(|e| e.kind()),
                Some(Kind::ConfigInvalid),
                "{url}"
            );
        }
    }

    #[test]
    fn a_name_that_nobody_knows_is_refused_with_the_remedy() {
        let nobody = of("hdfs://no-such-nameservice.invalid/a").unwrap();
        let refused = nobody.connect().unwrap_err();
        assert_eq!(refused.kind(), Kind::ConfigInvalid);
        assert!(refused.to_string().contains("HADOOP_CONF_DIR"), "{refused}");
    }

    #[test]
    fn options_that_cannot_work_are_refused_before_anything_is_asked() {
        let keytab = Options {
            kerberos_keytab: Some(Text::new("/a.keytab")),
            ..Options::default()
        };
        let no_files = Options {
            hadoop_conf_dir: Some(Text::new("/no/such/directory")),
            ..Options::default()
        };
        for (options, said) in [
            (keytab, "sink.store.kerberos.principal"),
            (no_files, "core-site.xml"),
        ] {
            let url = "hdfs://h:1/a".to_owned();
            let refused = Address::of(&Location { url, options }).err().unwrap();
            assert_eq!(refused.kind(), Kind::ConfigInvalid);
            assert!(refused.to_string().contains(said), "{refused}");
        }
    }
}
