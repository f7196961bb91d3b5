//! Keys and values of Connect's storage sinks that are refused: each by the name in the config, with the reason.

use weir::config::problem::NOT_TRANSLATED;
use weir::connect::{
    AZURE_BLOB_SINK, AZURE_GEN1_SINK, AZURE_GEN2_SINK, GCS_SINK, HDFS_SINK, HDFS3_SINK,
};
use weir::daemon;

use crate::convert::{base, defaults};

/// Changes to [`base`], the key that is refused, a word of the message.
type Refused = (
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);
const REFUSED: &[Refused] = &[
    (&[("topics", "")], "topics", "missing"),
    (&[("topics.regex", "a.*")], "topics.regex", "also says"),
    (
        &[("topics", ""), ("topics.regex", "(?=a)b")],
        "topics.regex",
        "look-around",
    ),
    (&[("tasks.max", "300")], "tasks.max", "256"),
    (
        &[("format.class", "com.example.OrcFormat")],
        "format.class",
        "`OrcFormat` is a Java class",
    ),
    (
        &[
            (
                "format.class",
                "io.confluent.connect.s3.format.json.JsonFormat",
            ),
            ("store.kafka.keys", "true"),
        ],
        "store.kafka.keys",
        "a value and nothing else",
    ),
    (
        &[
            (
                "format.class",
                "io.confluent.connect.s3.format.json.JsonFormat",
            ),
            ("s3.compression.type", "lzo"),
        ],
        "s3.compression.type",
        "gzip or none",
    ),
    (
        &[
            (
                "format.class",
                "io.confluent.connect.s3.format.avro.AvroFormat",
            ),
            ("avro.codec", "bzip2"),
        ],
        "avro.codec",
        "null, deflate, snappy or zstandard",
    ),
    (&[("format.class", "")], "format.class", "missing"),
    (&[("s3.bucket.name", "")], "s3.bucket.name", "missing"),
    (
        &[("s3.bucket.name", "x"), ("store.url", "minio:9000")],
        "store.url",
        "no address",
    ),
    (
        &[
            ("s3.bucket.name", "x"),
            (
                "s3.credentials.provider.class",
                "io.confluent.connect.s3.auth.AwsAssumeRoleCredentialsProvider",
            ),
            (
                "s3.credentials.provider.sts.role.arn",
                "arn:aws:iam::1:role/r",
            ),
        ],
        "s3.credentials.provider.class",
        "no role is assumed",
    ),
    (
        &[
            ("s3.bucket.name", "x"),
            ("s3.credentials.provider.class", "com.example.Mine"),
        ],
        "s3.credentials.provider.class",
        "Java class",
    ),
    (
        &[("s3.sse.customer.key", "${env:PATH}")],
        "s3.sse.customer.key",
        "every reader",
    ),
    (
        &[("s3.object.tagging", "true")],
        "s3.object.tagging",
        "in the log",
    ),
    (
        &[("s3.bucket.name", "x"), ("s3.acl.canned", "public-read")],
        "s3.acl.canned",
        "public-read",
    ),
    (
        &[("s3.bucket.name", "x"), ("s3.wan.mode", "true")],
        "s3.wan.mode",
        "acceleration",
    ),
    (
        &[("s3.proxy.url", "http://p:1"), ("s3.proxy.user", "u")],
        "s3.proxy.user",
        "in its URL",
    ),
    (
        &[("s3.bucket.name", "x"), ("s3.ssea.name", "rot13")],
        "s3.ssea.name",
        "sink.store.sse.type",
    ),
    (
        &[
            ("connector.class", GCS_SINK),
            ("gcs.bucket.name", "b"),
            ("gcs.credentials.json", "${env:PATH}"),
        ],
        "gcs.credentials.json",
        "from a file",
    ),
    (
        &[
            ("connector.class", AZURE_GEN1_SINK),
            ("azure.datalake.account.name", "a"),
        ],
        "azure.datalake.account.name",
        "retired",
    ),
    (
        &[
            ("connector.class", AZURE_GEN2_SINK),
            ("azure.datalake.gen2.account.name", "a"),
            ("azure.datalake.gen2.client.id", "c"),
            (
                "azure.datalake.gen2.token.endpoint",
                "https://sts.example/t",
            ),
        ],
        "azure.datalake.gen2.token.endpoint",
        "no token endpoint",
    ),
    (
        &[("connector.class", AZURE_BLOB_SINK)],
        "azblob.account.name",
        "missing",
    ),
    (
        &[
            ("connector.class", HDFS_SINK),
            ("hdfs.url", "viewfs://cluster/x"),
        ],
        "hdfs.url",
        "no store that is spoken here",
    ),
    (
        &[
            ("connector.class", HDFS3_SINK),
            ("hdfs.url", "hdfs://nn"),
            ("hdfs.authentication.kerberos", "true"),
            ("connect.hdfs.principal", "weir@EXAMPLE"),
        ],
        "connect.hdfs.keytab",
        "missing",
    ),
    (&[("flush.size", "")], "flush.size", "missing"),
    (&[("flush.size", "x")], "flush.size", "integer"),
    (
        &[("parquet.codec", "brotli")],
        "parquet.codec",
        "snappy, zstd, gzip, lz4 or none",
    ),
    (
        &[("rotate.interval.ms", "5")],
        "rotate.interval.ms",
        "100 ms",
    ),
    (
        &[(
            "partitioner.class",
            "io.confluent.connect.storage.partitioner.FieldPartitioner",
        )],
        "partition.field.name",
        "needs the fields",
    ),
    (
        &[("partitioner.class", "com.example.Mine")],
        "partitioner.class",
        "Java class",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.HourlyPartitioner",
            ),
            ("timezone", "Mars/Olympus"),
        ],
        "timezone",
        "no time zone",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.HourlyPartitioner",
            ),
            ("timestamp.extractor", "com.example.Extractor"),
        ],
        "timestamp.extractor",
        "Java class",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.TimeBasedPartitioner",
            ),
            ("path.format", "year=YYYY"),
        ],
        "path.format",
        "`r` is no letter",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.TimeBasedPartitioner",
            ),
            ("path.format", "YYYY/MMM"),
            ("locale", "de_DE"),
        ],
        "locale",
        "names of months",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.TimeBasedPartitioner",
            ),
            ("partition.duration.ms", "0"),
        ],
        "partition.duration.ms",
        "1 or more",
    ),
    (&[("value.converter", "")], "value.converter", "missing"),
    (
        &[(
            "value.converter",
            "io.confluent.connect.protobuf.ProtobufConverter",
        )],
        "value.converter",
        "schema registry",
    ),
    (
        &[(
            "value.converter",
            "io.confluent.connect.json.JsonSchemaConverter",
        )],
        "value.converter",
        "schema registry",
    ),
    (
        &[(
            "value.converter",
            "org.apache.kafka.connect.converters.LongConverter",
        )],
        "value.converter",
        "number",
    ),
    (
        &[
            (
                "value.converter",
                "org.apache.kafka.connect.json.JsonConverter",
            ),
            ("value.converter.schemas.enable", "false"),
            ("transforms", "a"),
            (
                "transforms.a.type",
                "org.apache.kafka.connect.transforms.Cast$Value",
            ),
            ("transforms.a.spec", "a:int32"),
        ],
        "value.converter",
        "no columns",
    ),
    (
        &[("value.converter", "io.confluent.connect.avro.AvroConverter")],
        "value.converter.schema.registry.url",
        "missing",
    ),
    (
        &[
            ("value.converter", "io.confluent.connect.avro.AvroConverter"),
            ("value.converter.schema.registry.url", "https://r:8081"),
            (
                "value.converter.schema.registry.ssl.truststore.location",
                "/etc/trust.jks",
            ),
        ],
        "value.converter.schema.registry.ssl.truststore.location",
        "not read",
    ),
    (
        &[
            ("value.converter", "io.confluent.connect.avro.AvroConverter"),
            ("value.converter.schema.registry.url", "https://r:8081"),
            (
                "value.converter.basic.auth.credentials.source",
                "SASL_INHERIT",
            ),
        ],
        "value.converter.basic.auth.credentials.source",
        "another client",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "com.example.Rule$Value"),
        ],
        "transforms.a.type",
        "Java class",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "cast"),
            ("transforms.a.plugin.version", "[0.1,)"),
        ],
        "transforms.a.type",
        "plugin",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "cast"),
            ("transforms.a.predicate", "p"),
        ],
        "transforms.a.predicate",
        "every record",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "cast"),
            ("transforms.a.negate", "true"),
        ],
        "transforms.a.negate",
        "negate",
    ),
    (
        &[
            ("transforms", "a"),
            (
                "transforms.a.type",
                "org.apache.kafka.connect.transforms.ValueToKey",
            ),
            ("transforms.a.fields", "x"),
        ],
        "transforms.a.type",
        "kept whole",
    ),
    (
        &[
            ("transforms", "a"),
            (
                "transforms.a.type",
                "org.apache.kafka.connect.transforms.TimestampRouter",
            ),
        ],
        "transforms.a.type",
        "named by topics",
    ),
    (
        &[("behavior.on.null.values", "keep")],
        "behavior.on.null.values",
        "keep",
    ),
    (
        &[("errors.tolerance", "most")],
        "errors.tolerance",
        "`none` or `all`",
    ),
    (
        &[("consumer.override.ssl.keystore.type", "JKS")],
        "consumer.override.ssl.keystore.type",
        "key store",
    ),
    (
        &[(
            "connector.class",
            "io.confluent.connect.jdbc.JdbcSinkConnector",
        )],
        "connector.class",
        "no connector",
    ),
];

#[test]
fn each_refusal_names_the_key_that_was_given_and_why() {
    assert!(daemon::job_of(&base(), &defaults()).is_ok());
    for (changes, key, word) in REFUSED {
        let mut config = base();
        config.extend(
            changes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        let problems = daemon::job_of(&config, &defaults()).expect_err(key);
        let told = problems.iter().find(|p| p.is_error() && p.key == *key);
        let told = told.unwrap_or_else(|| panic!("{changes:?}: {problems:#?}"));
        assert!(told.message.contains(word), "{changes:?}: {}", told.message);
        if told.code == NOT_TRANSLATED {
            assert!(
                told.hint.as_ref().is_some_and(|hint| hint.len() > 5),
                "{told}"
            );
        }
    }
}
