"""The jobs of `make bench-peers` as a Spark user writes them. Each reads what is there, and ends.

    spark-submit spark.py books BOOTSTRAP TOPIC OUT     XML messages of a topic -> one row for each book
    spark-submit spark.py lines IN OUT                  lines of files -> one row for each line
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, explode, from_xml
from pyspark.sql.types import (
    ArrayType,
    DateType,
    DecimalType,
    IntegerType,
    StringType,
    StructField,
    StructType,
)

# As many messages in one batch as there are, up to this: larger batches were no faster.
MESSAGES_A_BATCH = 250_000


def fields(*pairs):
    return StructType([StructField(name, of) for name, of in pairs])


AUTHOR = fields(("name", StringType()), ("country", StringType()))
BOOK = fields(
    ("_lang", StringType()),
    ("record_id", StringType()),
    ("title", StringType()),
    ("author", AUTHOR),
    ("publication_year", IntegerType()),
    ("published", DateType()),
    ("price", fields(("_VALUE", DecimalType(10, 2)))),
)
LIBRARY = fields(("book", ArrayType(BOOK)))


def books(spark, bootstrap, topic):
    messages = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", MESSAGES_A_BATCH)
        .load()
    )
    # How reading ends at the first bad message or goes on is not compared here: the messages have no flaw.
    library = from_xml(col("value").cast("string"), LIBRARY, {"mode": "FAILFAST"})
    book = explode(library["book"]).alias("b")
    return messages.select("topic", "partition", "offset", "timestamp", book).select(
        col("b.record_id"),
        col("b.title"),
        col("b.author.name").alias("name"),
        col("b.author.country").alias("country"),
        col("b._lang").alias("lang"),
        col("b.publication_year"),
        col("b.published"),
        col("b.price._VALUE").alias("price"),
        col("topic").alias("_topic"),
        col("partition").alias("_partition"),
        col("offset").alias("_offset"),
        col("timestamp").alias("_timestamp"),
    )


def main():
    job, *where, out = sys.argv[1:]
    spark = SparkSession.builder.appName(job).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    rows = books(spark, *where) if job == "books" else spark.readStream.text(where[0])
    query = (
        rows.writeStream.format("parquet")
        .option("path", out)
        .option("checkpointLocation", out + ".checkpoint")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    spark.stop()


main()
