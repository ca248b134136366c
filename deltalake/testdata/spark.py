"""Spark as a reader and writer of Delta tables, for spark_test.go; commands and
answers are JSON lines, one session serves them all. argv[1] is the folder of jars."""
import datetime
import glob
import hashlib
import json
import os
import struct
import sys

from pyspark.sql import SparkSession

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
names = ("delta-spark", "delta-storage", "delta-kernel", "unitycatalog")
jars = [j for j in glob.glob(sys.argv[1] + "/*.jar") if os.path.basename(j).startswith(names)]
b = SparkSession.builder.master("local[1]")
for k, v in {
    "spark.jars": ",".join(jars), "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog", "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.driver.memory": "1g",
    "spark.sql.shuffle.partitions": "2", "spark.databricks.delta.snapshotPartitions": "2", "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2", "spark.databricks.delta.retentionDurationCheck.enabled": "false",
}.items():
    b = b.config(k, v)
spark = b.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
EPOCH = datetime.datetime(1970, 1, 1)


def canonical(v, kind):
    if v is None:
        return b"N"
    if kind in ("long", "integer", "short", "byte"):
        return b"i%d" % v
    if kind in ("double", "float"):
        return b"f" + struct.pack(">d", v if v != 0 else 0.0).hex().encode()
    if kind.startswith("decimal"):
        s = format(v, "f")
        if "." in s:
            s = s.rstrip("0").rstrip(".")
        return b"m" + s.encode()
    if kind == "string":
        return b"s%d:" % len(v.encode()) + v.encode()
    if kind.startswith("timestamp"):
        return b"t%d" % ((v - EPOCH) // datetime.timedelta(microseconds=1))
    raise ValueError(kind)


def scala_map():
    return getattr(getattr(spark._jvm.scala.collection.immutable, "Map$"), "MODULE$").empty()


def validate(path):
    """Spark's own check of the newest version against its checksum file."""
    logs = spark._jvm.org.apache.spark.sql.delta.DeltaLog
    logs.clearCache()
    snap = logs.forTable(spark._jsparkSession, path).unsafeVolatileSnapshot()
    if not snap.checksumOpt().isDefined():
        raise ValueError("Spark does not take the checksum of version %d" % snap.version())
    if not snap.validateChecksum(scala_map()):
        raise ValueError("Spark does not agree with the checksum of version %d" % snap.version())
    c = snap.checksumOpt().get()
    files = snap.logSegment().deltas()
    names = [files.apply(i).getPath().getName() for i in range(files.size())]
    return {"version": snap.version(), "rows": c.numFiles(), "h": names + [snap.logSegment().checkpointProvider().toString()]}


def run(c):
    if c["cmd"] == "sql":
        spark.sql(c["sql"]).collect()
        return {}
    if c["cmd"] == "rows":
        return {"h": [json.dumps(r.asDict(True), default=str) for r in spark.sql(c["sql"]).collect()]}
    if c["cmd"] == "validate":
        return validate(c["path"])
    df = spark.read.format("delta")
    if "version" in c:
        df = df.option("versionAsOf", c["version"])
    df = df.load(c["path"])
    kinds = [f.dataType.simpleString() for f in df.schema.fields]
    kinds = [{"bigint": "long", "int": "integer"}.get(k, k) for k in kinds]
    total, rows = 0, 0
    for row in df.collect():
        enc = b"(" + b"".join(canonical(v, k) for v, k in zip(row, kinds)) + b")"
        total = (total + int.from_bytes(hashlib.sha256(enc).digest()[:16], "big")) % (1 << 128)
        rows += 1
    return {"rows": rows, "sum": "%032x" % total}


os.environ["TZ"] = "UTC"
import time

time.tzset()
for line in sys.stdin:
    try:
        answer = run(json.loads(line))
    except Exception as e:
        answer = {"error": ("%s: %s" % (type(e).__name__, e))[:900]}
    print(json.dumps(answer), file=answers, flush=True)
