"""Judges tables with Spark and delta-spark.

usage: spark.py FOLDER N K           the table of the job of numbers
       spark.py FOLDER retail LINES CARTS BASKETS   the lake of the retail jobs

Prints one JSON object per check: reader, check, got, want. deploy/real/spark.sh runs it.
"""
import json
import os
import sys

from pyspark.sql import SparkSession

spark = (SparkSession.builder.master("local[2]").appName("judge")
         .config("spark.jars", os.environ["WEIR_SPARK_JARS"])
         .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
         .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
         .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
         .config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false").config("spark.driver.memory", "1g")
         .config("spark.sql.shuffle.partitions", "2").config("spark.databricks.delta.snapshotPartitions", "2")
         .getOrCreate())


def check(name, sql, want):
    got = spark.sql(sql).collect()[0][0]
    print(json.dumps({"reader": "spark", "check": name, "got": int(got or 0), "want": int(want)}), flush=True)


folder = sys.argv[1]
if sys.argv[2] == "retail":
    lines, carts, baskets = map(int, sys.argv[3:6])
    for t in ["bronze/checkout_events", "bronze/cart_updates", "gold/baskets", "gold/revenue", "gold/revenue_late"]:
        spark.read.format("delta").load(f"{folder}/{t}").createOrReplaceTempView(t.split("/")[1])
    check("lines in bronze", "SELECT count(*) FROM checkout_events", lines)
    check("distinct places of lines", "SELECT count(DISTINCT topic, `partition`, `offset`) FROM checkout_events", lines)
    check("distinct places of carts", "SELECT count(DISTINCT topic, `partition`, `offset`) FROM cart_updates", carts)
    check("carts in bronze", "SELECT count(*) FROM cart_updates", carts)
    check("baskets in gold", "SELECT count(*) FROM baskets", baskets)
    check("distinct baskets in gold", "SELECT count(DISTINCT household_id, basket_id) FROM baskets", baskets)
    check("lines in revenue and too late", """SELECT (SELECT coalesce(sum(n), 0) FROM (SELECT max(lines) AS n FROM revenue GROUP BY category, window_start))
        + (SELECT count(*) FROM revenue_late)""", lines)
else:
    n, k = int(sys.argv[2]), int(sys.argv[3])
    spark.read.format("delta").load(folder).createOrReplaceTempView("out")
    check("rows", "SELECT count(*) FROM out", n)
    check("distinct ids", f"SELECT count(DISTINCT id) FROM out WHERE id >= 0 AND id < {n}", n)
    check("wrong rows", f"""SELECT count(*) FROM out WHERE NOT (key = id % {k} AND `count` = id DIV {k} + 1
        AND `sum` = `count` * key + {k} * (`count` * (`count` - 1) DIV 2)) OR (key + `count` + `sum`) IS NULL""", 0)
spark.stop()
