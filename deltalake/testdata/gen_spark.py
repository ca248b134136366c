"""Writes the committed tables of Spark with Delta: gen_spark.py OUT [NAME...].

deploy/real/spark.sh run deltalake/testdata/gen_spark.py deltalake/testdata/tables

Each function makes one table of one feature; what Spark reads from it, at every
version, is what the test expects.
"""
import datetime
import json
import os
import shutil
import struct
import sys
import tempfile

import pyspark

import rows
import sparkdelta

work = tempfile.mkdtemp(prefix="spark-")
spark = sparkdelta.session(os.path.dirname(os.environ["WEIR_SPARK_JARS"].split(",")[0]), work)


def sql(text):
    return spark.sql(text)


class setting:
    """Session options for a while; __ stands for a point."""

    def __init__(self, **kw):
        self.kw = {k.replace("__", "."): v for k, v in kw.items()}

    def __enter__(self):
        for k, v in self.kw.items():
            spark.conf.set(k, v)

    def __exit__(self, *_):
        for k in self.kw:
            spark.conf.unset(k)


def create(t, columns, by="", **props):
    text = ", ".join("'delta.%s' = '%s'" % (k.replace("__", "."), v) for k, v in props.items())
    sql("CREATE TABLE %s (%s) USING delta %s %s" % (t, columns, by, "TBLPROPERTIES (%s)" % text if text else "")).collect()


def fill(t, first, n):
    sql("INSERT INTO %s SELECT /*+ COALESCE(1) */ id, concat('n', id), id / 4D, concat('p', id %% 3) FROM range(%d, %d, 1, 1)" % (t, first, first + n)).collect()


PLAIN = "id BIGINT, name STRING, price DOUBLE, part STRING"


def types(t):
    """Every primitive type at its ends, with nulls."""
    create(t, "b BOOLEAN, i8 TINYINT, i16 SMALLINT, i32 INT, i64 BIGINT, f32 FLOAT, f64 DOUBLE, s STRING, raw BINARY, d DATE, ts TIMESTAMP, dec DECIMAL(10,2), c CHAR(3), v VARCHAR(5)")
    sql("""INSERT INTO %s VALUES (true, -128, -32768, -2147483648, -9223372036854775808, float('NaN'), double('-Infinity'), '', X'', DATE'0001-01-01', TIMESTAMP'0002-01-01 00:00:00', -0.01, 'abc', 'b'),
        (false, 127, 32767, 2147483647, 9223372036854775807, float('-0.0'), 4.9E-324D, 'é\U0001f600', X'00FF', DATE'9999-12-31', TIMESTAMP'9999-12-31 23:59:59.999999', 99999999.99, 'xyz', 'vwxyz'),
        (null, null, null, null, null, null, null, null, null, null, null, null, null, null)""" % t)
    sql("INSERT INTO %s (d, ts) VALUES (DATE'1582-10-04', TIMESTAMP'1582-10-14 12:00:00'), (DATE'1500-02-28', TIMESTAMP'1900-01-01 00:00:00')" % t)


def int96(t):
    """Timestamps as INT96, also before 1582."""
    with setting(spark__sql__parquet__outputTimestampType="INT96"):
        create(t, "id INT, ts TIMESTAMP")
        sql("INSERT INTO %s VALUES (1, TIMESTAMP'1500-01-01 01:02:03.000004'), (2, TIMESTAMP'2024-02-29 23:59:59.999999'), (3, null), (4, TIMESTAMP'9999-12-31 00:00:00')" % t)


def nested(t):
    """Lists, maps and structs inside each other."""
    create(t, "id INT, l ARRAY<INT>, ll ARRAY<ARRAY<STRING>>, m MAP<STRING, BIGINT>, ml MAP<INT, ARRAY<DOUBLE>>, st STRUCT<x: BIGINT, l: ARRAY<STRUCT<y: STRING>>>, ms MAP<STRING, STRUCT<a: DATE, b: DECIMAL(20,3)>>")
    sql("""INSERT INTO %s VALUES
        (1, array(1, null, 3), array(array('a'), array(), null), map('k', 1, '', null), map(1, array(1.5D)), named_struct('x', 1, 'l', array(named_struct('y', 'a'), null)), map('q', named_struct('a', DATE'2024-01-01', 'b', 1.5))),
        (2, array(), null, map(), map(2, null), named_struct('x', null, 'l', null), map('r', null)), (3, null, array(), null, null, null, null)""" % t)
    sql("ALTER TABLE %s ADD COLUMNS (st.more INT AFTER x)" % t)
    sql("INSERT INTO %s VALUES (4, array(9), array(array(null)), map('z', -1), map(3, array()), named_struct('x', 2, 'more', 7, 'l', array()), map())" % t)


def decimals(t):
    """Decimals of every physical width."""
    kinds = ((1, 0), (5, 2), (9, 9), (10, 0), (18, 18), (19, 1), (28, 10), (38, 0), (38, 37))
    create(t, ", ".join("d%d_%d DECIMAL(%d,%d)" % (p, s, p, s) for p, s in kinds))
    top = ["%s.%s" % ("9" * (p - s), "9" * s) if s else "9" * p for p, s in kinds]
    for sign in ("", "-"):
        sql("INSERT INTO %s VALUES (%s)" % (t, ", ".join("CAST('%s%s' AS DECIMAL(%d,%d))" % (sign, v, p, s) for v, (p, s) in zip(top, kinds))))
    with setting(spark__sql__parquet__writeLegacyFormat="true"):
        sql("INSERT INTO %s SELECT * FROM %s" % (t, t))


def partitioned(t):
    """Partition values of every type, null, and such as need escaping."""
    create(t, "id INT, s STRING, i INT, d DATE, ts TIMESTAMP, b BOOLEAN, f DOUBLE, dec DECIMAL(9,2), raw BINARY", "PARTITIONED BY (s, i, d, ts, b, f, dec, raw)")
    words = ["plain", "a b", "a/b", "a=b", "100%", "x:y", "é", "q''\"#?*", "{}[]^|", "%2F", "+"]
    vals = ["(%d, '%s', %s, DATE'1%03d-10-04', TIMESTAMP'2024-01-01 00:00:00.%06d', %s, %s, %s, X'41')" % (
        k, w, "null" if k == 3 else k - 5, 500 + k * 40, k, "true" if k % 2 else "false", "0.5D" if k % 3 else "-1e-7D", (k - 3) / 100) for k, w in enumerate(words)]
    sql("INSERT INTO %s SELECT /*+ COALESCE(1) */ * FROM VALUES %s, (99, null, null, null, null, null, null, null, null) AS v(id, s, i, d, ts, b, f, dec, raw)" % (t, ", ".join(vals)))
    sql("DELETE FROM %s WHERE s = 'a/b'" % t)


def ntz(t):
    """Timestamps without zone, one of them the partition column."""
    create(t, "id INT, at TIMESTAMP_NTZ, p TIMESTAMP_NTZ", "PARTITIONED BY (p)")
    sql("INSERT INTO %s VALUES (1, TIMESTAMP_NTZ'0001-01-01 00:00:00', TIMESTAMP_NTZ'2024-06-01 12:30:00.5'), (2, TIMESTAMP_NTZ'9999-12-31 23:59:59.999999', null), (3, null, null)" % t)


def mapping_name(t):
    """Column mapping by name, turned on later, with rename, drop and a column of an old name."""
    create(t, PLAIN, "PARTITIONED BY (part)")
    fill(t, 0, 6)
    sql("ALTER TABLE %s SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')" % t)
    sql("ALTER TABLE %s RENAME COLUMN price TO `cost of it`" % t)
    fill(t, 6, 6)
    sql("ALTER TABLE %s DROP COLUMN name" % t)
    sql("ALTER TABLE %s ADD COLUMN name INT" % t)
    sql("ALTER TABLE %s RENAME COLUMN part TO p" % t)
    sql("INSERT INTO %s VALUES (50, 1.5, 'p9', 7)" % t)
    sql("UPDATE %s SET name = 1 WHERE id < 4" % t)


def mapping_id(t):
    """Column mapping by id, with nested fields renamed and dropped."""
    create(t, "id INT, st STRUCT<a: INT, b: STRING>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, STRUCT<y: INT>>", columnMapping__mode="id")
    sql("INSERT INTO %s VALUES (1, named_struct('a', 1, 'b', 'x'), array(named_struct('x', 1)), map('k', named_struct('y', 2)))" % t)
    sql("ALTER TABLE %s RENAME COLUMN st.a TO z" % t)
    sql("ALTER TABLE %s DROP COLUMN st.b" % t)
    sql("ALTER TABLE %s ADD COLUMN st.b DATE" % t)
    sql("INSERT INTO %s VALUES (2, named_struct('z', 5, 'b', DATE'2024-01-01'), array(), null)" % t)


def vectors(t):
    """Deletion vectors in files, over a checkpoint, updated and purged."""
    create(t, PLAIN, "PARTITIONED BY (part)", enableDeletionVectors="true", checkpointInterval="4")
    fill(t, 0, 20)
    sql("DELETE FROM %s WHERE id %% 5 = 1" % t)
    fill(t, 20, 5)
    sql("UPDATE %s SET price = -1 WHERE id IN (2, 3, 22)" % t)
    sql("DELETE FROM %s WHERE id BETWEEN 7 AND 9" % t)
    sql("MERGE INTO %s t USING (SELECT id FROM range(4, 40, 6)) s ON t.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, 'new')" % t)
    sql("REORG TABLE %s APPLY (PURGE)" % t)


Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(raw):
    raw = bytes(raw) + bytes(-len(raw) % 4)
    out = ""
    for i in range(0, len(raw), 4):
        n = int.from_bytes(raw[i:i + 4], "big")
        out += "".join(Z85[n // 85 ** k % 85] for k in (4, 3, 2, 1, 0))
    return out


def unz85(text):
    out = b""
    for i in range(0, len(text), 5):
        n = 0
        for c in text[i:i + 5]:
            n = n * 85 + Z85.index(c)
        out += n.to_bytes(4, "big")
    return out


def moved_vectors(t, how):
    """Stores the vectors of a table in another way: Spark itself only writes files."""
    create(t, PLAIN, enableDeletionVectors="true", checkpointInterval="100")
    fill(t, 0, 30)
    sql("DELETE FROM %s WHERE id %% 7 = 2" % t)
    path = t.split("`")[1]
    commit = path + "/_delta_log/%020d.json" % 2
    lines = []
    for line in open(commit):
        a = json.loads(line)
        d = a.get("add", {}).get("deletionVector")
        if d:
            text = d["pathOrInlineDv"]
            raw = unz85(text[-20:])
            name = "%s-%s-%s-%s-%s" % tuple(raw.hex()[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
            file = os.path.join(path, text[:-20], "deletion_vector_%s.bin" % name)
            if how == "i":
                with open(file, "rb") as f:
                    f.seek(d["offset"])
                    size = struct.unpack(">i", f.read(4))[0]
                    d.update(storageType="i", pathOrInlineDv=z85(f.read(size)), sizeInBytes=size)
                del d["offset"]
                os.remove(file)
            else:
                d.update(storageType="p", pathOrInlineDv="file://" + file)
        lines.append(json.dumps(a))
    open(commit, "w").write("\n".join(lines) + "\n")
    for f in os.listdir(path + "/_delta_log"):
        if f.endswith(".crc"):
            os.remove(path + "/_delta_log/" + f)
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def vectors_inline(t):
    """Deletion vectors in the log itself (moved there by the script)."""
    moved_vectors(t, "i")


def vectors_absolute(t):
    """Deletion vectors in files named by absolute path (so named by the script)."""
    moved_vectors(t, "p")


def changes(t):
    """Row changes in the change data feed, with deletion vectors on."""
    create(t, PLAIN, "PARTITIONED BY (part)", enableChangeDataFeed="true", enableDeletionVectors="true")
    fill(t, 0, 10)
    sql("UPDATE %s SET price = price + 100, part = 'px' WHERE id < 3" % t)
    sql("DELETE FROM %s WHERE id %% 5 = 4" % t)
    sql("MERGE INTO %s t USING (SELECT id FROM range(7, 14)) s ON t.id = s.id WHEN MATCHED AND t.id = 8 THEN DELETE WHEN MATCHED THEN UPDATE SET name = 'm' WHEN NOT MATCHED THEN INSERT (id, part) VALUES (s.id, 'p0')" % t)
    sql("INSERT OVERWRITE %s SELECT * FROM %s WHERE id < 5" % (t, t))
    return dict(changes=[(0, 5), (2, 4)])


def widening(t):
    """Every widening of a type that Spark knows."""
    kinds = [("TINYINT", "SMALLINT", "1"), ("TINYINT", "INT", "2"), ("SMALLINT", "INT", "3"), ("INT", "BIGINT", "4"), ("FLOAT", "DOUBLE", "1.25"), ("SMALLINT", "DOUBLE", "5"),
             ("INT", "DECIMAL(12,2)", "6"), ("DECIMAL(5,2)", "DECIMAL(20,4)", "7.25"), ("DATE", "TIMESTAMP_NTZ", "DATE'2024-01-02'"), ("BIGINT", "DECIMAL(22,1)", "8"), ("INT", "DOUBLE", "9")]
    create(t, "id INT, " + ", ".join("c%d %s" % (i, a) for i, (a, _, _) in enumerate(kinds)) + ", l ARRAY<INT>, m MAP<SMALLINT, SMALLINT>", enableTypeWidening="true", feature__timestampNtz="supported")
    row = ", ".join(v for _, _, v in kinds) + ", array(1, 2), map(3S, 4S)"
    sql("INSERT INTO %s VALUES (1, %s)" % (t, row))
    for i, (_, b, _) in enumerate(kinds):
        sql("ALTER TABLE %s ALTER COLUMN c%d TYPE %s" % (t, i, b))
    sql("ALTER TABLE %s ALTER COLUMN l.element TYPE BIGINT" % t)
    sql("ALTER TABLE %s ALTER COLUMN m.key TYPE INT" % t)
    sql("INSERT INTO %s VALUES (2, %s)" % (t, row))
    return dict(only="ends")


def v2_json(t):
    """V2 checkpoints as JSON with sidecars."""
    with setting(spark__databricks__delta__checkpointV2__topLevelFileFormat="json"):
        v2(t)


def v2_parquet(t):
    """V2 checkpoints as Parquet with sidecars."""
    with setting(spark__databricks__delta__checkpointV2__topLevelFileFormat="parquet"):
        v2(t)


def v2(t):
    create(t, PLAIN, "PARTITIONED BY (part)", checkpointPolicy="v2", checkpointInterval="4")
    for i in range(5):
        fill(t, i * 3, 3)
    sql("DELETE FROM %s WHERE id = 4" % t)
    path = t.split("`")[1]
    for v in range(4):  # what the checkpoint at 4 holds is not needed any more
        os.remove(path + "/_delta_log/%020d.json" % v)
    return dict(through=6)


def multipart(t):
    """A checkpoint in parts; commits before it are gone."""
    with setting(spark__databricks__delta__checkpoint__partSize="2"):
        create(t, PLAIN, checkpointInterval="5")
        for i in range(6):
            fill(t, i * 3, 3)
    path = t.split("`")[1]
    for v in range(5):
        os.remove(path + "/_delta_log/%020d.json" % v)
    return dict(through=6)


def cleaned(t):
    """Log clean-up by Spark itself."""
    create(t, PLAIN, logRetentionDuration="interval 8 days", checkpointInterval="3", enableExpiredLogCleanup="false")
    for i in range(7):
        fill(t, i * 3, 3)
    path = t.split("`")[1]
    now = datetime.datetime.now().timestamp()
    for f in os.listdir(path + "/_delta_log"):
        v = f.lstrip(".").split(".")[0]
        if v.isdigit() and int(v) < 5:
            os.utime(path + "/_delta_log/" + f, (now - (20 - int(v)) * 86400,) * 2)
    sparkdelta.clean_up(spark, path)
    return dict(through=8)


def statistics(t):
    """Statistics of chosen columns, as JSON and as columns of the checkpoint."""
    create(t, "id BIGINT, name STRING, st STRUCT<a: INT, d: DATE>, ts TIMESTAMP, long STRING", dataSkippingStatsColumns="id,st.d,ts,long", checkpoint__writeStatsAsStruct="true", checkpoint__writeStatsAsJson="false", checkpointInterval="3")
    for i in range(4):
        sql("INSERT INTO %s SELECT /*+ COALESCE(1) */ id, 'x', named_struct('a', int(id), 'd', date_add(DATE'2024-01-01', int(id))), timestamp_micros(1700000000123456 + id), repeat(char(int(97 + id)), 50) FROM range(%d, %d)" % (t, i * 3, i * 3 + 3))
    path = t.split("`")[1]
    for v in range(3):
        os.remove(path + "/_delta_log/%020d.json" % v)
    return dict(through=4)


def generated(t):
    """Generated columns, column defaults, a NOT NULL column and a CHECK constraint."""
    sql("CREATE TABLE %s (id BIGINT NOT NULL, at TIMESTAMP, day DATE GENERATED ALWAYS AS (CAST(at AS DATE)), twice BIGINT GENERATED ALWAYS AS (id * 2), d STRING DEFAULT 'none') USING delta PARTITIONED BY (day) TBLPROPERTIES ('delta.feature.allowColumnDefaults' = 'supported')" % t)
    sql("INSERT INTO %s (id, at) VALUES (1, TIMESTAMP'2024-01-01 10:00:00'), (2, TIMESTAMP'2024-01-02 10:00:00')" % t)
    sql("ALTER TABLE %s ADD CONSTRAINT positive CHECK (id > 0)" % t)
    sql("INSERT INTO %s (id, at, d) VALUES (3, TIMESTAMP'2024-01-01 11:00:00', 'x')" % t)


def identity(t):
    """Identity columns."""
    from delta.tables import DeltaTable, IdentityGenerator
    b = DeltaTable.create(spark).location(t.split("`")[1])
    b.addColumn("id", "LONG", generatedAlwaysAs=IdentityGenerator(start=10, step=5)).addColumn("other", "LONG", generatedByDefaultAs=IdentityGenerator()).addColumn("s", "STRING").execute()
    sql("INSERT INTO %s (s) VALUES ('a'), ('b')" % t)
    sql("INSERT INTO %s (other, s) VALUES (100, 'c')" % t)


def clustered(t):
    """Liquid clustering, optimized."""
    create(t, PLAIN, "CLUSTER BY (id, part)")
    for i in range(4):
        fill(t, i * 3, 3)
    sql("OPTIMIZE %s" % t)


def tracked(t):
    """Row tracking."""
    create(t, PLAIN, enableRowTracking="true")
    fill(t, 0, 6)
    fill(t, 6, 3)
    sql("UPDATE %s SET price = 0 WHERE id %% 2 = 0" % t)
    sql("OPTIMIZE %s" % t)


def in_commit(t):
    """In-commit timestamps, turned on later."""
    create(t, PLAIN)
    fill(t, 0, 3)
    sql("ALTER TABLE %s SET TBLPROPERTIES ('delta.enableInCommitTimestamps' = 'true')" % t)
    fill(t, 3, 3)


def cloned(t):
    """A shallow clone, changed after it was made: its files have absolute paths."""
    path = t.split("`")[1]
    src = "delta.`%s-source`" % path
    create(src, PLAIN, "PARTITIONED BY (part)", enableDeletionVectors="true")
    fill(src, 0, 9)
    sql("DELETE FROM %s WHERE id = 3" % src)
    sql("CREATE TABLE %s SHALLOW CLONE %s" % (t, src))
    fill(t, 9, 3)
    sql("DELETE FROM %s WHERE id IN (4, 10)" % t)
    for f in os.listdir(path + "/_delta_log"):
        if "checkpoint" in f:  # it holds this folder's name
            os.remove(path + "/_delta_log/" + f)


def optimized(t):
    """Bin-packing, Z-order and vacuum: older versions lose files."""
    create(t, PLAIN, "PARTITIONED BY (part)")
    for i in range(3):
        fill(t, i * 6, 6)
    sql("OPTIMIZE %s" % t)
    sql("OPTIMIZE %s ZORDER BY (id, price)" % t)
    sql("VACUUM %s RETAIN 0 HOURS" % t)


def codecs(t):
    """A file of each codec of Spark."""
    create(t, PLAIN)
    for i, c in enumerate(("none", "snappy", "gzip", "zstd", "lz4_raw")):
        with setting(spark__sql__parquet__compression__codec=c):
            fill(t, i * 10, 10)


def encodings(t):
    """Data pages of version 2 with delta encodings, small pages."""
    spark.sparkContext._jsc.hadoopConfiguration().set("parquet.writer.version", "v2")
    spark.sparkContext._jsc.hadoopConfiguration().set("parquet.enable.dictionary", "false")
    spark.sparkContext._jsc.hadoopConfiguration().set("parquet.page.size", "200")
    create(t, PLAIN)
    fill(t, 0, 60)
    for k in ("parquet.writer.version", "parquet.enable.dictionary", "parquet.page.size"):
        spark.sparkContext._jsc.hadoopConfiguration().unset(k)


def operations(t):
    """What changes rows or all of the table, one after the other."""
    create(t, PLAIN)
    fill(t, 0, 12)
    sql("DELETE FROM %s WHERE id %% 4 = 1" % t)
    sql("UPDATE %s SET price = price * 2, name = NULL WHERE id >= 10" % t)
    sql("MERGE INTO %s t USING (SELECT id, 'm' AS name FROM range(10, 16)) s ON t.id = s.id WHEN MATCHED AND s.id %% 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name) WHEN NOT MATCHED BY SOURCE AND t.id < 3 THEN DELETE" % t)
    sql("INSERT INTO %s REPLACE WHERE id >= 14 SELECT 20L, 'r', 0D, 'p'" % t)
    sql("RESTORE TABLE %s TO VERSION AS OF 2" % t)
    sql("INSERT OVERWRITE %s SELECT 1L, 'o', 1D, 'p'" % t)
    from delta.tables import DeltaTable
    DeltaTable.replace(spark).location(t.split("`")[1]).addColumn("other", "STRING").addColumn("n", "INT").execute()
    sql("INSERT INTO %s VALUES ('x', 1)" % t)


def protocol_down(t):
    """A feature that was dropped again, protected by checkpoints."""
    create(t, PLAIN, enableDeletionVectors="true")
    fill(t, 0, 5)
    sql("DELETE FROM %s WHERE id = 2" % t)
    sql("ALTER TABLE %s DROP FEATURE deletionVectors" % t)
    fill(t, 5, 3)


def transactions(t):
    """txn actions of two applications."""
    for app, v in (("a", 1), ("b", 7), ("a", 2)):
        spark.range(v, v + 2).coalesce(1).write.format("delta").mode("append").option("txnAppId", app).option("txnVersion", v).save(t.split("`")[1])
    return dict(txns={"a": 2, "b": 7})


def vacuum_check(t):
    """The vacuumProtocolCheck feature."""
    create(t, PLAIN, feature__vacuumProtocolCheck="supported")
    fill(t, 0, 3)
    sql("VACUUM %s RETAIN 0 HOURS" % t)


def iceberg(t):
    """Iceberg compatibility, which asks for column mapping and arrays with ids."""
    create(t, "id INT, l ARRAY<INT>, m MAP<STRING, INT>", columnMapping__mode="name", enableIcebergCompatV2="true")
    sql("INSERT INTO %s VALUES (1, array(1, 2), map('k', 3))" % t)


def variant(t):
    """A variant column: refused by the feature's name."""
    create(t, "id INT, v VARIANT")
    sql("INSERT INTO %s SELECT 1, parse_json('{\"a\": 1}')" % t)
    return dict(refused="variantType")


TABLES = [types, int96, nested, decimals, partitioned, ntz, mapping_name, mapping_id, vectors, vectors_inline, vectors_absolute, changes, widening,
          v2_json, v2_parquet, multipart, cleaned, statistics, generated, identity, clustered, tracked, in_commit, cloned, optimized, codecs, encodings,
          operations, protocol_down, transactions, vacuum_check, iceberg, variant]


def read(g, path, v):
    try:
        df = spark.read.format("delta").option("versionAsOf", v).load(path)
        g.version(v, df.columns, rows.spark_rows(df))
    except Exception as e:
        print("  gone:", v, str(e)[:150].replace("\n", " "))
        g.gone(v)


def one(make, out):
    root = tempfile.mkdtemp(prefix="golden-")
    path = os.path.join(root, "table")
    g = rows.Golden(out, "spark-" + make.__name__.replace("_", "-"), root, "Spark %s, delta-spark 4.4.0" % pyspark.__version__)
    g.note(about=make.__doc__)
    extra = make("delta.`%s`" % path) or {}
    if "txns" in extra:
        g.note(txns=extra["txns"])
    if "refused" in extra:
        g.refused(extra["refused"])
    else:
        here = rows.versions(path)
        todo = range(0 if "through" in extra else here[0], here[-1] + 1)
        if extra.get("only") == "ends":
            todo = [1, here[-1] - 1, here[-1]]
        for v in todo:
            read(g, path, v)
        for first, last in extra.get("changes", ()):
            df = spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", first).option("endingVersion", last).load(path).drop("_commit_timestamp")
            g.changes(first, last, df.columns, rows.spark_rows(df))
    g.save()
    shutil.rmtree(root)
    print(make.__name__, os.path.getsize(os.path.join(out, g.name + ".zip")), os.path.getsize(os.path.join(out, g.name + ".jsonl")), flush=True)


def main():
    out = os.path.abspath(sys.argv[1])
    os.makedirs(out, exist_ok=True)
    for make in TABLES:
        if sys.argv[2:] and make.__name__ not in sys.argv[2:]:
            continue
        try:
            one(make, out)
        except Exception as e:
            print("FAILED", make.__name__, str(e)[:3000], flush=True)
    shutil.rmtree(work, ignore_errors=True)


main()
