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
