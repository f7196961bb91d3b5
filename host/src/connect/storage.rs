//! Keys of Confluent's S3 and HDFS sinks, by their documented names. What each becomes is in `translate`.

use super::framework::Def;
use super::framework::Value::{Is, Null, Required};
use super::framework::defs;

/// Both connectors begin with the same keys; a table is one slice, so they are written by one macro.
macro_rules! with_common {
    ($($mine:tt)*) => {
        defs! {
            $($mine)*
            "Connector" {
                "flush.size": Int, Required, High, [],
                    "Rows after which files close and commit. Connect counts each partition for itself, Weir all that a commit holds.";
                "rotate.interval.ms": Long, Is("-1"), High, [],
                    "Age at which files close and commit. Connect measures record times, Weir the wait of the oldest uncommitted record.";
                "rotate.schedule.interval.ms": Long, Is("-1"), Medium, [],
                    "As rotate.interval.ms; the shorter of the two counts. It is exactly once here too.";
                "schema.compatibility": String, Is("NONE"), High, ["NONE", "BACKWARD", "FORWARD", "FULL"],
                    "Kept: the columns are the rules', and change with them only.";
                "retry.backoff.ms": Long, Is("5000"), Low, [],
                    "First wait before a store or broker that is away is tried again.";
                "shutdown.timeout.ms": Long, Is("3000"), Low, [],
                    "From the request to stop to the last commit.";
                "filename.offset.zero.pad.width": Int, Is("10"), Low, [],
                    "Not honoured: files have unique names, and offsets are in the rows and in the log.";
                "parquet.codec": String, Is("snappy"), Low, ["snappy", "zstd", "none"],
                    "Compression of Parquet pages.";
                "enhanced.avro.schema.support": Boolean, Is("true"), Low, ["true", "false"],
                    "Kept for Connect's clients: there are no Avro schemas.";
                "connect.meta.data": Boolean, Is("true"), Low, ["true", "false"],
                    "Kept for Connect's clients: there are no Avro schemas.";
                "schemas.cache.config": Int, Is("1000"), Low, [],
                    "Kept for Connect's clients.";
                "avro.codec": String, Is("null"), Low, [],
                    "Kept for Connect's clients: files are Parquet.";
            }
            "Storage" {
                "storage.class": Class, Null, High, [],
                    "Kept: the store follows from the bucket or URL.";
                "topics.dir": String, Is("topics"), High, [],
                    "Directory of the tables below the root of the store. It names the zone.";
                "directory.delim": String, Is("/"), Medium, [],
                    "Only `/` is honoured.";
                "file.delim": String, Is("+"), Medium, [],
                    "Not honoured: files have unique names.";
            }
            "Partitioner" {
                "partitioner.class": Class, Is("io.confluent.connect.storage.partitioner.DefaultPartitioner"), High,
                    ["io.confluent.connect.storage.partitioner.DefaultPartitioner", "io.confluent.connect.storage.partitioner.TimeBasedPartitioner", "io.confluent.connect.storage.partitioner.DailyPartitioner", "io.confluent.connect.storage.partitioner.HourlyPartitioner"],
                    "How rows are shared out among directories. Rows from Kafka lie by date and hour of ingestion.";
                "partition.field.name": List, Is(""), Medium, [],
                    "Not honoured: partitions by a field are made by a second pipeline, from this zone.";
                "partition.duration.ms": Long, Is("-1"), Medium, [],
                    "At least an hour, or not set.";
                "path.format": String, Is(""), Medium, [],
                    "Parts from the year to the hour; directories are called ingest_date and ingest_hour.";
                "locale": String, Is(""), Medium, [],
                    "Kept for Connect's clients: names of directories are numbers.";
                "timezone": String, Is(""), Medium, [],
                    "Only UTC is honoured.";
                "timestamp.extractor": String, Is("Wallclock"), Medium, ["Wallclock"],
                    "Only the wall clock is honoured; record times are in column _timestamp.";
                "timestamp.field": String, Is("timestamp"), Medium, [],
                    "Not honoured: see timestamp.extractor.";
            }
        }
    };
}

pub static S3: &[Def] = with_common! {
    "S3" {
        "s3.bucket.name": String, Required, High, [],
            "The bucket. This version writes to directories: the worker maps the bucket to one with store.map.";
        "s3.region": String, Is("us-west-2"), Medium, [],
            "Kept: the directory that stands for the bucket has no region.";
        "store.url": String, Null, High, [],
            "A directory (`file:///srv/lake`) that stands for the service: tables lie below <directory>/<bucket>/<topics.dir>. An address of a service is not used where the worker maps the bucket.";
        "s3.part.size": Int, Is("26214400"), High, [],
            "Kept: memory.budget bounds what is buffered.";
        "format.class": Class, Required, High, ["io.confluent.connect.s3.format.parquet.ParquetFormat"],
            "Parquet only: any other is refused by its name.";
        "aws.access.key.id": String, Is(""), High, [],
            "Kept: no service is asked.";
        "aws.secret.access.key": Password, Is(""), High, [],
            "Kept: no service is asked. Write it as a reference.";
        "s3.credentials.provider.class": Class, Null, Low, [],
            "Kept: no service is asked.";
        "s3.ssea.name": String, Is(""), Low, [],
            "Not honoured: encryption at rest is the file system's.";
        "s3.sse.kms.key.id": String, Is(""), Low, [],
            "Not honoured: encryption at rest is the file system's.";
        "s3.sse.customer.key": Password, Null, Low, [],
            "Not honoured: encryption at rest is the file system's.";
        "s3.acl.canned": String, Null, Low, [],
            "Kept: permissions are the file system's.";
        "s3.wan.mode": Boolean, Is("false"), Medium, ["true", "false"],
            "Kept: no service is asked.";
        "s3.compression.type": String, Is("none"), Low, ["none"],
            "Kept: it compresses JSON and bytes; see parquet.codec.";
        "s3.compression.level": Int, Is("-1"), Low, [],
            "Kept: see s3.compression.type.";
        "s3.part.retries": Int, Is("3"), Medium, [],
            "Kept: a store that is away is waited for, without end.";
        "s3.retry.backoff.ms": Long, Is("200"), Low, [],
            "Kept: see retry.backoff.ms.";
        "s3.http.send.expect.continue": Boolean, Is("true"), Low, ["true", "false"],
            "Kept: no service is asked.";
        "s3.path.style.access.enabled": Boolean, Is("true"), Low, ["true", "false"],
            "Kept: no service is asked.";
        "s3.proxy.url": String, Is(""), Low, [],
            "Kept: no service is asked.";
        "s3.proxy.user": String, Null, Low, [],
            "Kept: no service is asked.";
        "s3.proxy.password": Password, Is(""), Low, [],
            "Kept: no service is asked.";
        "s3.object.tagging": Boolean, Is("false"), Low, ["false"],
            "Not honoured: offsets and counts are in the log.";
        "s3.elastic.buffer.enable": Boolean, Is("false"), Low, ["true", "false"],
            "Kept: memory.budget bounds what is buffered.";
        "behavior.on.null.values": String, Is("fail"), Low, ["fail", "ignore", "write"],
            "What becomes of records without a value.";
        "keys.format.class": Class, Null, Low, [],
            "Not honoured: files of keys are not written.";
        "headers.format.class": Class, Null, Low, [],
            "Not honoured: files of headers are not written.";
        "store.kafka.keys": Boolean, Is("false"), Low, ["false"],
            "Not honoured: files of keys are not written.";
        "store.kafka.headers": Boolean, Is("false"), Low, ["false"],
            "Not honoured: files of headers are not written.";
        "rotate.file.on.partition.change": Boolean, Is("true"), Low, ["true", "false"],
            "Kept: a file holds rows of one directory always.";
        "schema.partition.affix.type": String, Is("NONE"), Low, ["NONE"],
            "Not honoured: directories are not named by schema.";
    }
};

pub static HDFS: &[Def] = with_common! {
    "HDFS" {
        "hdfs.url": String, Is(""), High, [],
            "The file system. `file:` and what the worker maps to it with store.map are honoured.";
        "store.url": String, Null, High, [],
            "As hdfs.url, which comes first.";
        "format.class": Class, Is("io.confluent.connect.hdfs.avro.AvroFormat"), High, ["io.confluent.connect.hdfs.parquet.ParquetFormat"],
            "Parquet only; it must be named, as Connect's default is Avro.";
        "hadoop.conf.dir": String, Is(""), High, [],
            "Kept: no Hadoop is asked.";
        "hadoop.home": String, Is(""), High, [],
            "Kept: no Hadoop is asked.";
        "logs.dir": String, Is("logs"), High, [],
            "Kept: the commit log lies with the data, in _system.";
        "hdfs.authentication.kerberos": Boolean, Is("false"), High, ["false"],
            "Not honoured: no Hadoop is asked.";
        "connect.hdfs.principal": String, Is(""), High, [],
            "Kept: no Hadoop is asked.";
        "connect.hdfs.keytab": String, Is(""), High, [],
            "Kept: no Hadoop is asked.";
        "hdfs.namenode.principal": String, Is(""), High, [],
            "Kept: no Hadoop is asked.";
        "kerberos.ticket.renew.period.ms": Long, Is("3600000"), Low, [],
            "Kept: no Hadoop is asked.";
        "hive.integration": Boolean, Is("false"), High, ["false"],
            "Not honoured: engines read the tables as directories of Parquet.";
        "hive.metastore.uris": String, Is(""), High, [],
            "Kept: see hive.integration.";
        "hive.conf.dir": String, Is(""), High, [],
            "Kept: see hive.integration.";
        "hive.home": String, Is(""), High, [],
            "Kept: see hive.integration.";
        "hive.database": String, Is("default"), High, [],
            "Kept: see hive.integration.";
    }
};
