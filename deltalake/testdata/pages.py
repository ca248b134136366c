"""Writes Parquet files of many small pages with a page index: pages.py FOLDER ROWS SEED."""
import datetime as dt
import decimal
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq

folder, rows, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
r = random.Random(seed)


def holes(values, share, block):
    """Nulls here and there, and in whole blocks."""
    dead = {b for b in range(rows // block + 1) if r.random() < 0.15}
    return [None if i // block in dead or r.random() < share else v for i, v in enumerate(values)]


def column(block):
    base = [r.randrange(rows) for _ in range(rows // block + 1)]
    return [base[i // block] + r.randrange(20) for i in range(rows)]


def table():
    c, n = column(300), column(500)
    long_text = "ä" * 90
    return pa.table({
        "id": pa.array(range(rows), pa.int64()),
        "c": pa.array(holes(c, 0.1, 250), pa.int32()),
        "r": pa.array(holes([r.randrange(rows) for _ in range(rows)], 0.3, 400), pa.int64()),
        "f": pa.array(holes([float("nan") if r.random() < 0.01 or 3000 < i < 3500 else v / 4 for i, v in enumerate(n)], 0.05, 300), pa.float64()),
        "g": pa.array([-0.0 if v % 50 == 0 else v / 2 for v in c], pa.float32()),
        "s": pa.array(holes([(long_text if v % 3 == 0 else "") + f"name-{v:06d}" for v in n], 0.05, 350), pa.string()),
        "b": pa.array(holes([b"\xff" * 80 + bytes([v % 256]) if v % 2 else v.to_bytes(4, "big") for v in c], 0.05, 350), pa.binary()),
        "d": pa.array(holes([decimal.Decimal(v - rows // 2).scaleb(-2) for v in n], 0.05, 300), pa.decimal128(12, 2)),
        "big": pa.array([decimal.Decimal((v - rows // 2) * 10**20).scaleb(-3) for v in c], pa.decimal128(30, 3)),
        "day": pa.array([dt.date(2020, 1, 1) + dt.timedelta(days=v) for v in c], pa.date32()),
        "at": pa.array(holes([1_700_000_000_000_000 + v * 1_000_000 for v in n], 0.05, 300), pa.timestamp("us", tz="UTC")),
        "st": pa.array([None if v % 11 == 0 else {"x": None if v % 7 == 0 else v, "t": f"t{v}"} for v in n],
                       pa.struct([("x", pa.int32()), ("t", pa.string())])),
        "li": pa.array([None if v % 13 == 0 else [v + k for k in range(v % 5)] for v in c], pa.list_(pa.int64())),
        "ok": pa.array(holes([v % 2 == 0 for v in n], 0.05, 300), pa.bool_()),
    })


for i, (version, dictionary, codec, page, whole) in enumerate([
    ("1.0", False, "snappy", 500, False), ("2.0", False, "zstd", 700, False),
    ("1.0", True, "none", 900, True), ("2.0", ["s", "c", "li"], "snappy", 300, True),
]):
    pq.write_table(table(), f"{folder}/f{i}.parquet", row_group_size=rows // 2 + 37 * i, data_page_version=version, use_dictionary=dictionary,
                   compression=codec, data_page_size=page, write_batch_size=50 + 13 * i, write_page_index=True, store_decimal_as_integer=whole)
