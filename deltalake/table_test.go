package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
)

func testSchema() *Schema {
	return NewSchema(Field{Name: "id", Type: Of(KindLong)}, Col("name", Of(KindString)), Col("price", Of(KindDouble)),
		Col("amount", DecimalOf(12, 2)), Col("at", Of(KindTimestamp)), Col("tags", ListOf(Of(KindString))),
		Col("pos", StructOf(Col("x", Of(KindInteger)), Col("y", Of(KindFloat)))), Col("attrs", MapOf(Of(KindString), Of(KindLong))))
}

func fillRows(b *Batch, from, to int) {
	for i := from; i < to; i++ {
		c := b.Columns
		c[0].AppendLong(int64(i))
		if i%7 == 3 {
			c[1].AppendNull()
		} else {
			c[1].AppendString(fmt.Sprintf("name-%d", i%100))
		}
		c[2].AppendDouble(float64(i) / 4)
		c[3].AppendDecimal(DecimalFromInt64(int64(i) - 50))
		c[4].AppendLong(1_700_000_000_000_000 + int64(i))
		if i%5 == 0 {
			c[5].AppendNull()
		} else {
			for k := range i % 4 {
				c[5].Children[0].AppendString(fmt.Sprint("t", k))
			}
			c[5].AppendElements()
		}
		c[6].Children[0].AppendInt(int32(i))
		c[6].Children[1].AppendNull()
		c[6].AppendElements()
		for k := range i % 3 {
			c[7].Children[0].AppendString(fmt.Sprint("k", k))
			c[7].Children[1].AppendLong(int64(i * k))
		}
		c[7].AppendElements()
		b.Len++
	}
}

func writeFile(t *testing.T, store Store, spec *FileSpec, from, to int) *AddFile {
	t.Helper()
	w, err := NewFileWriter(context.Background(), store, spec, nil, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(spec.DataSchema())
	fillRows(b, from, to)
	if err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	add, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return add
}

// A commit with an application's version is made once, however often it is sent,
// and a reopened table has the same state.
func TestCommitIsIdempotent(t *testing.T) {
	ctx := context.Background()
	for name, store := range map[string]Store{"folder": NewFolderStore(t.TempDir()), "memory": NewMemoryStore(nil)} {
		t.Run(name, func(t *testing.T) {
			tbl, err := Create(ctx, store, CreateOptions{Schema: testSchema()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Create(ctx, store, CreateOptions{Schema: testSchema()}); !errors.Is(err, ErrExists) {
				t.Fatalf("second create: %v, want ErrExists", err)
			}
			for epoch := int64(1); epoch <= 23; epoch++ {
				add := writeFile(t, store, tbl.Latest().FileSpec(), int(epoch)*10, int(epoch)*10+10)
				raw, err := json.Marshal(add)
				if err != nil {
					t.Fatal(err)
				}
				var back AddFile
				if err := json.Unmarshal(raw, &back); err != nil {
					t.Fatal(err)
				}
				for try := range 2 {
					r, err := tbl.Commit(ctx, Commit{AppID: "app", AppVersion: epoch, Adds: []*AddFile{&back}, Spec: tbl.Latest().FileSpec()})
					if err != nil || r.Upkeep != nil {
						t.Fatal(err, r)
					}
					if r.AlreadyCommitted != (try == 1) || r.Version != epoch {
						t.Fatalf("epoch %d try %d: already %v version %d", epoch, try, r.AlreadyCommitted, r.Version)
					}
				}
			}
			again, err := Open(ctx, store, TableOptions{})
			if err != nil {
				t.Fatal(err)
			}
			s := again.Latest()
			if v, ok := s.TxnVersion("app"); !ok || v != 23 || s.NumFiles() != 23 || s.Version() != 23 {
				t.Fatalf("reopened: txn %d %v, %d files, version %d", v, ok, s.NumFiles(), s.Version())
			}
			if n, ok := s.NumRows(); !ok || n != 230 {
				t.Fatalf("rows %d %v, want 230", n, ok)
			}
			h, err := again.History(ctx, 3)
			if err != nil || len(h) != 3 || h[0].Version != 23 || h[0].Info.TxnID == "" {
				t.Fatalf("history %v %v", h, err)
			}
		})
	}
}
