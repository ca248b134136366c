"""Writes the committed tables of delta-rs: gen_deltars.py OUT [NAME...].

Each function makes one table of one feature; what delta-rs reads from it, at every
version, is what the test expects. deploy/real/py.sh makes the Python.
"""
import datetime
import decimal
import os
import shutil
import sys
import tempfile

import deltalake
import pyarrow as pa
from deltalake import DeltaTable, WriterProperties, write_deltalake

import rows

D = decimal.Decimal
UTC = datetime.timezone.utc
TS = pa.timestamp("us", "UTC")


def small(start, n, part=False):
    ids = list(range(start, start + n))
    cols = {
        "id": pa.array(ids, pa.int64()),
        "name": pa.array([None if i % 7 == 3 else "n%d" % i for i in ids], pa.string()),
        "price": pa.array([i / 4 for i in ids], pa.float64()),
    }
    if part:
        cols["part"] = pa.array(["p%d" % (i % 3) for i in ids], pa.string())
    return pa.table(cols)


def types(t):
    """Every primitive type at its ends, with nulls."""
    write_deltalake(t, pa.table({
        "b": pa.array([True, False, None], pa.bool_()),
        "i8": pa.array([-128, 127, None], pa.int8()),
        "i16": pa.array([-2**15, 2**15 - 1, None], pa.int16()),
        "i32": pa.array([-2**31, 2**31 - 1, None], pa.int32()),
        "i64": pa.array([-2**63, 2**63 - 1, None], pa.int64()),
        "f32": pa.array([float("nan"), -0.0, None], pa.float32()),
        "f64": pa.array([float("inf"), 5e-324, None], pa.float64()),
        "s": pa.array(["", "é\u0000\U0001f600" + "x" * 40, None], pa.string()),
        "raw": pa.array([b"", b"\x00\xff", None], pa.binary()),
        "d": pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None], pa.date32()),
        "ts": pa.array([-62135596800000000, 253402300799999999, None], TS),
        "dec": pa.array([D("-0.01"), D("99999999.99"), None], pa.decimal128(10, 2)),
    }))


def nested(t):
    """Lists, maps and structs inside each other, null and empty at every level."""
    st = pa.struct([("x", pa.int64()), ("l", pa.list_(pa.struct([("y", pa.string())])))])
    write_deltalake(t, pa.table({
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "l": pa.array([[1, None, 3], [], None, [4]], pa.list_(pa.int32())),
        "ll": pa.array([[["a"], [], None], None, [], [[None]]], pa.list_(pa.list_(pa.string()))),
        "m": pa.array([[("k", 1), ("", None)], [], None, [("z", -1)]], pa.map_(pa.string(), pa.int64())),
        "ml": pa.array([[(1, [1.5])], [(2, None)], None, [(3, [])]], pa.map_(pa.int32(), pa.list_(pa.float64()))),
        "st": pa.array([{"x": 1, "l": [{"y": "a"}, None]}, {"x": None, "l": None}, None, {"x": 2, "l": []}], st),
    }))
    write_deltalake(t, pa.table({"id": pa.array([5], pa.int64())}), mode="append", schema_mode="merge")


def decimals(t):
    """Decimals of every physical width: 4, 8 and 16 bytes."""
    cols = {}
    for p, s in ((1, 0), (5, 2), (9, 9), (10, 0), (18, 18), (19, 1), (28, 10), (38, 0), (38, 37)):
        top = D("9" * p).scaleb(-s, decimal.Context(prec=40))
        cols["d%d_%d" % (p, s)] = pa.array([top, top.copy_negate(), D(0), None], pa.decimal128(p, s))
    write_deltalake(t, pa.table(cols))


def partitioned(t):
    """Partition values of many types, null, empty, and such as need escaping."""
    words = ["plain", "a b", "a/b", "a=b", "100%", "x:y", "é", "q'\"#?*", None, "{}[]^|", "%2F", "+"]
    n = len(words)
    table = pa.table({
        "id": pa.array(range(n), pa.int64()),
        "s": pa.array(words, pa.string()),
        "i": pa.array([None if k == 3 else k - 5 for k in range(n)], pa.int32()),
        "d": pa.array([datetime.date(1582, 10, 4) + datetime.timedelta(k * 40000) for k in range(n)], pa.date32()),
        "ts": pa.array([1_700_000_000_123_456 + k for k in range(n)], TS),
        "b": pa.array([k % 2 == 0 for k in range(n)], pa.bool_()),
        "dec": pa.array([D(k).scaleb(-2) for k in range(n)], pa.decimal128(9, 2)),  # a small negative one becomes 0.-3
    })
    write_deltalake(t, table, partition_by=["s", "i", "d", "ts", "b", "dec"])
    DeltaTable(t).delete("s = 'a/b'")


def ntz(t):
    """Timestamps without zone."""
    for mode in ("error", "append"):
        write_deltalake(t, pa.table({
            "id": pa.array([1, 2, 3], pa.int64()),
            "at": pa.array([-62135596800000000, 1_700_000_000_000_001, None], pa.timestamp("us")),
            "utc": pa.array([-1, 253402300799999999, None], TS),
        }), mode=mode)


def changes(t):
    """Row changes in the change data feed."""
    write_deltalake(t, small(0, 10, True), partition_by=["part"], configuration={"delta.enableChangeDataFeed": "true"})
    write_deltalake(t, small(10, 5, True), mode="append")
    d = DeltaTable(t)
    d.update(updates={"price": "price + 100"}, predicate="id < 3")
    DeltaTable(t).delete("id % 5 = 4")
    m = DeltaTable(t).merge(small(12, 6, True), "t.id = s.id", source_alias="s", target_alias="t")
    m.when_matched_update(updates={"name": "'merged'"}).when_not_matched_insert_all().execute()


def operations(t):
    """What changes rows, one after the other."""
    write_deltalake(t, small(0, 12))
    write_deltalake(t, small(12, 8), mode="append")
    DeltaTable(t).delete("id % 4 = 1")
    DeltaTable(t).update(updates={"price": "price * 2", "name": "NULL"}, predicate="id >= 10")
    m = DeltaTable(t).merge(small(15, 10), "t.id = s.id", source_alias="s", target_alias="t")
    m.when_matched_delete("s.id % 2 = 0").when_matched_update_all().when_not_matched_insert_all().when_not_matched_by_source_delete("t.id < 3").execute()
    write_deltalake(t, small(100, 3), mode="overwrite", predicate="id >= 100 and id < 200")
    write_deltalake(t, small(1000, 4), mode="overwrite")
    DeltaTable(t).restore(2)


def checkpointed(t):
    """Old commits are gone behind a Delta checkpoint; CleanLog by delta-rs."""
    write_deltalake(t, small(0, 3, True), partition_by=["part"], configuration={"delta.logRetentionDuration": "interval 1 days"})
    for i in range(6):
        write_deltalake(t, small(3 * i, 3, True), mode="append")
        if i == 3:
            DeltaTable(t).delete("id = 4")
    old = datetime.datetime.now().timestamp() - 9 * 86400
    d = DeltaTable(t, version=5)
    d.create_checkpoint()
    for v in range(6):
        os.utime("%s/_delta_log/%020d.json" % (t, v), (old, old))
    DeltaTable(t).create_checkpoint()
    DeltaTable(t).cleanup_metadata()
    return dict(through=7)


def evolved(t):
    """Columns added, and a schema replaced."""
    write_deltalake(t, small(0, 4))
    write_deltalake(t, pa.table({"id": pa.array([4], pa.int64()), "extra": pa.array([[1, 2]], pa.list_(pa.int64()))}), mode="append", schema_mode="merge")
    DeltaTable(t).alter.add_columns([deltalake.Field("later", deltalake.schema.PrimitiveType("date"))])
    write_deltalake(t, pa.table({"other": pa.array(["x"], pa.string())}), mode="overwrite", schema_mode="overwrite")


def codecs(t):
    """A file of each codec."""
    for i, c in enumerate(("UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "LZ4_RAW", "ZSTD")):
        write_deltalake(t, small(i * 10, 10), mode="append", writer_properties=WriterProperties(compression=c))


def optimized(t):
    """Bin-packing, Z-order and vacuum: older versions lose files."""
    write_deltalake(t, small(0, 5, True), partition_by=["part"])
    for i in range(1, 4):
        write_deltalake(t, small(5 * i, 5, True), mode="append")
    DeltaTable(t).optimize.compact()
    DeltaTable(t).optimize.z_order(["id", "price"])
    DeltaTable(t).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)


def constraints(t):
    """CHECK constraints, an append-only table and a column that is not null."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("name", pa.string()), ("price", pa.float64())])
    write_deltalake(t, small(0, 5).cast(schema))
    DeltaTable(t).alter.add_constraint({"positive": "price >= 0"})
    DeltaTable(t).alter.set_table_properties({"delta.appendOnly": "true"})
    write_deltalake(t, small(5, 5).cast(schema), mode="append")


def statistics(t):
    """Statistics of no, of some and of all columns."""
    for i, n in enumerate(("0", "2", "-1")):
        if i == 0:
            write_deltalake(t, small(0, 5), configuration={"delta.dataSkippingNumIndexedCols": n})
            continue
        DeltaTable(t).alter.set_table_properties({"delta.dataSkippingNumIndexedCols": n})
        write_deltalake(t, small(10 * i, 5), mode="append")


def compaction(t):
    """A log compaction file."""
    write_deltalake(t, small(0, 3))
    for i in range(1, 6):
        write_deltalake(t, small(3 * i, 3), mode="append")
    DeltaTable(t).delete("id = 7")
    DeltaTable(t).compact_logs(2, 5)


def transactions(t):
    """txn actions of two applications."""
    for app, v in (("a", 1), ("b", 7), ("a", 2)):
        p = deltalake.CommitProperties(app_transactions=[deltalake.Transaction(app, v)])
        write_deltalake(t, small(v, 2), mode="append", commit_properties=p)
    return dict(txns={"a": 2, "b": 7})


def columns(table):
    return [f.name for f in table.schema]


def read(path, v):
    d = DeltaTable(path, version=v)
    return d.to_pyarrow_table()


TABLES = [types, nested, decimals, partitioned, ntz, changes, operations, checkpointed, evolved, codecs, optimized, constraints, statistics,
          compaction, transactions]


def main():
    out = os.path.abspath(sys.argv[1])
    os.makedirs(out, exist_ok=True)
    for make in TABLES:
        if sys.argv[2:] and make.__name__ not in sys.argv[2:]:
            continue
        root = tempfile.mkdtemp(prefix="golden-")
        path = os.path.join(root, "table")
        g = rows.Golden(out, "deltars-" + make.__name__, root, "delta-rs " + deltalake.__version__)
        g.note(about=make.__doc__)
        extra = make(path) or {}
        through = extra.pop("through", None)
        g.note(**extra)
        here = rows.versions(path)
        for v in range(0 if through else here[0], here[-1] + 1):
            try:
                t = read(path, v)
            except Exception as e:
                print(make.__name__, v, type(e).__name__, str(e)[:200])
                g.gone(v)
                continue
            g.version(v, columns(t), rows.arrow_rows(t))
        if make is changes:
            for first in (0, 2):
                c = pa.table(DeltaTable(path).load_cdf(starting_version=first).read_all()).drop_columns(["_commit_timestamp"])
                g.changes(first, here[-1], columns(c), rows.arrow_rows(c))
        g.save()
        shutil.rmtree(root)
        print(make.__name__, os.path.getsize(os.path.join(out, g.name + ".zip")), os.path.getsize(os.path.join(out, g.name + ".jsonl")))


main()
