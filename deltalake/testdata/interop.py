"""delta-rs as a reader and writer, and DuckDB as a reader, for interop_test.go.

Commands arrive as JSON lines on stdin, answers leave as JSON lines on stdout, so
that one interpreter serves a whole test.
"""
import datetime
import decimal
import os

import deltalake
import duckdb
import duckdb_extension_delta
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake

import rows

ARROW = {"long": pa.int64(), "integer": pa.int32(), "short": pa.int16(), "byte": pa.int8(), "string": pa.string(), "double": pa.float64(), "float": pa.float32(),
         "boolean": pa.bool_(), "binary": pa.binary(), "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC"), "timestamp_ntz": pa.timestamp("us")}


def arrow_type(t):
    if isinstance(t, dict):
        if t["type"] == "struct":
            return pa.struct([(f["name"], arrow_type(f["type"])) for f in t["fields"]])
        if t["type"] == "array":
            return pa.list_(arrow_type(t["elementType"]))
        return pa.map_(arrow_type(t["keyType"]), arrow_type(t["valueType"]))
    if t.startswith("decimal"):
        return pa.decimal128(*[int(x) for x in t[8:-1].split(",")])
    return ARROW[t]


def table(c):
    """The rows of a command as an Arrow table."""
    fields = c["schema"]["fields"]
    arrays = [pa.array([rows.value(r[i], f["type"], dict) for r in c["rows"]], arrow_type(f["type"])) for i, f in enumerate(fields)]
    return pa.Table.from_arrays(arrays, schema=pa.schema([pa.field(f["name"], a.type, f["nullable"]) for f, a in zip(fields, arrays)]))


def connect():
    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    folder = os.path.dirname(duckdb_extension_delta.__file__)
    for base, _, names in os.walk(folder):
        for n in names:
            if n.endswith(".duckdb_extension"):
                con.execute("LOAD '%s'" % os.path.join(base, n))
    con.execute("SET TimeZone='UTC'")
    return con


def wild(seed, n):
    import random
    r = random.Random(seed)
    some = lambda f: [None if r.random() < 0.2 else f() for _ in range(n)]
    word = lambda: "".join(r.choice("abcdefgé") for _ in range(r.randrange(12)))
    ts = pa.timestamp("us", "UTC")
    return pa.table({
        "i8": pa.array(some(lambda: r.randrange(-128, 128)), pa.int8()),
        "i16": pa.array(some(lambda: r.randrange(-9999, 9999)), pa.int16()),
        "i32": pa.array(some(lambda: r.randrange(-2**31, 2**31)), pa.int32()),
        "i64": pa.array(some(lambda: r.randrange(-2**63, 2**63)), pa.int64()),
        "seq": pa.array(range(seed, seed + n), pa.int64()),
        "f32": pa.array(some(lambda: r.choice([0.5, -1.25, 3e20])), pa.float32()),
        "f64": pa.array(some(lambda: r.gauss(0, 1e9)), pa.float64()),
        "ok": pa.array(some(lambda: r.random() < 0.5), pa.bool_()),
        "s": pa.array(some(word), pa.string()),
        "pre": pa.array(["common/prefix/%06d" % (i // 3) for i in range(n)], pa.string()),
        "raw": pa.array(some(lambda: bytes(r.randrange(256) for _ in range(r.randrange(9)))), pa.binary()),
        "d5": pa.array(some(lambda: decimal.Decimal(r.randrange(-99999, 99999)).scaleb(-2)), pa.decimal128(5, 2)),
        "d15": pa.array(some(lambda: decimal.Decimal(r.randrange(-10**14, 10**14)).scaleb(-4)), pa.decimal128(15, 4)),
        "d38": pa.array(some(lambda: decimal.Decimal(r.randrange(-10**37, 10**37))), pa.decimal128(38, 0)),
        "day": pa.array(some(lambda: datetime.date(1, 1, 1) + datetime.timedelta(r.randrange(3000000))), pa.date32()),
        "at": pa.array(some(lambda: r.randrange(-10**16, 10**16)), ts),
        "local": pa.array(some(lambda: r.randrange(-10**16, 10**16)), pa.timestamp("us")),
        "list": pa.array(some(lambda: [None if r.random() < 0.3 else r.randrange(99) for _ in range(r.randrange(4))]), pa.list_(pa.int32())),
        "deep": pa.array(some(lambda: [None if r.random() < 0.2 else [word() for _ in range(r.randrange(3))] for _ in range(r.randrange(3))]),
                         pa.list_(pa.list_(pa.string()))),
        "map": pa.array(some(lambda: [("k%d" % k, None if r.random() < 0.3 else r.randrange(9)) for k in range(r.randrange(3))]),
                        pa.map_(pa.string(), pa.int64())),
        "st": pa.array(some(lambda: {"x": None if r.random() < 0.3 else r.randrange(9), "in": {"l": None if r.random() < 0.3 else [r.randrange(5)]}}),
                       pa.struct([("x", pa.int64()), ("in", pa.struct([("l", pa.list_(pa.int64()))]))])),
    })


def encodings(path):
    import pyarrow.parquet as pq
    os.makedirs(path)
    ints = {"i32": "DELTA_BINARY_PACKED", "i64": "DELTA_BINARY_PACKED", "seq": "DELTA_BINARY_PACKED", "s": "DELTA_LENGTH_BYTE_ARRAY",
            "pre": "DELTA_BYTE_ARRAY", "raw": "DELTA_BYTE_ARRAY", "f32": "BYTE_STREAM_SPLIT", "f64": "BYTE_STREAM_SPLIT", "ok": "RLE"}
    tables, n = [], 0
    for version in ("1.0", "2.0"):
        for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli"):
            for style in ("dictionary", "plain", "delta", "int96"):
                t = wild(n, 40 + 11 * n)
                kw = {"use_dictionary": style == "dictionary", "compression": codec, "data_page_version": version, "data_page_size": 300,
                      "row_group_size": 100 + 9 * n, "use_deprecated_int96_timestamps": style == "int96"}
                if style == "delta":
                    kw["column_encoding"] = ints
                pq.write_table(t.drop_columns(["local"]) if style == "int96" else t, "%s/f%03d.parquet" % (path, n), **kw)
                if style == "int96":
                    t = t.set_column(t.schema.get_field_index("local"), "local", pa.nulls(t.num_rows, pa.timestamp("us")))
                tables.append(t)
                n += 1
    all = pa.concat_tables(tables)
    return {"versions": [{"version": 0, "columns": all.schema.names, "rows": rows.arrow_rows(all)}]}


CON = None


def read_deltars(path, version):
    d = DeltaTable(path, version=version)
    # Not to_pyarrow_table, which knows no deletion vectors.
    t = pa.table(QueryBuilder().register("t", d).execute("SELECT * FROM t"))
    return t.schema.names, rows.arrow_rows(t)


def read_duckdb(path):
    global CON
    CON = CON or connect()
    t = CON.execute("SELECT * FROM delta_scan('%s')" % path).to_arrow_table()
    return {"versions": [{"version": 0, "columns": t.schema.names, "rows": rows.arrow_rows(t)}]}


def merge(d, c):
    m = d.merge(table(c), c["on"], source_alias="s", target_alias="t")
    for k in c["clauses"]:
        do, cond, sets = k["action"], k.get("if"), k.get("set")
        if do == "matched delete":
            m = m.when_matched_delete(cond)
        elif do == "matched update":
            m = m.when_matched_update(sets, cond) if sets else m.when_matched_update_all(cond)
        elif do == "insert":
            m = m.when_not_matched_insert_all(cond)
        elif do == "source delete":
            m = m.when_not_matched_by_source_delete(cond)
        else:
            m = m.when_not_matched_by_source_update(sets, cond)
    m.execute()


def run(c):
    cmd, path = c["cmd"], c["path"]
    if cmd == "read":
        return rows.every(c["versions"], lambda v: read_deltars(path, v))
    if cmd == "feed":
        t = pa.table(DeltaTable(path).load_cdf(starting_version=c["from"], ending_version=c["to"]).read_all()).drop_columns(["_commit_timestamp"])
        return {"versions": [{"version": c["to"], "columns": t.schema.names, "rows": rows.arrow_rows(t)}]}
    if cmd == "duckdb":
        return read_duckdb(path)
    if cmd == "encodings":
        return encodings(path)
    if cmd == "create":
        schema = deltalake.Schema.from_json(rows.json.dumps(c["schema"]))
        DeltaTable.create(path, schema, partition_by=c["partition"], configuration=c["props"])
        return {}
    d = DeltaTable(path)
    if cmd == "append":
        txn = CommitProperties(app_transactions=[Transaction(c["app"], c["txn"])]) if "app" in c else None
        write_deltalake(d, table(c), mode="append", schema_mode="merge" if c.get("merge") else None, commit_properties=txn)
    elif cmd == "overwrite":
        write_deltalake(d, table(c), mode="overwrite", predicate=c.get("where"))
    elif cmd == "overwrite schema":
        write_deltalake(d, table(c), mode="overwrite", schema_mode="overwrite", partition_by=c["partition"] or None)
    elif cmd == "delete":
        d.delete(c["where"])
    elif cmd == "update":
        d.update(updates=c["set"], predicate=c["where"])
    elif cmd == "merge":
        merge(d, c)
    elif cmd == "optimize":
        d.optimize.z_order(c["zorder"]) if c["zorder"] else d.optimize.compact()
    elif cmd == "vacuum":
        d.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=not c["lite"])
    elif cmd == "checkpoint":
        d.create_checkpoint()
    elif cmd == "cleanup":
        d.cleanup_metadata()
    elif cmd == "restore":
        d.restore(c["version"])
    elif cmd == "add column":
        d.alter.add_columns([deltalake.Field(c["name"], deltalake.schema.PrimitiveType(c["type"]))])
    elif cmd == "property":
        d.alter.set_table_properties({c["key"]: c["value"]})
    elif cmd == "constraint":
        d.alter.add_constraint({c["name"]: c["where"]})
    else:
        raise ValueError(cmd)
    return {}


rows.serve(rows.answers(), run)
