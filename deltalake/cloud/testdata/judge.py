"""Judges the race of race_test.go by the raw log and by delta-rs: reads one JSON
object on stdin, prints a list of faults. It shares no code with the package."""
import json
import os
import re
import sys

q = json.load(sys.stdin)
faults = []
log = os.path.join(q["folder"], "_delta_log")
commits = {int(f[:20]): f for f in os.listdir(log) if re.fullmatch(r"\d{20}\.json", f)}
newest = max(commits)

for v in range(newest + 1):
    if v not in commits:
        faults.append("version %d is missing" % v)
if newest != q["versions"]:
    faults.append("newest version %d, want %d" % (newest, q["versions"]))

txns, paths = {}, {}  # version -> (app, epoch); path of an added file -> version
for v, f in sorted(commits.items()):
    if v == 0:
        continue
    actions = [json.loads(line) for line in open(os.path.join(log, f)) if line.strip()]
    txn = [(a["txn"]["appId"], a["txn"]["version"]) for a in actions if "txn" in a]
    adds = [a["add"]["path"] for a in actions if "add" in a]
    if len(txn) != 1 or len(adds) != 1 or any("remove" in a for a in actions):
        faults.append("version %d has %d txn and %d add" % (v, len(txn), len(adds)))
        continue
    txns[v] = txn[0]
    if adds[0] in paths:
        faults.append("versions %d and %d add the same file" % (paths[adds[0]], v))
    paths[adds[0]] = v
    if not os.path.exists(os.path.join(q["folder"], adds[0])):
        faults.append("version %d: its file %s is not there" % (v, adds[0]))

last = {}
for v, (app, epoch) in sorted(txns.items()):
    if epoch != last.get(app, 0) + 1:
        faults.append("version %d: %s commits %d after %d" % (v, app, epoch, last.get(app, 0)))
    last[app] = epoch
for w in range(q["writers"]):
    if last.get("writer-%d" % w) != q["epochs"]:
        faults.append("writer %d is at %s, want %d" % (w, last.get("writer-%d" % w), q["epochs"]))

told = {}
for w in q["wins"]:
    app = "writer-%d" % w["writer"]
    if w["version"] in told:
        faults.append("version %d was reported to %s and to %s" % (w["version"], told[w["version"]], app))
    told[w["version"]] = app
    if txns.get(w["version"]) != (app, w["epoch"]):
        faults.append("commit %d of %s is not in the log at version %d" % (w["epoch"], app, w["version"]))

if q["deltars"]:
    from deltalake import DeltaTable
    t = DeltaTable(q["uri"], storage_options={"AWS_ENDPOINT_URL": q["endpoint"], "AWS_ALLOW_HTTP": "true", "aws_conditional_put": "etag"})
    if t.version() != newest:
        faults.append("delta-rs is at version %d, the log at %d" % (t.version(), newest))
    rows = t.to_pyarrow_table().to_pydict()
    got = sorted(zip(rows["writer"], rows["epoch"]))
    if got != [(w, e) for w in range(q["writers"]) for e in range(1, q["epochs"] + 1)]:
        faults.append("delta-rs reads %d rows, %d of them different" % (len(got), len(set(got))))
    for w in range(q["writers"]):
        if t.transaction_version("writer-%d" % w) != q["epochs"]:
            faults.append("delta-rs has writer %d at %s" % (w, t.transaction_version("writer-%d" % w)))

json.dump(faults, sys.stdout)
