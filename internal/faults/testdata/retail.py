"""Judges the tables of the retail jobs against the purchase lines that went in.

usage: retail.py INPUT.csv LAKE FOLDER

delta-rs reads LAKE, a folder or an s3:// URL, and DuckDB's Delta extension FOLDER,
where the same objects lie. Prints one JSON object per check: reader, check, got, want.
"""
import glob
import json
import os
import sys

import deltalake
import duckdb
import duckdb_extension_delta

source, lake, folder = sys.argv[1:4]
TABLES = ["bronze/checkout_events", "bronze/cart_updates", "gold/baskets", "gold/revenue", "gold/revenue_late"]

con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
con.execute("SET threads=2")
con.execute(f"""CREATE TABLE input AS SELECT * EXCLUDE (said), epoch_us(CAST(said AS TIMESTAMP)) AS ts FROM read_csv('{source}', header=true, columns={{
  'household_id':'BIGINT','store_id':'BIGINT','basket_id':'BIGINT','product_id':'BIGINT','department':'VARCHAR','category':'VARCHAR',
  'quantity':'BIGINT','amount':'DECIMAL(12,2)','discount':'DECIMAL(12,2)','said':'VARCHAR'}})""")
con.execute("""CREATE TABLE expected AS SELECT household_id, basket_id, count(*) AS lines, sum(quantity)::BIGINT AS quantity,
  sum(amount)::DECIMAL(12,2) AS amount, 'checkout' AS reason FROM input GROUP BY ALL""")
lines, baskets = con.execute("SELECT (SELECT count(*) FROM input), (SELECT count(*) FROM expected)").fetchone()

where = os.path.dirname(duckdb_extension_delta.__file__)
[extension] = glob.glob(os.path.join(where, "extensions", "*", "delta.duckdb_extension"))
con.execute(f"LOAD '{extension}'")

CHECKS = [
    ("lines in bronze", "SELECT count(*) FROM checkout_events", lines),
    ("distinct places of lines in bronze", 'SELECT count(DISTINCT (topic, "partition", "offset")) FROM checkout_events', lines),
    ("carts in bronze", "SELECT count(*) FROM cart_updates", lines + baskets),
    ("distinct places of carts in bronze", 'SELECT count(DISTINCT (topic, "partition", "offset")) FROM cart_updates', lines + baskets),
    ("gaps between offsets of lines", 'SELECT sum(n)::BIGINT FROM (SELECT max("offset") + 1 - count(*) AS n FROM checkout_events GROUP BY "partition")', 0),
    ("lines that are not in bronze", """SELECT count(*) FROM (SELECT household_id, store_id, basket_id, product_id, department, category, quantity, amount, discount, ts FROM input
        EXCEPT ALL SELECT household_id, store_id, basket_id, product_id, department, category, quantity, amount, discount, epoch_us("at") FROM checkout_events)""", 0),
    ("baskets in gold", "SELECT count(*) FROM baskets", baskets),
    ("baskets that are not in gold", """SELECT count(*) FROM (SELECT * FROM expected
        EXCEPT ALL SELECT household_id, basket_id, lines, quantity, amount, reason FROM baskets)""", 0),
    ("lines in revenue and too late", """SELECT (SELECT coalesce(sum(lines), 0) FROM (SELECT max(lines) AS lines FROM revenue GROUP BY category, window_start))::BIGINT
        + (SELECT count(*) FROM revenue_late)""", lines),
    ("cents in revenue and too late", """SELECT ((SELECT coalesce(sum(revenue), 0) FROM (SELECT arg_max(revenue, lines) AS revenue FROM revenue GROUP BY category, window_start))
        + (SELECT coalesce(sum(amount), 0) FROM revenue_late)) * 100""", int(con.execute("SELECT sum(amount) * 100 FROM input").fetchone()[0])),
    ("windows whose sums are not those of their lines", """WITH d AS (SELECT category, epoch_us(window_start) AS window_start, max(lines) AS lines, arg_max(quantity, lines) AS quantity, arg_max(revenue, lines) AS revenue FROM revenue GROUP BY ALL),
        e AS (SELECT category, ts - ts % 86400000000 AS window_start, count(*) AS lines, sum(quantity) AS quantity, sum(amount) AS revenue FROM
          (SELECT category, ts, quantity, amount FROM input EXCEPT ALL SELECT category, epoch_us("at"), quantity, amount FROM revenue_late) GROUP BY ALL)
        SELECT count(*) FROM (SELECT category, window_start, lines::BIGINT, quantity::BIGINT, revenue::DECIMAL(18,2) FROM e EXCEPT ALL SELECT category, window_start, lines::BIGINT, quantity::BIGINT, revenue::DECIMAL(18,2) FROM d)""", 0),
]

for reader in ["delta-rs", "duckdb"]:
    held = []
    for t in TABLES:
        name = t.split("/")[1]
        if reader == "delta-rs":
            held.append(deltalake.DeltaTable(f"{lake}/{t}").to_pyarrow_table())
            con.register("arrow_" + name, held[-1])
            con.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM arrow_{name}")
        else:
            con.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM delta_scan('{folder}/{t}')")
    for check, sql, want in CHECKS:
        got = con.execute(sql).fetchone()[0]
        print(json.dumps({"reader": reader, "check": check, "got": int(got), "want": int(want)}), flush=True)

# The threads of delta-rs may abort an interpreter that ends in order.
sys.stdout.flush()
os._exit(0)
