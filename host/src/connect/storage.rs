//! Keys of Confluent's storage sinks (S3, HDFS, GCS, Azure), by their documented names. `translate` says what each
//! becomes.

use super::framework::Def;
use super::framework::Value::{Is, Null, Required};
use super::framework::defs;

/// All of them begin with the same keys; a table is one slice, so they are written by one macro.
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
                    "Digits of the offset in a file's name (sink.file.offset.digits), which begins with its id: <id>.<topic>+<partition>+<offset>.";
                "parquet.codec": String, Is("snappy"), Low, ["snappy", "zstd", "gzip", "lz4", "none"],
                    "Compression of Parquet pages.";
                "enhanced.avro.schema.support": Boolean, Is("true"), Low, ["true", "false"],
                    "Kept for Connect's clients: there are no Avro schemas.";
                "connect.meta.data": Boolean, Is("true"), Low, ["true", "false"],
                    "Kept for Connect's clients: there are no Avro schemas.";
                "format.bytearray.extension": String, Is(".bin"), Low, [],
                    "Ending of the files of ByteArrayFormat (sink.file.extension).";
                "format.bytearray.separator": String, Null, Low, [],
                    "What stands behind each value of ByteArrayFormat (sink.file.separator); a line end where it is not given.";
                "json.decimal.format": String, Is("BASE64"), Low, ["BASE64", "NUMERIC"],
                    "Decimals in JSON are numbers with all their digits.";
                "schemas.cache.config": Int, Is("1000"), Low, [],
                    "Kept for Connect's clients.";
                "avro.codec": String, Is("null"), Low, [],
                    "Compression of the blocks of Avro files: null, deflate, snappy or zstandard.";
            }
            "Storage" {
                "storage.class": Class, Null, High, [],
                    "Kept: the store follows from the bucket or URL.";
                "topics.dir": String, Is("topics"), High, [],
                    "Directory of the tables below the root of the store. It names the zone.";
                "directory.delim": String, Is("/"), Medium, [],
                    "Only `/` is honoured.";
                "file.delim": String, Is("+"), Medium, [],
                    "Only `+` is honoured.";
            }
            "Partitioner" {
                "partitioner.class": Class, Is("io.confluent.connect.storage.partitioner.DefaultPartitioner"), High,
                    ["io.confluent.connect.storage.partitioner.DefaultPartitioner", "io.confluent.connect.storage.partitioner.FieldPartitioner", "io.confluent.connect.storage.partitioner.TimeBasedPartitioner", "io.confluent.connect.storage.partitioner.DailyPartitioner", "io.confluent.connect.storage.partitioner.HourlyPartitioner"],
                    "How rows are divided into directories, which have the names that Connect gives them (sink.partition.*).";
                "partition.field.name": List, Is(""), Medium, [],
                    "Fields of FieldPartitioner (sink.partition.columns). Values are not escaped, as in Connect.";
                "partition.duration.ms": Long, Is("-1"), Medium, [],
                    "Local times are rounded down to it (sink.partition.duration).";
                "path.format": String, Is(""), Medium, [],
                    "Directories of TimeBasedPartitioner, as a pattern of Joda-Time (sink.partition.path).";
                "locale": String, Is(""), Medium, [],
                    "Any where the pattern has numbers alone; English where it has names of months or days.";
                "timezone": String, Is(""), Medium, [],
                    "An IANA name or an offset (sink.partition.timezone).";
                "timestamp.extractor": String, Is("Wallclock"), Medium, ["Wallclock", "Record", "RecordField"],
                    "Which time decides: that of writing, of the record, or of a field.";
                "timestamp.field": String, Is("timestamp"), Medium, [],
                    "Field of RecordField: milliseconds since 1970, a timestamp, or ISO 8601. A record without it is refused (no_directory).";
            }
        }
    };
}

pub static S3: &[Def] = with_common! {
    "S3" {
        "s3.bucket.name": String, Required, High, [],
            "The bucket: the zone lies in s3://<bucket>/<topics.dir>.";
        "s3.region": String, Is("us-west-2"), Medium, [],
            "Region of the bucket (sink.store.region).";
        "store.url": String, Null, High, [],
            "Address of another service than Amazon's (sink.store.endpoint; http:// is allowed then). Or a directory (`file:///srv/lake`) that stands for the service: tables lie below <directory>/<bucket>/<topics.dir>.";
        "s3.part.size": Int, Is("26214400"), High, [],
            "Kept: memory.budget bounds what is buffered.";
        "format.class": Class, Required, High, ["io.confluent.connect.s3.format.parquet.ParquetFormat", "io.confluent.connect.s3.format.json.JsonFormat", "io.confluent.connect.s3.format.avro.AvroFormat", "io.confluent.connect.s3.format.bytearray.ByteArrayFormat"],
            "What the files are (sink.format): Parquet, JSON, Avro or bytes.";
        "aws.access.key.id": String, Is(""), High, [],
            "Id of an access key (sink.store.access.key.id). Without one, Weir looks for credentials where AWS's own tools look.";
        "aws.secret.access.key": Password, Is(""), High, [],
            "Its secret (sink.store.secret.access.key). Write it as a reference.";
        "s3.credentials.provider.class": Class, Null, Low, [],
            "Amazon's own providers that look into the environment, profiles, web identity, containers and instances, and the anonymous one, are honoured; those that assume a role by STS, and classes of others, are refused by name.";
        "s3.ssea.name": String, Is(""), Low, ["AES256", "aws:kms"],
            "Encryption by the service (sink.store.sse.type).";
        "s3.sse.kms.key.id": String, Is(""), Low, [],
            "Key of aws:kms (sink.store.sse.kms.key).";
        "s3.sse.customer.key": Password, Null, Low, [],
            "Not honoured: whoever reads would need the key.";
        "s3.acl.canned": String, Null, Low, [],
            "`private` only: the bucket says who may read.";
        "s3.wan.mode": Boolean, Is("false"), Medium, ["false"],
            "Not honoured: name the accelerated address in sink.store.endpoint.";
        "s3.compression.type": String, Is("none"), Low, ["none", "gzip"],
            "Compression of JSON and bytes (sink.compression).";
        "s3.compression.level": Int, Is("-1"), Low, [],
            "Level of gzip for s3.compression.type.";
        "s3.part.retries": Int, Is("3"), Medium, [],
            "Tries of a request beside the first (sink.store.retries). After them the pipeline pauses and tries again, without end.";
        "s3.retry.backoff.ms": Long, Is("200"), Low, [],
            "Kept: see retry.backoff.ms.";
        "s3.http.send.expect.continue": Boolean, Is("true"), Low, ["true", "false"],
            "Kept for Connect's clients: bodies are sent at once.";
        "s3.path.style.access.enabled": Boolean, Is("true"), Low, ["true", "false"],
            "Bucket in the path of a request (sink.store.path.style). Not given: where store.url names an address.";
        "s3.proxy.url": String, Is(""), Low, [],
            "Proxy through which the service is reached (sink.store.proxy).";
        "s3.proxy.user": String, Null, Low, [],
            "Not honoured: write a proxy's login into its URL, sink.store.proxy.";
        "s3.proxy.password": Password, Is(""), Low, [],
            "Not honoured: write a proxy's login into its URL, sink.store.proxy, as a reference.";
        "s3.object.tagging": Boolean, Is("false"), Low, ["false"],
            "Not honoured: offsets and counts are in the log.";
        "s3.elastic.buffer.enable": Boolean, Is("false"), Low, ["true", "false"],
            "Kept: memory.budget bounds what is buffered.";
        "behavior.on.null.values": String, Is("fail"), Low, ["fail", "ignore", "write"],
            "What happens to records without a value.";
        "keys.format.class": Class, Null, Low, [],
            "Kept: see store.kafka.keys.";
        "headers.format.class": Class, Null, Low, [],
            "Kept: see store.kafka.headers.";
        "store.kafka.keys": Boolean, Is("false"), Low, ["true", "false"],
            "Keys are in a column of the same rows, where a row has columns; refused where a line is a value alone.";
        "store.kafka.headers": Boolean, Is("false"), Low, ["true", "false"],
            "Headers are in a column of the same rows, where a row has columns; refused where a line is a value alone.";
        "rotate.file.on.partition.change": Boolean, Is("true"), Low, ["true", "false"],
            "Kept: a file holds rows of one directory always.";
        "schema.partition.affix.type": String, Is("NONE"), Low, ["NONE"],
            "Not honoured: directories are not named by schema.";
    }
};

pub static HDFS: &[Def] = with_common! {
    "HDFS" {
        "hdfs.url": String, Is(""), High, [],
            "The name node or name service: the zone lies in <hdfs.url>/<topics.dir>. `file:` names a directory.";
        "store.url": String, Null, High, [],
            "As hdfs.url, which comes first.";
        "format.class": Class, Is("io.confluent.connect.hdfs.avro.AvroFormat"), High, ["io.confluent.connect.hdfs.parquet.ParquetFormat", "io.confluent.connect.hdfs.avro.AvroFormat", "io.confluent.connect.hdfs.json.JsonFormat", "io.confluent.connect.hdfs.string.StringFormat"],
            "What the files are (sink.format): Parquet, JSON, Avro or texts.";
        "hadoop.conf.dir": String, Is(""), High, [],
            "Directory of core-site.xml and hdfs-site.xml (sink.store.hadoop.conf.dir).";
        "hadoop.home": String, Is(""), High, [],
            "Kept for Connect's clients: HDFS is spoken without Hadoop's libraries.";
        "logs.dir": String, Is("logs"), High, [],
            "Kept: the commit log lies with the data, in _system.";
        "hdfs.authentication.kerberos": Boolean, Is("false"), High, ["true", "false"],
            "Log in with connect.hdfs.principal and connect.hdfs.keytab.";
        "connect.hdfs.principal": String, Is(""), High, [],
            "Principal of the keytab (sink.store.kerberos.principal).";
        "connect.hdfs.keytab": String, Is(""), High, [],
            "File of keys (sink.store.kerberos.keytab).";
        "hdfs.namenode.principal": String, Is(""), High, [],
            "Kept for Connect's clients: the name node says which service it is, and Kerberos proves it.";
        "kerberos.ticket.renew.period.ms": Long, Is("3600000"), Low, [],
            "Kept for Connect's clients: the Kerberos library takes new tickets from the keytab.";
        "hive.integration": Boolean, Is("false"), High, ["true", "false"],
            "No metastore is told of tables and partitions: declare the directory as a table there.";
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

/// Keys that the clouds' classes have in common beside the common keys; S3 has more.
macro_rules! with_cloud {
    ($($mine:tt)*) => {
        with_common! {
            $($mine)*
            "Files" {
                "behavior.on.null.values": String, Is("fail"), Low, ["fail", "ignore", "write"],
                    "What happens to records without a value.";
                "store.kafka.keys": Boolean, Is("false"), Low, ["true", "false"],
                    "Keys are in a column of the same rows, where a row has columns; refused where a line is a value alone.";
                "store.kafka.headers": Boolean, Is("false"), Low, ["true", "false"],
                    "Headers are in a column of the same rows, where a row has columns; refused where a line is a value alone.";
                "keys.format.class": Class, Null, Low, [],
                    "Kept: see store.kafka.keys.";
                "headers.format.class": Class, Null, Low, [],
                    "Kept: see store.kafka.headers.";
            }
        }
    };
}

pub static GCS: &[Def] = with_cloud! {
    "GCS" {
        "gcs.bucket.name": String, Required, High, [],
            "The bucket: the zone lies in gs://<bucket>/<topics.dir>.";
        "gcs.credentials.path": String, Is(""), High, [],
            "JSON file of a service account (sink.store.credentials.file). Without one GOOGLE_APPLICATION_CREDENTIALS, gcloud's login and the machine's own account are looked for.";
        "gcs.credentials.json": Password, Null, High, [],
            "Not honoured: credentials are read from a file, gcs.credentials.path.";
        "gcs.credentials.provider.class": Class, Null, Low, [],
            "Google's own provider is honoured; other classes are refused by name.";
        "store.url": String, Null, High, [],
            "Address of another service than Google's (sink.store.endpoint), or a directory that stands for it.";
        "format.class": Class, Required, High, ["io.confluent.connect.gcs.format.parquet.ParquetFormat", "io.confluent.connect.gcs.format.json.JsonFormat", "io.confluent.connect.gcs.format.avro.AvroFormat", "io.confluent.connect.gcs.format.bytearray.ByteArrayFormat"],
            "What the files are (sink.format): Parquet, JSON, Avro or bytes.";
        "gcs.part.size": Int, Is("26214400"), High, [],
            "Kept: parts have one size.";
        "gcs.part.retries": Int, Is("3"), Medium, [],
            "Tries of a request beside the first (sink.store.retries).";
        "gcs.retry.backoff.ms": Long, Is("200"), Low, [],
            "Kept: see retry.backoff.ms.";
        "gcs.proxy.url": String, Is(""), Low, [],
            "Proxy through which the service is reached (sink.store.proxy).";
        "gcs.proxy.user": String, Null, Low, [],
            "Not honoured: write a proxy's login into its URL, sink.store.proxy.";
        "gcs.proxy.password": Password, Is(""), Low, [],
            "Not honoured: write a proxy's login into its URL, sink.store.proxy, as a reference.";
    }
};

pub static AZURE_BLOB: &[Def] = with_cloud! {
    "Azure" {
        "azblob.account.name": String, Required, High, [],
            "The storage account (sink.store.account.name).";
        "azblob.account.key": Password, Null, High, [],
            "Key of the account (sink.store.account.key). Write it as a reference.";
        "azblob.sas.token": Password, Null, High, [],
            "Shared access signature (sink.store.sas.token). Write it as a reference.";
        "azblob.container.name": String, Is("default"), Medium, [],
            "The container: the zone lies in az://<container>/<topics.dir>.";
        "store.url": String, Null, High, [],
            "Address of another service than Azure's (sink.store.endpoint), or a directory that stands for it.";
        "format.class": Class, Required, High, ["io.confluent.connect.azure.blob.format.parquet.ParquetFormat", "io.confluent.connect.azure.blob.format.json.JsonFormat", "io.confluent.connect.azure.blob.format.avro.AvroFormat", "io.confluent.connect.azure.blob.format.bytearray.ByteArrayFormat"],
            "What the files are (sink.format): Parquet, JSON, Avro or bytes.";
        "azblob.block.size": Int, Is("26214400"), Medium, [],
            "Kept: parts have one size.";
        "azblob.retry.retries": Int, Is("3"), Medium, [],
            "Tries of a request beside the first (sink.store.retries).";
        "azblob.retry.backoff.ms": Long, Is("4000"), Low, [],
            "Kept: see retry.backoff.ms.";
        "azblob.retry.max.backoff.ms": Long, Is("120000"), Low, [],
            "Kept: see retry.backoff.ms.";
        "azblob.retry.type": String, Is("EXPONENTIAL"), Low, ["EXPONENTIAL", "FIXED"],
            "Kept: see retry.backoff.ms.";
        "azblob.connection.timeout.ms": Long, Is("30000"), Low, [],
            "Longest time for a connection (sink.store.connect.timeout).";
        "azblob.proxy.url": String, Is(""), Low, [],
            "Proxy through which the service is reached (sink.store.proxy).";
        "azblob.proxy.user": String, Null, Low, [],
            "Not honoured: write a proxy's login into its URL, sink.store.proxy.";
        "azblob.proxy.password": Password, Is(""), Low, [],
            "Not honoured: write a proxy's login into its URL, sink.store.proxy, as a reference.";
    }
};

pub static AZURE_GEN2: &[Def] = with_cloud! {
    "Azure" {
        "azure.datalake.gen2.account.name": String, Required, High, [],
            "The storage account (sink.store.account.name). The first directory of topics.dir is the container: the zone lies in az://<topics.dir>.";
        "azure.datalake.gen2.access.key": Password, Null, High, [],
            "Key of the account (sink.store.account.key). Write it as a reference.";
        "azure.datalake.gen2.sas.key": Password, Null, High, [],
            "Shared access signature (sink.store.sas.token). Write it as a reference.";
        "azure.datalake.gen2.client.id": String, Null, High, [],
            "Id of a service principal (sink.store.client.id).";
        "azure.datalake.gen2.client.key": Password, Null, High, [],
            "Its secret (sink.store.client.secret). Write it as a reference.";
        "azure.datalake.gen2.token.endpoint": String, Null, High, [],
            "Its tenant is taken from it (sink.store.tenant.id): https://login.microsoftonline.com/<tenant>/oauth2/token.";
        "store.url": String, Null, High, [],
            "Address of another service than Azure's (sink.store.endpoint), or a directory that stands for it.";
        "format.class": Class, Required, High, ["io.confluent.connect.azure.storage.format.parquet.ParquetFormat", "io.confluent.connect.azure.storage.format.json.JsonFormat", "io.confluent.connect.azure.storage.format.avro.AvroFormat", "io.confluent.connect.azure.storage.format.bytearray.ByteArrayFormat"],
            "What the files are (sink.format): Parquet, JSON, Avro or bytes.";
    }
};

pub static AZURE_GEN1: &[Def] = with_cloud! {
    "Azure" {
        "azure.datalake.account.name": String, Required, High, [],
            "Refused unless sink.url or store.map names another place: Azure Data Lake Storage Gen1 was retired on 2024-02-29.";
        "azure.datalake.client.id": String, Null, High, [],
            "Kept for Connect's clients: see azure.datalake.account.name.";
        "azure.datalake.client.key": Password, Null, High, [],
            "Kept for Connect's clients: see azure.datalake.account.name.";
        "azure.datalake.token.endpoint": String, Null, High, [],
            "Kept for Connect's clients: see azure.datalake.account.name.";
        "store.url": String, Null, High, [],
            "A directory that stands for the service.";
        "format.class": Class, Required, High, ["io.confluent.connect.azure.storage.format.parquet.ParquetFormat", "io.confluent.connect.azure.storage.format.json.JsonFormat", "io.confluent.connect.azure.storage.format.avro.AvroFormat", "io.confluent.connect.azure.storage.format.bytearray.ByteArrayFormat"],
            "What the files are (sink.format): Parquet, JSON, Avro or bytes.";
    }
};

/// Keys of Aiven's sinks that both have.
macro_rules! with_aiven {
    ($codec:literal, $($mine:tt)*) => {
        defs! {
            $($mine)*
            "Files" {
                "file.name.template": String, Is("{{topic}}-{{partition}}-{{start_offset}}"), Medium, [],
                    "Its directories are honoured (sink.url, sink.partition.*), those of times and of the partition; a file is called <id>.<topic>+<partition>+<offset>.";
                "file.name.prefix": String, Is(""), Medium, [],
                    "Directory of the tables below the bucket, as far as it ends with a slash.";
                "file.compression.type": String, Is($codec), Medium, ["none", "gzip", "snappy", "zstd"],
                    "Compression of the files, or of what is inside of them (sink.compression).";
                "file.max.records": Int, Is("0"), Medium, [],
                    "Rows after which files close and commit (sink.rotate.rows). 0: by size and age.";
                "file.name.timestamp.timezone": String, Is("Z"), Low, [],
                    "Time zone of times in directories (sink.partition.timezone).";
                "file.name.timestamp.source": String, Is("wallclock"), Low, ["wallclock", "event"],
                    "Time of writing, or of the record.";
                "format.output.type": String, Is("csv"), Medium, ["csv", "json", "jsonl", "parquet", "avro"],
                    "What the files are (sink.format). `json` too is one value a line.";
                "format.output.fields": List, Is("value"), Medium, ["key", "value", "offset", "timestamp", "headers"],
                    "What of a record is written: `value`. Others are refused by name; Parquet files have columns for them (sink.keep.value).";
                "format.output.fields.value.encoding": String, Is("base64"), Medium, ["none", "base64"],
                    "Values are written as they are, never as base64.";
                "format.output.envelope": Boolean, Is("true"), Low, ["true", "false"],
                    "A line is the value alone, as with `false`.";
                "kafka.retry.backoff.ms": Long, Null, Low, [],
                    "First wait before a store or broker that is away is tried again.";
                "avro.codec": String, Is("null"), Low, [],
                    "Compression of the blocks of Avro files: null, deflate, snappy or zstandard.";
            }
        }
    };
}

pub static AIVEN_S3: &[Def] = with_aiven! {
    "gzip",
    "S3" {
        "aws.s3.bucket.name": String, Required, High, [],
            "The bucket: the zone lies in s3://<bucket>/<directories before the topic>.";
        "aws.s3.region": String, Null, Medium, [],
            "Region of the bucket (sink.store.region).";
        "aws.s3.endpoint": String, Null, Low, [],
            "Address of another service than Amazon's (sink.store.endpoint), or a directory that stands for it.";
        "aws.s3.prefix": String, Null, Low, [],
            "The older name of file.name.prefix.";
        "aws.access.key.id": String, Is(""), High, [],
            "Id of an access key (sink.store.access.key.id).";
        "aws.secret.access.key": Password, Is(""), High, [],
            "Its secret (sink.store.secret.access.key). Write it as a reference.";
        "aws.s3.sse.algorithm": String, Null, Low, [],
            "Encryption by the service (sink.store.sse.type).";
        "aws.s3.part.size.bytes": Int, Is("5242880"), Low, [],
            "Kept: parts have one size.";
        "aws.s3.backoff.delay.ms": Long, Is("100"), Low, [],
            "Kept: see retry.backoff.";
        "aws.s3.backoff.max.delay.ms": Long, Is("20000"), Low, [],
            "Kept: see retry.backoff.";
        "aws.s3.backoff.max.retries": Int, Is("3"), Low, [],
            "Tries of a request beside the first (sink.store.retries).";
        "aws.credentials.provider": Class, Null, Low, [],
            "Refused: give the process the credentials, or name a key.";
        "aws.sts.role.arn": String, Null, Low, [],
            "Refused: give the process the role itself.";
    }
};

pub static AIVEN_GCS: &[Def] = with_aiven! {
    "none",
    "GCS" {
        "gcs.bucket.name": String, Required, High, [],
            "The bucket: the zone lies in gs://<bucket>/<directories before the topic>.";
        "gcs.credentials.path": String, Null, High, [],
            "JSON file of a service account (sink.store.credentials.file).";
        "gcs.credentials.json": Password, Null, High, [],
            "Refused: credentials are read from a file, gcs.credentials.path.";
        "gcs.credentials.default": Boolean, Is("false"), Low, ["true", "false"],
            "Without a file credentials are looked for where Google's own tools look.";
        "gcs.endpoint": String, Null, Low, [],
            "Address of another service than Google's (sink.store.endpoint), or a directory that stands for it.";
        "gcs.object.content.encoding": String, Null, Low, [],
            "Refused: objects have no Content-Encoding.";
    }
};
