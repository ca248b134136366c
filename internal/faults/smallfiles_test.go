package faults

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/failpoint"
)

// A table that several files are added to each second, by a job that is killed again
// and again, ends with few files, all numbers once, and has shown each once to who
// followed it.
func TestSmallFiles(t *testing.T) {
	python(t)
	p := plan{kills: 2, rate: 3000, seed: uint64(time.Now().UnixNano())}
	least := 6 * time.Second
	if os.Getenv("WEIR_FAULTS") == "full" {
		p.kills, least = 8, time.Minute
	}
	p.least = int64(p.rate) * int64(least.Seconds()) // kills are spread over the time
	w := newWorld(t, 997)
	w.env = []string{failpoint.EnvSpoil + "=3"}
	w.flags = []string{"--checkpoint-interval", "150ms"}
	began := time.Now()
	f := w.follow()
	n := w.torture(p)
	w.mustBeClean(n)
	f.mustHaveSeen(n)

	table, err := deltalake.Open(context.Background(), deltalake.NewFolderStore(w.at), deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	history, err := table.History(context.Background(), 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	epochs, merges := 0, 0
	for _, h := range history {
		switch h.Info.Operation {
		case "STREAMING UPDATE":
			epochs++
		case "OPTIMIZE":
			merges++
		}
	}
	files := table.Latest().NumFiles()
	t.Logf("%v: %d epochs with rows, %d merges, %d numbers, %d files are left", time.Since(began).Round(time.Second), epochs, merges, n, files)
	if epochs < 5 {
		t.Errorf("only %d epochs", epochs)
	}
	if files > 40 || merges == 0 && epochs > 20 {
		t.Errorf("%d files are left after %d merges, want at most 40", files, merges)
	}
}

// A follower reads what is added to the table, as weir table follow does.
type follower struct {
	w    *world
	at   deltalake.Cursor
	seen map[int64]int
	over chan struct{}
	err  chan error
}

// follow begins to follow the table, which may not be there yet.
func (w *world) follow() *follower {
	f := &follower{w: w, seen: map[int64]int{}, over: make(chan struct{}), err: make(chan error, 1)}
	go func() { f.err <- f.run() }()
	return f
}

func (f *follower) run() error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last := false; ; {
		table, err := deltalake.Open(context.Background(), deltalake.NewFolderStore(f.w.at), deltalake.TableOptions{})
		if err == nil {
			err = f.read(table)
		}
		if err != nil && (last || !errors.Is(err, deltalake.ErrNotFound)) {
			return err
		}
		if last {
			return nil
		}
		select {
		case <-tick.C:
		case <-f.over:
			last = true
		}
	}
}

// read takes all there is.
func (f *follower) read(table *deltalake.Table) error {
	for {
		step, err := table.Follow(context.Background(), f.at, deltalake.FollowOptions{})
		if err != nil || len(step.Files) == 0 {
			return err
		}
		f.at = step.Next
		err = step.Snapshot.ReadFiles(context.Background(), step.Files, deltalake.ScanOptions{Columns: []string{"id"}}, func(b *deltalake.Batch) error {
			for _, id := range b.Columns[0].Longs {
				f.seen[id]++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// mustHaveSeen ends the follower, which must have seen the numbers below n once.
func (f *follower) mustHaveSeen(n int64) {
	f.w.t.Helper()
	close(f.over)
	if err := <-f.err; err != nil {
		f.w.t.Fatal(err)
	}
	lost, twice := 0, 0
	for id := range n {
		switch c := f.seen[id]; {
		case c == 0:
			lost++
		case c > 1:
			twice++
		}
	}
	if lost+twice > 0 || int64(len(f.seen)) != n {
		f.w.t.Errorf("the follower saw %d numbers of %d; %d not at all, %d more than once", len(f.seen), n, lost, twice)
	}
}
