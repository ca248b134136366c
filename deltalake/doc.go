// Package deltalake reads and writes Delta Lake tables in pure Go. It follows
// Delta's PROTOCOL.md, works on any Store (a folder and memory are built in),
// and depends on nothing of the Weir engine.
//
// # Writing from a sink
//
// A sink that runs in many tasks and commits once per epoch uses these calls:
//
//	store := deltalake.NewFolderStore("/lake/gold/orders")        // or cloud.Open(ctx, "gs://bucket/gold/orders") of deltalake/cloud
//	tbl, err := deltalake.Create(ctx, store, deltalake.CreateOptions{
//		Schema: schema, PartitionColumns: []string{"day"}, IfNotExists: true,
//	})
//	snap, err := tbl.EvolveSchema(ctx, schema)                    // mergeSchema; or snap := tbl.Latest()
//
//	// in each writing task, one FileWriter per set of partition values
//	spec := snap.FileSpec()                                       // spec.DataSchema(): columns of a batch
//	w, err := deltalake.NewFileWriter(ctx, store, spec, map[string]*string{"day": &day}, deltalake.FileOptions{})
//	batch := deltalake.NewBatch(spec.DataSchema())
//	batch.Columns[0].AppendLong(42); batch.Columns[1].AppendString("x"); batch.Len++
//	err = w.Write(batch); batch.Reset()                           // as often as needed; w.Size() tells when to roll
//	add, err := w.Close()                                         // durable now; nil without rows
//	manifest, err := json.Marshal(add)                            // AddFile travels as JSON
//
//	// in the one committer, for epoch n, as often as it takes
//	r, err := tbl.Commit(ctx, deltalake.Commit{
//		AppID: "pipeline/orders", AppVersion: n, Adds: adds, Spec: spec, Operation: "STREAMING UPDATE",
//	})
//	// r.AlreadyCommitted: epoch n was in the table before; r.Version: the table version
//	last, ok := r.Snapshot.TxnVersion("pipeline/orders")          // a version ahead of the restored epoch: stop
//
// A *ConflictError of class MetadataChanged says that the table changed so that
// the files no longer fit; a *UnsupportedError names a table feature that this
// package does not keep. PartitionWriter splits batches that hold the partition
// columns too, in bounded memory.
//
// # Concurrency
//
// Tables, snapshots and specs are safe for concurrent use; file writers, batches
// and vectors are confined to one goroutine. Any number of processes may write
// one table: a commit is one put-if-absent of the next log entry, an ambiguous
// answer is resolved by reading back the commit's identity.
//
// # Durability
//
// A data file is durable when FileWriter.Close returns, a commit when Commit
// does. A crash in between leaves files that no version names; Vacuum removes
// them.
package deltalake
