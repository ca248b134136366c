"""Spark as a reader and writer of Delta tables, for history_test.go: commands as in
interop.py. argv: the folder of jars, a folder for temporary files."""
import json
import sys

from pyspark.sql.types import StructType

import rows
import sparkdelta

out = rows.answers()
spark = sparkdelta.session(sys.argv[1], sys.argv[2])
from delta.tables import DeltaTable


def frame(c):
    """The rows of a command as a frame of one partition."""
    fields = c["schema"]["fields"]
    values = [tuple(rows.value(v, f["type"], lambda pairs: tuple(x for _, x in pairs)) for f, v in zip(fields, r)) for r in c["rows"]]
    return spark.createDataFrame(values, StructType.fromJson(c["schema"])).coalesce(1)


def read(path, version):
    df = spark.read.format("delta").option("versionAsOf", version).load(path)
    return df.columns, rows.spark_rows(df)


def create(c):
    b = DeltaTable.create(spark).location(c["path"]).addColumns(StructType.fromJson(c["schema"]))
    if c["partition"]:
        b = b.partitionedBy(*c["partition"])
    if c.get("cluster"):
        b = b.clusterBy(*c["cluster"])
    for k, v in c["props"].items():
        b = b.property(k, v)
    b.execute()


def merge(t, c):
    frame(c).createOrReplaceTempView("source")
    text = "MERGE INTO %s t USING source s ON %s" % (t, c["on"])
    for k in c["clauses"]:
        do, sets = k["action"], k.get("set")
        text += {"matched delete": " WHEN MATCHED%s THEN DELETE", "matched update": " WHEN MATCHED%s THEN UPDATE SET ", "insert": " WHEN NOT MATCHED%s THEN INSERT *",
                 "source delete": " WHEN NOT MATCHED BY SOURCE%s THEN DELETE", "source update": " WHEN NOT MATCHED BY SOURCE%s THEN UPDATE SET "}[do] % (" AND (%s)" % k["if"] if k.get("if") else "")
        if "update" in do:
            text += ", ".join("t.%s = %s" % kv for kv in sets.items()) if sets else "*"
    spark.sql(text).collect()


def scala_map():
    return getattr(getattr(spark._jvm.scala.collection.immutable, "Map$"), "MODULE$").empty()


def validate(path):
    """Spark's own check of the newest version against its checksum file."""
    snap = sparkdelta.delta_log(spark, path).unsafeVolatileSnapshot()
    if not snap.checksumOpt().isDefined():
        raise ValueError("Spark does not take the checksum of version %d" % snap.version())
    if not snap.validateChecksum(scala_map()):
        raise ValueError("Spark does not agree with the checksum of version %d" % snap.version())
    files = snap.logSegment().deltas()
    names = [files.apply(i).getPath().getName() for i in range(files.size())]
    return {"number": snap.version(), "count": snap.checksumOpt().get().numFiles(), "h": names + [snap.logSegment().checkpointProvider().toString()]}


def run(c):
    cmd, path = c["cmd"], c.get("path")
    t = "delta.`%s`" % path
    if cmd == "sql":
        spark.sql(c["sql"]).collect()
        return {}
    if cmd == "rows":
        return {"h": [json.dumps(r.asDict(True), default=str) for r in spark.sql(c["sql"]).collect()]}
    if cmd == "validate":
        return validate(path)
    if cmd == "read":
        return rows.every(c["versions"], lambda v: read(path, v))
    if cmd == "create":
        create(c)
    elif cmd == "append":
        w = frame(c).write.format("delta").mode("append")
        if c.get("merge"):
            w = w.option("mergeSchema", "true")
        if "app" in c:
            w = w.option("txnAppId", c["app"]).option("txnVersion", c["txn"])
        w.save(path)
    elif cmd == "overwrite":
        w = frame(c).write.format("delta").mode("overwrite")
        if c.get("where"):
            w = w.option("replaceWhere", c["where"])
        if c.get("dynamic"):
            w = w.option("partitionOverwriteMode", "dynamic")
        w.save(path)
    elif cmd == "merge":
        merge(t, c)
    elif cmd == "checkpoint":
        sparkdelta.delta_log(spark, path).checkpoint()
    elif cmd == "cleanup":
        sparkdelta.clean_up(spark, path)
    else:
        spark.sql({
            "delete": "DELETE FROM {t} WHERE {where}", "update": "UPDATE {t} SET {sets} WHERE {where}", "optimize": "OPTIMIZE {t} {zorders}",
            "vacuum": "VACUUM {t} {lites} RETAIN 0 HOURS", "restore": "RESTORE TABLE {t} TO VERSION AS OF {version}", "add column": "ALTER TABLE {t} ADD COLUMNS ({name} {type})",
            "widen": "ALTER TABLE {t} ALTER COLUMN {name} TYPE {type}", "rename": "ALTER TABLE {t} RENAME COLUMN {name} TO {to}", "drop": "ALTER TABLE {t} DROP COLUMN {name}",
            "property": "ALTER TABLE {t} SET TBLPROPERTIES ('{key}' = '{value}')", "constraint": "ALTER TABLE {t} ADD CONSTRAINT {name} CHECK ({where})",
        }[cmd].format(t=t, sets=", ".join("%s = %s" % kv for kv in c.get("set", {}).items()), zorders="ZORDER BY (%s)" % ", ".join(c["zorder"]) if c.get("zorder") else "",
                      lites="LITE" if c.get("lite") else "FULL", **{k: v for k, v in c.items() if k not in ("cmd", "path")})).collect()
    return {}


rows.serve(out, run)
