package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// sorted is a Frozen of rows that are sorted already.
type sorted struct{ keys, rows [][]byte }

func (f *sorted) Drops() []spi.Span { return nil }
func (f *sorted) Done(error)        {}

func (f *sorted) Rows(yield func(key, value []byte) bool) error {
	for i := range f.keys {
		if !yield(f.keys[i], f.rows[i]) {
			return nil
		}
	}
	return nil
}

// sortedKey returns the i-th of total row keys in sorted order, spread over the groups.
func sortedKey(i, total, groups int) ([]byte, uint64) {
	hash := uint32(uint64(i) << 32 / uint64(total))
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(i))
	g := dataflow.GroupOf(hash, groups)
	return dataflow.AppendRowKey(nil, g, plainState, hash, key[:]), dataflow.FilterHash(plainState, 0, hash)
}

// sample returns every row of total with probability n/total, with random values.
func sample(r *rand.Rand, total, n, valueBytes int) *sorted {
	f := &sorted{}
	for i := range total {
		if n < total && r.IntN(total) >= n {
			continue
		}
		k, _ := sortedKey(i, total, 128)
		v := make([]byte, valueBytes)
		for j := 0; j+8 <= len(v); j += 8 {
			binary.LittleEndian.PutUint64(v[j:], r.Uint64())
		}
		f.keys, f.rows = append(f.keys, k), append(f.rows, v)
	}
	return f
}

// chainOf writes epochs that overlap and returns their manifest.
func chainOf(t testing.TB, sh *Shared, objs *memObjects, epochs, total, n int) (*Store, []dataflow.FileRef) {
	t.Helper()
	s := openStore(t, Options{Shared: sh, Objects: objs, Total: 128, MergeFiles: 1 << 20, RebaseBytes: 1 << 40})
	r := rand.New(rand.NewPCG(1, 1))
	for e := range epochs {
		if _, err := s.WriteEpoch(context.Background(), dataflow.Epoch(e+1), []spi.Frozen{sample(r, total, n, 96)}); err != nil {
			t.Fatal(err)
		}
	}
	return s, upload(t, s, objs, "chain")
}

// A restore of overlapping remote files, 30 ms each read, answers its first get after
// few reads, most of them at the same time, and does not wait for whole files. WEIR_STATE_LONG adds 120 large files.
func TestRestoreLatency(t *testing.T) {
	restoreLatency(t, 120, 20000, 2000)
	restoreLatency(t, 12, 40000, 10000)
	if os.Getenv("WEIR_STATE_LONG") != "" {
		restoreLatency(t, 120, 40000, 10000)
	}
}

func restoreLatency(t *testing.T, epochs, total, n int) {
	sh, objs := newShared(t), newMemObjects()
	a, files := chainOf(t, sh, objs, epochs, total, n)
	from, h := sortedKey(total/4, total, 128)
	var k []byte
	for key := range a.Scan(from, nil) {
		k = bytes.Clone(key)
		break
	}
	objs.latency = 30 * time.Millisecond
	objs.hold = make(chan struct{})
	s := openStore(t, Options{Shared: sh, Objects: objs, Total: 128})
	start := time.Now()
	if err := s.Restore(context.Background(), files); err != nil {
		t.Fatal(err)
	}
	linked := time.Since(start)
	rows := loadAll(t, s, []uint64{h}, [][]byte{k}) // no filter yet: the hash does not matter
	first := time.Since(start)
	objs.mu.Lock()
	reads, most := objs.reads, objs.most
	objs.mu.Unlock()
	t.Logf("%d files of %d bytes: linked after %v, first get after %v, %d reads, %d at a time", len(files), files[0].Length, linked, first, reads, most)
	if rows[0] == nil {
		t.Error("the row is absent")
	}
	if reads > epochs+epochs/4 || most < epochs/4 { // else 0.2 s when the machine is idle
		t.Errorf("%d reads, %d at a time: nearly each waits for the one before", reads, most)
	}
	close(objs.hold)
	<-s.Local()
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if small := files[0].Length == tailBytes(files[0].Length); small != (objs.fetches == 0) {
		t.Errorf("%d fetches of %d files of %d bytes", objs.fetches, len(files), files[0].Length)
	}
}

// A damaged object is replaced by a good local copy, a damaged local copy by the
// object; with neither, the error names the object.
func TestCorruption(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	a, files := chainOf(t, sh, objs, 3, 2000, 1000)
	good := objs.objects["chain"]
	bad := append([]byte{}, good...)
	bad[files[1].Offset+files[1].Length/3] ^= 1
	local := FindLocal(Disk(), files, a.opts.Dir)
	for i, f := range local {
		if f.Local == "" {
			t.Fatalf("file %d has no local copy", i)
		}
	}
	spoil := func(f dataflow.FileRef) string {
		b, err := os.ReadFile(f.Local)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/3] ^= 1
		path := t.TempDir() + "/spoiled"
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	spoiled := append([]dataflow.FileRef{}, local...)
	spoiled[1].Local = spoil(local[1])
	for _, tt := range []struct {
		name   string
		files  []dataflow.FileRef
		object []byte
		bad    bool
	}{
		{"good object", files, good, false},
		{"bad object, good local copy", local, bad, false},
		{"good object, bad local copy", spoiled, good, false},
		{"bad object", files, bad, true},
		{"both bad", spoiled, bad, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objs.put("chain", tt.object)
			s := openStore(t, Options{Shared: sh, Objects: objs, Total: 128})
			err := s.Restore(context.Background(), tt.files)
			<-s.Local()
			if err == nil {
				err = s.Err()
			}
			var c *CorruptError
			switch {
			case !tt.bad && err != nil:
				t.Fatal(err)
			case tt.bad && !errors.As(err, &c):
				t.Fatalf("error is %v, want a CorruptError", err)
			case tt.bad:
				if c.Object != "chain" || c.Offset != files[1].Offset || !strings.Contains(err.Error(), "object chain") {
					t.Errorf("error does not name the object and its place: %v", err)
				}
				if err := s.Load([]uint64{0}, [][]byte{groupKey(1)}, nil); !errors.As(err, &c) {
					t.Errorf("Load after the failure: %v", err)
				}
			default:
				_, rows := scanAll(t, s, nil, nil)
				_, want := scanAll(t, a, nil, nil)
				if len(rows) != len(want) {
					t.Errorf("%d rows, want %d", len(rows), len(want))
				}
			}
		})
	}
}

// A restore that cannot read an object says which, and nothing hangs.
func TestRestoreMissingObject(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	_, files := chainOf(t, sh, objs, 2, 500, 500)
	delete(objs.objects, "chain")
	s := openStore(t, Options{Shared: sh, Objects: objs, Total: 128})
	if err := s.Restore(context.Background(), files); err == nil || !strings.Contains(err.Error(), "chain") {
		t.Errorf("Restore: %v", err)
	}
}

// Loads, scans and Empty run while epochs are written, merged and rebased, and see
// every row of the epochs before.
func TestConcurrentWrite(t *testing.T) {
	sh, objs := newShared(t), newMemObjects()
	s := openStore(t, Options{Shared: sh, Objects: objs, Total: 128, MergeFiles: 4, MergeFanIn: 4, RebaseBytes: 1})
	const total = 2000
	r := rand.New(rand.NewPCG(1, 2))
	if _, err := s.WriteEpoch(context.Background(), 1, []spi.Frozen{sample(r, total, total, 32)}); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	stop := make(chan struct{})
	done.Add(1)
	go func() {
		defer done.Done()
		defer close(stop)
		r := rand.New(rand.NewPCG(1, 3))
		for e := range 60 {
			if _, err := s.WriteEpoch(context.Background(), dataflow.Epoch(e+2), []spi.Frozen{sample(r, total, 300, 32)}); err != nil {
				t.Error(err)
				return
			}
			upload(t, s, objs, "e"+string(rune('A'+e)))
			s.SetComplete(dataflow.Epoch(e + 2))
			if e%20 == 10 {
				s.buildFilter()
				s.write.Lock()
				if err := s.rebase(); err != nil {
					t.Error(err)
				}
				s.write.Unlock()
			}
		}
	}()
	for loads := 0; ; loads++ {
		select {
		case <-stop:
			done.Wait()
			w := s.Written()
			t.Logf("%d loads, %+v", loads, w)
			if w.Merges == 0 {
				t.Errorf("nothing was merged: %+v", w)
			}
			return
		default:
		}
		var keys [][]byte
		var probes []uint64
		for range 20 {
			k, h := sortedKey(r.IntN(total), total, 128)
			keys, probes = append(keys, k), append(probes, h)
			if g, state := dataflow.RowGroup(k); s.Empty(state, g) {
				t.Fatal("Empty where there are rows")
			}
		}
		for i, row := range loadAll(t, s, probes, keys) {
			if len(row) != 32 {
				t.Fatalf("row %x is %x", keys[i], row)
			}
		}
		if loads%50 == 0 {
			if keys, _ := scanAll(t, s, groupKey(3), groupKey(9)); len(keys) == 0 {
				t.Fatal("scan is empty")
			}
		}
	}
}
