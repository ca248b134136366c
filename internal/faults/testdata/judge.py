"""Judges the table of a fault test with delta-rs and with DuckDB's Delta extension.

usage: judge.py TABLE N K [FOLDER]

TABLE is what delta-rs reads, a folder or an s3:// URL; FOLDER is where the same
objects lie for DuckDB, TABLE if it is left out.

Prints one JSON object per reader: rows, lost (ids of 0..N-1 without a row), twice
(rows beyond the first of their id) and wrong (rows whose key, count or sum is not
what follows from the id; K keys).
"""
import glob
import json
import os
import sys

import deltalake
import duckdb
import duckdb_extension_delta

table, n, k = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
folder = sys.argv[4] if len(sys.argv) > 4 else table

JUDGE = f"""
SELECT count(*) AS rows,
       {n} - count(DISTINCT id) FILTER (id >= 0 AND id < {n}) AS lost,
       count(*) - count(DISTINCT id) AS twice,
       count(*) FILTER (id < 0 OR id >= {n} OR key <> id % {k} OR "count" <> id // {k} + 1
             OR "sum" <> "count" * key + {k}::HUGEINT * "count" * ("count" - 1) // 2
             OR id IS NULL OR key IS NULL OR "count" IS NULL OR "sum" IS NULL) AS wrong
FROM """


def answer(reader, con, source):
    rows, lost, twice, wrong = con.execute(JUDGE + source).fetchone()
    print(json.dumps({"reader": reader, "rows": rows, "lost": lost, "twice": twice, "wrong": wrong}), flush=True)


con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
con.execute("SET threads=2")
arrow = deltalake.DeltaTable(table).to_pyarrow_table(columns=["id", "key", "count", "sum"])
answer("delta-rs", con, "arrow")
del arrow

where = os.path.dirname(duckdb_extension_delta.__file__)
[extension] = glob.glob(os.path.join(where, "extensions", "*", "delta.duckdb_extension"))
con.execute(f"LOAD '{extension}'")
answer("duckdb", con, f"delta_scan('{folder}')")

# The threads of delta-rs may abort an interpreter that ends in order.
sys.stdout.flush()
os._exit(0)
