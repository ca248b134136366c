"""One Spark session with Delta, in UTC, tuned for tables of a few rows."""
import glob
import os
import time

os.environ["TZ"] = "UTC"
time.tzset()

from pyspark.sql import SparkSession

NAMES = ("delta-spark", "delta-storage", "delta-kernel", "unitycatalog")  # the other jars clash with Spark's own


def session(jars, work, cores=1):
    """jars is the folder that deploy/real/spark.sh fills, work one for temporary files."""
    b = SparkSession.builder.master("local[%d]" % cores)
    for k, v in {
        "spark.jars": ",".join(j for j in glob.glob(jars + "/*.jar") if os.path.basename(j).startswith(NAMES)),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", "spark.driver.memory": "1g",
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": os.path.join(work, "warehouse"), "spark.local.dir": os.path.join(work, "local"),
        "spark.sql.shuffle.partitions": "1", "spark.databricks.delta.snapshotPartitions": "1", "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1", "spark.databricks.delta.vacuum.parallelDelete.enabled": "false",
        "spark.databricks.delta.retentionDurationCheck.enabled": "false", "spark.databricks.delta.schema.autoMerge.enabled": "false",
        "spark.sql.ui.explainMode": "simple", "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED", "spark.databricks.delta.stalenessLimit": "0",
        "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
        "spark.databricks.delta.incremental.commit.verify": "false",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Duser.timezone=UTC",
        # Hadoop's own checksum files would not fit what other writers put in their place.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }.items():
        b = b.config(k, v)
    spark = b.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")  # errors come back as exceptions
    return spark


def delta_log(spark, path):
    """Delta's own DeltaLog object of a table, without its cache."""
    log = spark._jvm.org.apache.spark.sql.delta.DeltaLog
    log.clearCache()
    return log.forTable(spark._jsparkSession, path)


def clean_up(spark, path):
    """Deletes expired log files, as Spark does after a checkpoint."""
    log = delta_log(spark, path)
    defaults = lambda name, first, last: [getattr(log, "%s$default$%d" % (name, i))() for i in range(first, last + 1)]
    log.cleanUpExpiredLogs(log.update(False, *defaults("update", 2, 3)), *defaults("cleanUpExpiredLogs", 2, 4))
