"""Compares the answers in a folder with what DuckDB makes of the same events.

usage: check.py FOLDER QUERY...

FOLDER holds person.parquet, auction.parquet, bid.parquet and QUERY.parquet; the
SQL of a query lies beside this file. Prints one line per query and exits 1 if
one differs.
"""
import os
import sys

import duckdb


def check(con, here, folder, query):
    with open(os.path.join(here, query + ".sql")) as f:
        con.execute(f"CREATE OR REPLACE TABLE want AS {f.read()}")
    con.execute(f"CREATE OR REPLACE TABLE got AS SELECT * FROM '{folder}/{query}.parquet'")
    columns = [[c[0] for c in con.execute(f"SELECT * FROM {t} LIMIT 0").description] for t in ("want", "got")]
    if columns[0] != columns[1]:
        print(f"{query}: columns {columns[1]}, want {columns[0]}")
        return False
    want, got = (con.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("want", "got"))
    lacks = con.execute("SELECT * FROM want EXCEPT ALL SELECT * FROM got").fetchall()
    extra = con.execute("SELECT * FROM got EXCEPT ALL SELECT * FROM want").fetchall()
    if lacks or extra or want == 0:
        print(f"{query}: {got} rows, want {want}: {len(lacks)} lacking, such as {lacks[:1]}; {len(extra)} too many, such as {extra[:1]}")
        return False
    print(f"{query}: {got} rows equal")
    return True


def main():
    folder, queries = sys.argv[1], sys.argv[2:]
    con = duckdb.connect()
    for t in ("person", "auction", "bid"):
        con.execute(f"CREATE VIEW {t} AS SELECT * FROM '{folder}/{t}.parquet'")
    here = os.path.dirname(os.path.abspath(__file__))
    sys.exit(0 if all([check(con, here, folder, q) for q in queries]) else 1)


main()
