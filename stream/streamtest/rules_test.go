package streamtest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

// limit is a rule: what a country's orders may cost.
type limit struct {
	Country string
	Cents   int64
	Note    *string
	At      time.Time
}

type spent struct {
	User    int64
	Country string
	Cents   int64
	At      time.Time
}

var limits = stream.NewRules("limits", func(l limit) string { return l.Country })

// watch sums what a user spends and compares it with the limits of its country; a
// minute after the last order it looks at all of them.
type watch struct{ Sum int64 }

func (w *watch) Receive(ctx stream.Context[string], s spent) {
	w.Sum += s.Cents
	l, ok := limits.Get(ctx, s.Country)
	note := ""
	if l.Note != nil {
		note = *l.Note
	}
	ctx.Emit(fmt.Sprint(s.User, " ", w.Sum, " ", ok, " ", l.Cents, note))
	ctx.SetTimer("later", s.At.Add(time.Minute))
}

func (w *watch) OnTimer(ctx stream.Context[string], _ string, _ time.Time) {
	var all []string
	for country, l := range limits.All(ctx) {
		all = append(all, fmt.Sprint(country, "=", l.Cents))
	}
	slices.Sort(all)
	ctx.Emit(fmt.Sprint(stream.KeyOf[int64](ctx), " of ", limits.Len(ctx), ": ", all))
	ctx.Clear() // of the user, not of the rules
}

func buildLimits(g *stream.Graph) error {
	orders := stream.Read(g, "orders", files.Source("o", stream.JSON[spent]()),
		stream.EventTime(func(s spent) time.Time { return s.At }, 0))
	rows := stream.Read(g, "limits", files.Source("l", stream.JSON[limit]()),
		stream.EventTime(func(l limit) time.Time { return l.At }, 0))
	byUser := stream.KeyBy(orders, func(s spent) int64 { return s.User })
	watched := stream.WithBroadcast(byUser, rows, limits, "watch", func() *watch { return new(watch) })
	stream.Write(watched, "out", files.Sink("out", "raw"))
	return nil
}

// Rules reach every key, survive restarts and another parallelism, and the output
// is the same however the job is run.
func TestRules(t *testing.T) {
	countries := []string{"de", "fr", "it", "pl", ""}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 21))
		type step struct {
			order *spent
			rule  *limit
		}
		var steps []step
		at := start
		for range 80 {
			at = at.Add(time.Duration(1+rng.IntN(20000)) * time.Millisecond)
			country := countries[rng.IntN(len(countries))]
			if rng.IntN(3) == 0 {
				l := &limit{Country: country, Cents: int64(rng.IntN(1000)), At: at.Add(-time.Duration(rng.IntN(60)) * time.Second)}
				if note := strings.Repeat("!", rng.IntN(3)); note != "" {
					l.Note = &note
				}
				steps = append(steps, step{rule: l})
			} else {
				steps = append(steps, step{order: &spent{int64(rng.IntN(9)), country, int64(rng.IntN(100)), at}})
			}
		}
		run := func(opts ...streamtest.Option) []string {
			h := streamtest.New(t, buildLimits, nil, opts...)
			for i, s := range steps {
				if s.order != nil {
					h.Push("orders", *s.order)
				} else {
					h.Push("limits", *s.rule)
				}
				switch {
				case i%27 == 26:
					h.Rescale(1 + int(seed+uint64(i))%4)
				case i%10 == 9:
					h.Checkpoint()
					h.Restart()
				}
			}
			h.Drain()
			out := streamtest.Rows[string](h, "out")
			slices.Sort(out)
			return out
		}
		want := naiveLimits(func(yield func(o *spent, l *limit)) {
			for _, s := range steps {
				yield(s.order, s.rule)
			}
		})
		for name, opts := range map[string][]streamtest.Option{
			"plain":   nil,
			"evicted": {streamtest.Parallelism(2), streamtest.EvictAlways()},
			"hard":    {streamtest.Parallelism(3), streamtest.Room(1), streamtest.EvictAlways(), streamtest.Faults(seed)},
		} {
			if out := run(opts...); !slices.Equal(out, want) {
				t.Fatalf("seed %d, %s:\ngot  %q\nwant %q", seed, name, out, want)
			}
		}
	}
}

// naiveLimits is what the job does, with maps alone.
func naiveLimits(steps func(yield func(o *spent, l *limit))) (out []string) {
	newest, sum, due := map[string]limit{}, map[int64]int64{}, map[int64]time.Time{}
	var orders, rules time.Time
	fire := func(now time.Time) {
		for user, at := range due {
			if at.Before(now) {
				var all []string
				for country, l := range newest {
					all = append(all, fmt.Sprint(country, "=", l.Cents))
				}
				slices.Sort(all)
				out = append(out, fmt.Sprint(user, " of ", len(newest), ": ", all))
				delete(due, user)
				delete(sum, user)
			}
		}
	}
	steps(func(o *spent, l *limit) {
		if o != nil {
			sum[o.User] += o.Cents
			r, ok := newest[o.Country]
			note := ""
			if r.Note != nil {
				note = *r.Note
			}
			out = append(out, fmt.Sprint(o.User, " ", sum[o.User], " ", ok, " ", r.Cents, note))
			due[o.User] = o.At.Add(time.Minute)
			orders = o.At
		} else {
			if old, ok := newest[l.Country]; !ok || !l.At.Before(old.At) {
				newest[l.Country] = *l
			}
			if l.At.After(rules) {
				rules = l.At
			}
		}
		if orders.Before(rules) {
			fire(orders)
		} else {
			fire(rules)
		}
	})
	fire(start.Add(1000 * time.Hour))
	slices.Sort(out)
	return out
}
