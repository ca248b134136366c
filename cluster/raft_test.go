package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// lines is a machine that keeps its entries. Its answers are their numbers.
type lines struct {
	mu  sync.Mutex // Raft applies, tests read
	all []string
}

func (l *lines) Apply(entry []byte) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(entry))
	return len(l.all)
}

func (l *lines) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return json.Marshal(l.all)
}

func (l *lines) Restore(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
	return json.Unmarshal(b, &l.all)
}

func (l *lines) read() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// What was appended by many at a time is applied once each, in one order that the next
// process replays, from a snapshot and from the log behind it; terms grow.
func TestLogReplays(t *testing.T) {
	const rounds, writers, each = 3, 4, 10
	dir := t.TempDir()
	var want []string
	term := uint64(0)
	for round := range rounds {
		m := &lines{}
		l, err := OpenLog(t.Context(), LogOptions{Dir: dir}, m)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.read(); !slices.Equal(got, want) {
			t.Fatalf("round %d: replayed %d entries, want %d: %v", round, len(got), len(want), got)
		}
		if now := l.Term(); now <= term {
			t.Errorf("round %d: term %d after %d", round, now, term)
		} else {
			term = now
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				last := 0
				for i := range each {
					answer, err := l.Append(fmt.Appendf(nil, "%d/%d/%d", round, w, i))
					n, ok := answer.(int)
					if err != nil || !ok || n <= last {
						t.Errorf("append: %v, %v after %d", answer, err, last)
					}
					last = n
				}
			})
		}
		wg.Wait()
		if want = m.read(); len(want) != (round+1)*writers*each {
			t.Errorf("round %d: %d entries are applied", round, len(want))
		}
		if round == 1 {
			if err := l.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(nil); err == nil || errors.Is(err, ErrNotLeader) {
			t.Errorf("append to a closed log: %v", err)
		}
	}
	if _, err := OpenLog(t.Context(), LogOptions{}, &lines{}); err == nil || !strings.Contains(err.Error(), "Dir is empty") {
		t.Errorf("no folder: %v", err)
	}
}
