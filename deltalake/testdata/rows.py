"""The one form in which rows travel between the tests and other Delta tools.

A row is a JSON array with a value per column in schema order: numbers and booleans
as they are ("NaN", "inf" and "-inf" as strings), decimals as strings, binary as hex,
dates as days and timestamps as microseconds since 1970, structs and lists as arrays,
maps as arrays of [key, value]. interop_test.go writes and reads the same.
"""
import datetime
import decimal
import json
import math
import os
import sys
import time
import zipfile

EPOCH = datetime.datetime(1970, 1, 1)
DAY = datetime.date(1970, 1, 1)
MICRO = datetime.timedelta(microseconds=1)


def scalar(v):
    """A Python value without children as JSON holds it."""
    if isinstance(v, bool) or isinstance(v, (int, str)):
        return v
    if isinstance(v, float):
        return v if math.isfinite(v) else "NaN" if math.isnan(v) else "inf" if v > 0 else "-inf"
    if isinstance(v, decimal.Decimal):
        return format(v, "f")
    if isinstance(v, (bytes, bytearray)):
        return bytes(v).hex()
    if isinstance(v, datetime.datetime):
        if v.tzinfo is not None:
            v = v.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return (v - EPOCH) // MICRO
    if isinstance(v, datetime.date):
        return (v - DAY).days
    raise ValueError("value of %s" % type(v))


def arrow_value(v, t):
    import pyarrow as pa
    if v is None:
        return None
    if pa.types.is_struct(t):
        return [arrow_value(v[t.field(i).name], t.field(i).type) for i in range(t.num_fields)]
    if pa.types.is_map(t):
        return [[arrow_value(k, t.key_type), arrow_value(x, t.item_type)] for k, x in (v.items() if isinstance(v, dict) else v)]
    if pa.types.is_nested(t):
        return [arrow_value(x, t.value_type) for x in v]
    return scalar(v)


def arrow_rows(table):
    """The rows of a pyarrow table."""
    columns = [c.to_pylist() for c in table.columns]
    types = [f.type for f in table.schema]
    return [[arrow_value(v, t) for v, t in zip(row, types)] for row in zip(*columns)]


def spark_value(v, t):
    if v is None:
        return None
    kind = t.typeName()
    if kind == "struct":
        return [spark_value(x, f.dataType) for x, f in zip(v, t.fields)]
    if kind == "array":
        return [spark_value(x, t.elementType) for x in v]
    if kind == "map":
        return [[spark_value(k, t.keyType), spark_value(x, t.valueType)] for k, x in v.items()]
    return scalar(v)


def spark_rows(df):
    """The rows of a Spark frame; the process and the session live in UTC."""
    types = [f.dataType for f in df.schema.fields]
    return [[spark_value(v, t) for v, t in zip(row, types)] for row in df.collect()]


def value(v, t, record=tuple):
    """The Python value of a JSON one, for a column of Delta type t (a name, or the JSON
    of a nested type). record makes a struct of its pairs (name, value)."""
    if v is None:
        return None
    if isinstance(t, dict):
        if t["type"] == "struct":
            return record((f["name"], value(x, f["type"], record)) for f, x in zip(t["fields"], v))
        if t["type"] == "array":
            return [value(x, t["elementType"], record) for x in v]
        if t["type"] == "map":
            return {value(k, t["keyType"], record): value(x, t["valueType"], record) for k, x in v}
    if t in ("float", "double"):
        return float(v)
    if t.startswith("decimal"):
        return decimal.Decimal(v)
    if t == "binary":
        return bytes.fromhex(v)
    if t == "date":
        return DAY + datetime.timedelta(v)
    if t in ("timestamp", "timestamp_ntz"):
        return EPOCH + v * MICRO
    return v


def answers():
    """The real stdout; from here on what libraries print there goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def serve(out, run):
    """Answers commands, JSON lines on stdin, with JSON lines on out."""
    for line in sys.stdin:
        began = time.time()
        try:
            answer = run(json.loads(line))
        except BaseException as e:  # the test shows it
            answer = {"error": ("%s: %s" % (type(e).__name__, e))[:2000]}
        answer["seconds"] = time.time() - began
        print(json.dumps(answer), file=out, flush=True)


def every(versions, read):
    """Reads versions one by one: each gives columns and rows, or an error."""
    out = []
    for v in versions:
        try:
            columns, got = read(v)
            out.append({"version": v, "columns": columns, "rows": got})
        except Exception as e:
            out.append({"version": v, "error": ("%s: %s" % (type(e).__name__, e))[:600]})
    return {"versions": out}


class Golden:
    """One table of the committed test data: a zip of its files and, beside it, what
    the tool that wrote it reads, a JSON line per version."""

    def __init__(self, out, name, root, writer):
        self.out, self.name, self.root = out, name, root
        self.lines = [{"writer": writer}]

    def version(self, v, columns, rows):
        rows.sort(key=json.dumps)
        self.lines.append({"version": v, "columns": columns, "rows": rows})

    def gone(self, v):
        self.lines.append({"version": v, "gone": True})

    def changes(self, first, last, columns, rows):
        rows.sort(key=json.dumps)
        self.lines.append({"changes": [first, last], "columns": columns, "rows": rows})

    def refused(self, why):
        """The table cannot be read: the sentence must hold these words."""
        self.lines.append({"refused": why})

    def note(self, **kw):
        self.lines[0].update(kw)

    def save(self):
        """Hadoop's own checksums are left out; the absolute root becomes @ROOT@."""
        with zipfile.ZipFile(os.path.join(self.out, self.name + ".zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
            for base, dirs, files in sorted(os.walk(self.root)):
                dirs.sort()
                for f in sorted(files):
                    if f.startswith(".") and f.endswith(".crc") or f.startswith(".s3-optimization"):
                        continue
                    p = os.path.join(base, f)
                    with open(p, "rb") as r:
                        data = r.read()
                    if f.endswith((".json", ".crc")) or f == "_last_checkpoint":
                        data = data.replace(self.root.encode(), b"@ROOT@")
                    elif self.root.encode() in data:
                        raise ValueError("%s names the folder it was made in" % p)
                    z.writestr(zipfile.ZipInfo(os.path.relpath(p, self.root), (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)
        with open(os.path.join(self.out, self.name + ".jsonl"), "w") as w:
            for line in self.lines:
                w.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def versions(table):
    """The versions that the log of a table has as JSON, read from the folder."""
    names = os.listdir(os.path.join(table, "_delta_log"))
    return sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit())
