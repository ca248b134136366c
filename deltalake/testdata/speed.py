"""CPU seconds, and MiB beyond those at the start, of delta-rs for speed_test.go: rows, path, path of a second table."""
import sys
import time

import deltalake
import pyarrow as pa
import pyarrow.dataset as ds

rows, path, merged = int(sys.argv[1]), sys.argv[2], sys.argv[3]
n = 10_000
base = {
    "user": pa.array(["user-%d" % (i * 31 % 5000) for i in range(n)]),
    "price": pa.array([(i % 997) * 1.25 for i in range(n)]),
    "qty": pa.array([i % 20 for i in range(n)], pa.int32()),
    "at": pa.array([1_700_000_000_000_000 + i * 1000 for i in range(n)], pa.timestamp("us", "UTC")),
    "ok": pa.array([i % 3 == 0 for i in range(n)]),
    "url": pa.array(["https://example.org/item/%d" % i for i in range(n)]),
}


def table(k):
    return pa.table(dict(id=pa.array(range(k * n, k * n + n), pa.int64()), **base))


def memory(what):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what))


def timed(name, fn):
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass
    before, start = memory("VmRSS"), time.process_time()
    fn()
    print(name, time.process_time() - start, (memory("VmHWM") - before) // 1024, flush=True)


whole = pa.concat_tables([table(k) for k in range(rows // n)])
timed("append", lambda: deltalake.write_deltalake(path, whole))
timed("scan", lambda: sum(b.num_rows for b in deltalake.DeltaTable(path).to_pyarrow_dataset().to_batches()))
f = (ds.field("id") >= rows // 2) & (ds.field("id") < rows // 2 + 1000)
timed("filter", lambda: deltalake.DeltaTable(path).to_pyarrow_dataset().to_table(filter=f).num_rows)
deltalake.write_deltalake(merged, whole)
del whole
src = pa.table({"id": pa.array([i * 100 for i in range(rows // 100)], pa.int64()), "price": pa.array([-1.0] * (rows // 100))})
timed("merge", lambda: deltalake.DeltaTable(merged).merge(src, "t.id = s.id", source_alias="s", target_alias="t")
      .when_matched_update({"price": "s.price"}).execute())

tiny, one, took = merged + "-tiny", table(0).slice(0, 1), []
for _ in range(1000):
    start = time.perf_counter()
    deltalake.write_deltalake(tiny, one, mode="append")
    took.append((time.perf_counter() - start) * 1000)
print("first", sum(took[:100]) / 100, 0)
print("last", sum(took[-100:]) / 100, 0)
