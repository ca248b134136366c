"""What delta-rs needs for a large log, for log_speed_test.go: operation, path."""
import sys
import time

import deltalake

what, path = sys.argv[1], sys.argv[2]
start, cpu = time.perf_counter(), time.process_time()
table = deltalake.DeltaTable(path)
files = len(table.file_uris()) if what == "open" else 0
if what == "checkpoint":
    table.create_checkpoint()
wall, used = time.perf_counter() - start, time.process_time() - cpu
sys.stdout.write('{"wall_seconds":%f,"cpu_seconds":%f,"files":%d}\n' % (wall, used, files))
