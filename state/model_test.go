package state

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed of TestModel only")
	seedsFlag = flag.Int("seeds", 25, "seeds of TestModel")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever is written, aborted, merged, rebased, moved, lost and restored, at any
// parallelism, from any mix of local copies and objects: the stores hold what a map
// holds.
func TestModel(t *testing.T) {
	if *seedFlag != 0 {
		runModel(t, *seedFlag, 400)
		return
	}
	for seed := range uint64(*seedsFlag) {
		t.Run(fmt.Sprintf("seed=%d", seed+1), func(t *testing.T) { runModel(t, seed+1, 60) })
	}
}

const modelTotal = 16

// A world is a pipeline of one keyed chain, and the truth about it.
type world struct {
	t        *testing.T
	r        *rand.Rand
	sh       *Shared
	objs     *memObjects
	root     string
	attempts int
	dirs     []string // of all attempts
	stores   []*Store
	epoch    dataflow.Epoch
	truth    map[string][]byte
	complete []dataflow.FileRef // newest manifest
	saved    map[string][]byte  // truth at complete
	ops      map[string]int
	log      []string
}

func runModel(t *testing.T, seed uint64, steps int) {
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 1)), sh: newShared(t), objs: newMemObjects(),
		root: t.TempDir(), truth: map[string][]byte{}, saved: map[string][]byte{}, ops: map[string]int{},
	}
	defer func() {
		for _, s := range w.stores {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			for _, l := range w.log {
				t.Log(l)
			}
			t.Logf("repeat with: go test ./state -run TestModel -seed %d", seed)
		}
	}()
	w.restart(1 + w.r.IntN(3))
	for range steps {
		w.step()
		if t.Failed() {
			return
		}
	}
	if testing.Verbose() {
		t.Logf("%v; %+v", w.ops, w.stores[0].Written())
	}
}

func (w *world) did(op string, args ...any) {
	w.ops[op]++
	w.log = append(w.log, fmt.Sprint(append([]any{op}, args...)...))
}

func (w *world) step() {
	switch n := w.r.IntN(100); {
	case n < 40:
		w.writeEpoch()
	case n < 55:
		w.checkpoint()
	case n < 63:
		w.check()
	case n < 68:
		w.did("restart")
		w.restart(1 + w.r.IntN(8))
	case n < 76:
		s := w.store()
		<-s.Local()
		w.did("rebase")
		s.write.Lock()
		if err := s.rebase(); err != nil {
			w.t.Errorf("rebase: %v", err)
		}
		s.sweep()
		s.write.Unlock()
	case n < 84:
		s := w.store()
		<-s.Local()
		w.did("compact")
		if err := s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false); err != nil {
			w.t.Errorf("compact: %v", err)
		}
	case n < 90:
		w.move()
	case n < 94:
		s := w.store()
		<-s.Local()
		w.did("filter")
		s.buildFilter()
	default:
		w.check()
	}
}

func (w *world) store() *Store { return w.stores[w.r.IntN(len(w.stores))] }

// restart drops every store and restores the newest manifest at a parallelism.
func (w *world) restart(parallelism int) {
	for _, s := range w.stores {
		if err := s.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.stores = nil
	dead := slices.Clone(w.dirs)
	for i := range parallelism {
		w.attempts++
		dir := filepath.Join(w.root, fmt.Sprint(w.attempts))
		s, err := Open(Options{
			Dir: dir, Shared: w.sh, Objects: w.objs, Infos: infos, Total: modelTotal,
			Groups:    dataflow.OwnedBy(modelTotal, parallelism, i),
			FileBytes: 1 << 10 << w.r.IntN(8), MergeFiles: 1 + w.r.IntN(6), MergeFanIn: 2 + w.r.IntN(4), RebaseBytes: 1 << w.r.IntN(20),
		})
		if err != nil {
			w.t.Fatal(err)
		}
		w.stores = append(w.stores, s)
		w.dirs = append(w.dirs, dir)
		files := slices.Clone(w.complete)
		if w.r.IntN(2) == 0 {
			files = FindLocal(Disk(), files, dead...)
			for _, f := range files {
				if f.Local != "" && w.r.IntN(12) == 0 { // a crash left rubbish
					w.did("rubbish")
					os.WriteFile(f.Local+".x", make([]byte, f.Length), 0o644)
					os.Rename(f.Local+".x", f.Local)
				}
			}
		}
		if err := s.Restore(context.Background(), files); err != nil {
			w.t.Fatalf("restore: %v", err)
		}
	}
	if len(w.dirs) > 12 && w.r.IntN(3) == 0 { // old attempts go
		for _, d := range w.dirs[:len(w.dirs)-len(w.stores)] {
			os.RemoveAll(d)
		}
		w.dirs = w.dirs[len(w.dirs)-len(w.stores):]
	}
	w.truth = maps.Clone(w.saved)
	w.check()
}

// key returns a random row key, often one of few.
func (w *world) key() []byte {
	state := []dataflow.StateID{plainState, plainState, paneState, otherState}[w.r.IntN(4)]
	n := w.r.IntN(60)
	if w.r.IntN(4) == 0 {
		n = w.r.IntN(3000)
	}
	k, _ := rowKey(state, int64(w.r.IntN(5)-2), n, modelTotal)
	return k
}

func probe(key []byte) uint64 {
	_, state := dataflow.RowGroup(key)
	k, _ := dataflow.ParseRowKey(key, state == paneState)
	return dataflow.FilterHash(state, k.Pane, k.Hash)
}

// span returns a random range to drop within the groups.
func (w *world) span(g dataflow.KeyGroups) spi.Span {
	group := g.From + w.r.IntN(g.Len())
	switch w.r.IntN(4) {
	case 0: // a pane of a group
		pane := int64(w.r.IntN(5) - 2)
		p := dataflow.AppendRowPrefix(nil, group, paneState)
		return spi.Span{From: dataflow.AppendPane(p, pane), To: dataflow.AppendPane(p, pane+1)}
	case 1: // a state of a group
		return spi.Span{From: dataflow.AppendRowPrefix(nil, group, plainState), To: dataflow.AppendRowPrefix(nil, group, plainState+1)}
	case 2: // a whole group
		return spi.Span{From: groupKey(group), To: groupKey(group + 1)}
	}
	a, b := w.key(), w.key() // between two rows
	if bytes.Compare(a, b) > 0 {
		a, b = b, a
	}
	if ga, _ := dataflow.RowGroup(a); !g.Contains(ga) {
		return spi.Span{}
	}
	if gb, _ := dataflow.RowGroup(b); !g.Contains(gb) {
		return spi.Span{}
	}
	return spi.Span{From: a, To: b}
}

// writeEpoch freezes random changes at one or all stores; sometimes the write fails.
func (w *world) writeEpoch() {
	w.epoch++
	stores := w.stores
	if w.r.IntN(3) == 0 {
		stores = []*Store{w.store()}
	}
	for _, s := range stores {
		g := s.Groups()
		if g.Len() == 0 {
			continue
		}
		next := maps.Clone(w.truth)
		var drops []spi.Span
		if w.r.IntN(3) == 0 {
			for range 1 + w.r.IntN(3) {
				d := w.span(g)
				drops = append(drops, d)
				for k := range next {
					if bytes.Compare([]byte(k), d.From) >= 0 && bytes.Compare([]byte(k), d.To) < 0 {
						delete(next, k)
					}
				}
			}
		}
		// As a chain would: rows of different states come from different operators.
		frozen := map[dataflow.StateID]*dirty{}
		for range w.r.IntN(80) {
			k := w.key()
			group, state := dataflow.RowGroup(k)
			if !g.Contains(group) {
				continue
			}
			if frozen[state] == nil {
				frozen[state] = &dirty{rows: map[string][]byte{}}
			}
			if w.r.IntN(3) == 0 {
				frozen[state].rows[string(k)] = nil
				delete(next, string(k))
				continue
			}
			v := bytes.Repeat([]byte{byte(w.r.Uint32())}, w.r.IntN(60))
			frozen[state].rows[string(k)] = v
			next[string(k)] = v
		}
		all := []spi.Frozen{nil, &dirty{drops: drops}}
		for _, state := range slices.Sorted(maps.Keys(frozen)) {
			all = append(all, frozen[state])
		}
		ctx, fails := context.Background(), w.r.IntN(8)
		if fails == 0 {
			w.did("failed epoch")
			all = append(all, &dirty{err: errors.New("planned")})
		}
		if fails == 1 {
			w.did("cancelled epoch")
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			cancel()
		}
		_, err := s.WriteEpoch(ctx, w.epoch, all)
		switch {
		case fails < 2 && err == nil:
			w.t.Error("WriteEpoch succeeded where it had to fail")
		case fails >= 2 && err != nil:
			w.t.Errorf("WriteEpoch: %v", err)
		case fails >= 2:
			w.did("epoch", w.epoch, " ", s.Groups(), " drops ", len(drops))
			w.truth = next
		}
	}
}

// checkpoint uploads what is not uploaded and completes the epoch, or gives up
// half-way.
func (w *world) checkpoint() {
	w.epoch++
	var manifest []dataflow.FileRef
	for i, s := range w.stores {
		if _, err := s.WriteEpoch(context.Background(), w.epoch, nil); err != nil {
			w.t.Fatal(err)
		}
		if w.r.IntN(10) == 0 {
			w.did("aborted checkpoint")
			return
		}
		manifest = append(manifest, upload(w.t, s, w.objs, fmt.Sprintf("e%d-%d", w.epoch, i))...)
	}
	if w.r.IntN(6) == 0 {
		w.did("aborted checkpoint")
		return
	}
	w.did("checkpoint", w.epoch, " files ", len(manifest))
	w.complete, w.saved = manifest, maps.Clone(w.truth)
	for _, s := range w.stores {
		s.SetComplete(w.epoch)
	}
}

// move hands a key group from a store to its neighbour, by the files of the last
// epoch.
func (w *world) move() {
	if len(w.stores) < 2 {
		return
	}
	i := w.r.IntN(len(w.stores) - 1)
	from, to := w.stores[i], w.stores[i+1]
	moved := dataflow.KeyGroups{From: from.Groups().To - 1, To: from.Groups().To}
	if w.r.IntN(2) == 0 {
		from, to = to, from
		moved = dataflow.KeyGroups{From: from.Groups().From, To: from.Groups().From + 1}
	}
	if from.Groups().Len() < 2 {
		return
	}
	w.did("move ", moved)
	w.epoch++
	if _, err := from.WriteEpoch(context.Background(), w.epoch, nil); err != nil {
		w.t.Fatal(err)
	}
	files := upload(w.t, from, w.objs, fmt.Sprintf("m%d", w.epoch))
	if err := from.Excise(context.Background(), moved); err != nil {
		w.t.Fatal(err)
	}
	if err := to.Own(moved); err != nil {
		w.t.Fatal(err)
	}
	for i := range files {
		files[i].Groups = files[i].Groups.Intersect(moved)
	}
	if err := to.Restore(context.Background(), files); err != nil {
		w.t.Fatal(err)
	}
}

// check compares a scan, random loads and Empty with the truth.
func (w *world) check() {
	w.ops["check"]++
	for _, s := range w.stores {
		if w.r.IntN(2) == 0 {
			<-s.Local()
			if err := s.Err(); err != nil {
				w.t.Fatal(err)
			}
		}
		g := s.Groups()
		var want []string
		for k := range w.truth {
			if kg, _ := dataflow.RowGroup([]byte(k)); g.Contains(kg) {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		keys, rows := scanAll(w.t, s, nil, nil)
		for i := 0; i < max(len(keys), len(want)); i++ {
			switch {
			case i >= len(want) || i < len(keys) && string(keys[i]) < want[i]:
				w.t.Errorf("groups %v: scan yields row %x = %x, which is gone", g, keys[i], rows[i])
				return
			case i >= len(keys) || string(keys[i]) > want[i]:
				w.t.Errorf("groups %v: scan lacks row %x", g, want[i])
				return
			case !bytes.Equal(rows[i], w.truth[want[i]]):
				w.t.Errorf("groups %v: row %x is %x, want %x", g, keys[i], rows[i], w.truth[want[i]])
				return
			}
		}
		var asked [][]byte
		var probes []uint64
		for range 50 {
			k := w.key()
			group, state := dataflow.RowGroup(k)
			if !g.Contains(group) {
				continue
			}
			asked, probes = append(asked, k), append(probes, probe(k))
			if w.truth[string(k)] != nil && s.Empty(state, group) {
				w.t.Errorf("Empty(%d, %d) although there is row %x", state, group, k)
			}
		}
		for i, row := range loadAll(w.t, s, probes, asked) {
			want, ok := w.truth[string(asked[i])]
			if ok != (row != nil) || !bytes.Equal(row, want) {
				w.t.Errorf("groups %v: Load of row %x is %x (%v), want %x (%v)", g, asked[i], row, row != nil, want, ok)
			}
		}
	}
}
