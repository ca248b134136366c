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
from pyspark.sql.functions import lit


def ddl(t):
    """A Delta type as SQL names it."""
    if not isinstance(t, dict):
        return {"long": "BIGINT", "integer": "INT", "short": "SMALLINT", "byte": "TINYINT"}.get(t, t)
    if t["type"] == "array":
        return "ARRAY<%s>" % ddl(t["elementType"])
    if t["type"] == "map":
        return "MAP<%s, %s>" % (ddl(t["keyType"]), ddl(t["valueType"]))
    return "STRUCT<%s>" % ", ".join("`%s`: %s" % (f["name"], ddl(f["type"])) for f in t["fields"])


def literal(v, t):
    """A value of rows.py as SQL."""
    if v is None:
        return "CAST(NULL AS %s)" % ddl(t)
    if isinstance(t, dict):
        if t["type"] == "array":
            return "CAST(array(%s) AS %s)" % (", ".join(literal(x, t["elementType"]) for x in v), ddl(t))
        if t["type"] == "map":
            return "CAST(map(%s) AS %s)" % (", ".join(literal(k, t["keyType"]) + ", " + literal(x, t["valueType"]) for k, x in v), ddl(t))
        return "named_struct(%s)" % ", ".join("'%s', %s" % (f["name"], literal(x, f["type"])) for f, x in zip(t["fields"], v))
    if t == "string":
        return "CAST(X'%s' AS STRING)" % v.encode().hex()
    if t == "binary":
        return "X'%s'" % v
    if t == "date":
        return "date_from_unix_date(%d)" % v
    if t.startswith("timestamp"):
        return "CAST(timestamp_micros(%d) AS %s)" % (v, t)
    return "CAST('%s' AS %s)" % (v, ddl(t))


def frame(c):
    """The rows of a command as a frame of one partition, without a Python worker."""
    fields = c["schema"]["fields"]
    names = ", ".join("`%s`" % f["name"] for f in fields)
    if not c["rows"]:
        return spark.sql("SELECT %s WHERE false" % ", ".join("%s AS `%s`" % (literal(None, f["type"]), f["name"]) for f in fields))
    values = ", ".join("(%s)" % ", ".join(literal(v, f["type"]) for f, v in zip(fields, r)) for r in c["rows"])
    return spark.sql("SELECT * FROM VALUES %s AS v(%s)" % (values, names)).coalesce(1)


def read(path, version):
    df = spark.read.format("delta").option("versionAsOf", version).load(path)
    return df.columns, rows.spark_rows(df)


def read_all(path, versions):
    """Reads versions as few queries: those of one schema together, and again one by
    one where that fails."""
    frames, groups = {}, {}
    for v in versions:
        try:
            df = spark.read.format("delta").option("versionAsOf", v).load(path)
            frames[v] = df
            groups.setdefault(df.schema.json(), []).append(v)
        except Exception:
            pass  # it is told below
    done = {}
    for same in groups.values():
        whole = None
        for v in same:
            df = frames[v].select(lit(v).alias("__version"), "*")
            whole = df if whole is None else whole.unionAll(df)
        try:
            got = rows.spark_rows(whole)
        except Exception:
            continue
        for v in same:
            done[v] = (frames[v].columns, [r[1:] for r in got if r[0] == v])
    return rows.every(versions, lambda v: done.get(v) or read(path, v))


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
        return read_all(path, c["versions"])
    if cmd == "feed":
        df = spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", c["from"]).option("endingVersion", c["to"]).load(path)
        df = df.drop("_commit_timestamp")
        return {"versions": [{"version": c["to"], "columns": df.columns, "rows": rows.spark_rows(df)}]}
    if cmd == "create":
        create(c)
    elif cmd == "append" and c.get("fill"):  # only SQL fills columns that rows lack
        frame(c).createOrReplaceTempView("source")
        spark.sql("INSERT INTO %s (%s) SELECT * FROM source" % (t, ", ".join("`%s`" % f["name"] for f in c["schema"]["fields"]))).collect()
    elif cmd == "clone":
        spark.sql("CREATE TABLE delta.`%s` SHALLOW CLONE %s" % (c["to"], t)).collect()
    elif cmd == "overwrite schema":
        frame(c).write.format("delta").mode("overwrite").option("overwriteSchema", "true").partitionBy(*c["partition"]).save(path)
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
