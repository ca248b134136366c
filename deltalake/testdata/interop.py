"""Other readers and writers of Delta tables, for interop_test.go.

Commands arrive as JSON lines on stdin, answers leave as JSON lines on stdout, so
that one interpreter serves a whole test.
"""
import datetime
import decimal
import hashlib
import json
import math
import os
import struct
import sys

import deltalake
import duckdb
import duckdb_extension_delta
import pyarrow as pa

EPOCH = datetime.datetime(1970, 1, 1)
DAY = datetime.date(1970, 1, 1)


def canonical(v, t):
    if v is None:
        return b"N"
    if pa.types.is_boolean(t):
        return b"T" if v else b"F"
    if pa.types.is_integer(t):
        return b"i%d" % v
    if pa.types.is_floating(t):
        if math.isnan(v):
            return b"fnan"
        return b"f" + struct.pack(">d", v if v != 0 else 0.0).hex().encode()
    if pa.types.is_decimal(t):
        s = format(v, "f")
        if "." in s:
            s = s.rstrip("0").rstrip(".")
        return b"m" + (b"0" if s == "-0" else s.encode())
    if pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t):
        raw = v.encode()
        return b"s%d:" % len(raw) + raw
    if pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_binary_view(t):
        return b"b%d:" % len(v) + v
    if pa.types.is_date(t):
        return b"d%d" % (v - DAY).days
    if pa.types.is_timestamp(t):
        if v.tzinfo is not None:
            v = v.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return b"t%d" % ((v - EPOCH) // datetime.timedelta(microseconds=1))
    if pa.types.is_struct(t):
        return b"(" + b"".join(canonical(v[t.field(i).name], t.field(i).type) for i in range(t.num_fields)) + b")"
    if pa.types.is_map(t):
        items = v.items() if isinstance(v, dict) else v
        pairs = sorted((canonical(k, t.key_type), canonical(x, t.item_type)) for k, x in items)
        return b"{" + b"".join(k + x for k, x in pairs) + b"}"
    if pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_list_view(t):
        return b"[" + b"".join(canonical(x, t.value_type) for x in v) + b"]"
    raise ValueError("type %s" % t)


def summed(table):
    total, types = 0, [f.type for f in table.schema]
    columns = [c.to_pylist() for c in table.columns]
    for row in zip(*columns):
        enc = b"(" + b"".join(canonical(v, t) for v, t in zip(row, types)) + b")"
        total = (total + int.from_bytes(hashlib.sha256(enc).digest()[:16], "big")) % (1 << 128)
    return {"rows": table.num_rows, "sum": "%032x" % total}


def connect():
    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    folder = os.path.dirname(duckdb_extension_delta.__file__)
    for base, _, names in os.walk(folder):
        for n in names:
            if n.endswith(".duckdb_extension"):
                con.execute("LOAD '%s'" % os.path.join(base, n))
    con.execute("SET TimeZone='UTC'")
    return con


def batch(start, n):
    ids = list(range(start, start + n))
    return pa.table({
        "id": pa.array(ids, pa.int64()),
        "name": pa.array([None if i % 7 == 3 else "n%d" % (i % 50) for i in ids], pa.string()),
        "price": pa.array([i / 4 for i in ids], pa.float64()),
        "amount": pa.array([decimal.Decimal(i - 50).scaleb(-2) for i in ids], pa.decimal128(12, 2)),
        "at": pa.array([1_700_000_000_000_000 + i for i in ids], pa.timestamp("us", "UTC")),
        "part": pa.array(["p%d" % (i % 3) for i in ids], pa.string()),
    })


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
    return summed(pa.concat_tables(tables))


CON = None


def run(c):
    global CON
    cmd, path = c["cmd"], c["path"]
    if cmd == "deltars":
        t = deltalake.DeltaTable(path, version=c.get("version"))
        return dict(summed(t.to_pyarrow_table()), version=t.version())
    if cmd == "duckdb":
        CON = CON or connect()
        t = CON.execute("SELECT * FROM delta_scan('%s')" % path).fetch_arrow_table()
        return summed(t)
    if cmd == "encodings":
        return encodings(path)
    if cmd == "append":
        deltalake.write_deltalake(path, batch(c["start"], c["n"]), mode="append", partition_by=["part"] if c.get("create") else None)
        return {}
    if cmd == "overwrite":
        deltalake.write_deltalake(path, batch(c["start"], c["n"]), mode="overwrite")
        return {}
    t = deltalake.DeltaTable(path)
    if cmd == "delete":
        return {"m": str(t.delete(c["where"]))}
    if cmd == "update":
        return {"m": str(t.update(updates=c["set"], predicate=c["where"]))}
    if cmd == "optimize":
        return {"m": str(t.optimize.compact())}
    if cmd == "vacuum":
        return {"m": str(len(t.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)))}
    if cmd == "checkpoint":
        t.create_checkpoint()
        return {}
    if cmd == "history":
        return {"h": [h.get("operation") for h in t.history()]}
    if cmd == "merge":
        m = t.merge(batch(c["start"], c["n"]), "t.id = s.id", source_alias="s", target_alias="t")
        m.when_matched_update_all().when_not_matched_insert_all().execute()
        return {}
    raise ValueError(cmd)


for line in sys.stdin:
    try:
        answer = run(json.loads(line))
    except Exception as e:  # the test shows it
        answer = {"error": "%s: %s" % (type(e).__name__, e)}
    print(json.dumps(answer), flush=True)
