package streamtest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

type command struct {
	Key  int32
	Op   string
	Name string
	N    int64
}

var (
	counts  = stream.NewMap[string, int64]("counts")
	history = stream.NewList[command]("history")
	last    = stream.NewValue[string]("last")
)

// ledger does to its state what a command says, and tells all of it.
type ledger struct{ Steps int }

func (l *ledger) Receive(ctx stream.Context[string], c command) {
	l.Steps++
	history.Append(ctx, c)
	switch c.Op {
	case "add":
		n, _ := counts.Get(ctx, c.Name)
		counts.Put(ctx, c.Name, n+c.N)
	case "delete":
		counts.Delete(ctx, c.Name)
	case "clear counts":
		counts.Clear(ctx)
	case "clear history":
		history.Clear(ctx)
	case "clear last":
		last.Clear(ctx)
	case "clear":
		ctx.Clear()
		return
	default:
		last.Set(ctx, c.Name)
	}
	text, ok := last.Get(ctx)
	var entries []string
	for k, v := range counts.All(ctx) {
		entries = append(entries, fmt.Sprint(k, "=", v))
	}
	slices.Sort(entries)
	sum := int64(0)
	for h := range history.All(ctx) {
		sum = sum*31 + h.N
	}
	ctx.Emit(fmt.Sprint(c.Key, l.Steps, entries, history.Len(ctx), sum, text, ok))
}

func buildLedger(g *stream.Graph) error {
	commands := stream.Read(g, "commands", files.Source("in", stream.JSON[command]()))
	byKey := stream.KeyBy(commands, func(c command) int32 { return c.Key })
	stream.Write(stream.Actors(byKey, "ledger", func() *ledger { return new(ledger) }, counts, history, last),
		"out", files.Sink("out", "raw"))
	return nil
}

// naiveLedger is what buildLedger is to write, key by key.
func naiveLedger(commands []command) (out []string) {
	type state struct {
		steps   int
		counts  map[string]int64
		history []int64
		last    string
		ok      bool
	}
	all := map[int32]*state{}
	for _, c := range commands {
		s := all[c.Key]
		if s == nil {
			s = &state{counts: map[string]int64{}}
			all[c.Key] = s
		}
		s.steps++
		s.history = append(s.history, c.N)
		switch c.Op {
		case "add":
			s.counts[c.Name] += c.N
		case "delete":
			delete(s.counts, c.Name)
		case "clear counts":
			clear(s.counts)
		case "clear history":
			s.history = nil
		case "clear last":
			s.last, s.ok = "", false
		case "clear":
			delete(all, c.Key)
			continue
		default:
			s.last, s.ok = c.Name, true
		}
		var entries []string
		for k, v := range s.counts {
			entries = append(entries, fmt.Sprint(k, "=", v))
		}
		slices.Sort(entries)
		sum := int64(0)
		for _, n := range s.history {
			sum = sum*31 + n
		}
		out = append(out, fmt.Sprint(c.Key, s.steps, entries, len(s.history), sum, s.last, s.ok))
	}
	slices.Sort(out)
	return out
}

// State handles hold what was put there, across eviction, failures and rescaling.
func TestHandles(t *testing.T) {
	ops := []string{"add", "add", "add", "add", "set", "set", "delete", "clear counts", "clear history", "clear last", "clear", "none"}
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 11))
		var commands []command
		for range 300 {
			commands = append(commands, command{
				Key: int32(rng.IntN(5)), Op: ops[rng.IntN(len(ops))],
				Name: fmt.Sprint("name", rng.IntN(8)), N: rng.Int64N(100),
			})
		}
		want := naiveLedger(commands)
		for name, opts := range map[string][]streamtest.Option{
			"plain":  nil,
			"evict":  {streamtest.EvictAlways(), streamtest.Room(2)},
			"faults": {streamtest.Parallelism(2), streamtest.Faults(seed), streamtest.Room(5)},
			"all":    {streamtest.Parallelism(3), streamtest.Faults(seed), streamtest.EvictAlways(), streamtest.Room(1)},
		} {
			h := streamtest.New(t, buildLedger, nil, opts...)
			for i := 0; i < len(commands); i += 20 {
				streamtest.PushAll(h, "commands", commands[i:i+20])
				if name != "plain" && i == 140 {
					h.Rescale(int(seed%4) + 1)
				}
			}
			h.Drain()
			got := streamtest.Rows[string](h, "out")
			slices.Sort(got)
			if !slices.Equal(got, want) {
				for i := range min(len(got), len(want)) {
					if got[i] != want[i] {
						t.Fatalf("seed %d, %s: row %d of %d\ngot  %s\nwant %s", seed, name, i, len(want), got[i], want[i])
					}
				}
				t.Fatalf("seed %d, %s: got %d rows, want %d", seed, name, len(got), len(want))
			}
		}
	}
}
