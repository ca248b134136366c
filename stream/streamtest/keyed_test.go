package streamtest_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/files"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

type click struct {
	User string
	Site int32
	Kind string // "", "leave" or "mute"
	At   time.Time
}

type visitor struct {
	User string
	Site int32
}

type visit struct {
	Who    visitor
	Clicks int
	Sites  string
	At     time.Time
}

// session counts a visitor's clicks until a minute passes without one.
type session struct {
	Clicks int
	Words  []string
	Seen   map[string]int
	First  *int64
}

func (s *session) Receive(ctx stream.Context[visit], c click) {
	switch c.Kind {
	case "leave":
		ctx.Clear()
		return
	case "mute":
		ctx.ClearTimer("end")
	default:
		ctx.SetTimer("end", c.At.Add(time.Minute))
	}
	if s.Seen == nil {
		s.Seen = map[string]int{}
	}
	at := c.At.UnixMicro()
	if s.First == nil {
		s.First = &at
	}
	s.Clicks++
	s.Words = append(s.Words, c.Kind)
	s.Seen[c.Kind]++
}

func (s *session) OnTimer(ctx stream.Context[visit], name string, at time.Time) {
	ctx.Emit(visit{
		Who: stream.KeyOf[visitor](ctx), Clicks: s.Clicks,
		Sites: fmt.Sprint(len(s.Words), s.Seen, *s.First), At: at,
	})
	ctx.Clear()
}

func buildVisits(g *stream.Graph) error {
	clicks := stream.Read(g, "clicks", files.Source("in", stream.JSON[click]()),
		stream.EventTime(func(c click) time.Time { return c.At }, 20*time.Second))
	byVisitor := stream.KeyBy(clicks, func(c click) visitor { return visitor{c.User, c.Site} })
	visits := stream.Actors(byVisitor, "visits", func() *session { return new(session) })
	stream.Write(visits, "out", files.Sink("out", "json"))
	return nil
}

// naiveVisits is what buildVisits is to write, by maps alone.
func naiveVisits(pushes [][]click) (out []visit) {
	type state struct {
		clicks int
		seen   map[string]int
		first  int64
		timer  time.Time // zero: not set
	}
	all := map[visitor]*state{}
	fire := func(before time.Time) {
		for who, s := range all {
			if !s.timer.IsZero() && s.timer.Before(before) {
				out = append(out, visit{who, s.clicks, fmt.Sprint(s.clicks, s.seen, s.first), s.timer})
				delete(all, who)
			}
		}
	}
	newest := time.Time{}
	for _, push := range pushes {
		for _, c := range push {
			who := visitor{c.User, c.Site}
			if c.At.After(newest) {
				newest = c.At
			}
			if c.Kind == "leave" {
				delete(all, who)
				continue
			}
			s := all[who]
			if s == nil {
				s = &state{seen: map[string]int{}, first: c.At.UnixMicro()}
				all[who] = s
			}
			s.clicks++
			s.seen[c.Kind]++
			s.timer = c.At.Add(time.Minute)
			if c.Kind == "mute" {
				s.timer = time.Time{}
			}
		}
		fire(newest.Add(-20 * time.Second))
	}
	fire(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	return out
}

// An actor job writes what the naive reference says, however it is run, failed,
// restored and rescaled.
func TestKeyedAgainstReference(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var pushes [][]click
		at := start
		for range rng.IntN(30) + 1 {
			var push []click
			for range rng.IntN(12) {
				at = at.Add(time.Duration(rng.IntN(8000)) * time.Millisecond)
				c := click{User: fmt.Sprint("u", rng.IntN(6)), Site: int32(rng.IntN(3)), At: at.Add(-time.Duration(rng.IntN(25)) * time.Second)}
				switch rng.IntN(10) {
				case 0:
					c.Kind = "leave"
				case 1:
					c.Kind = "mute"
				}
				push = append(push, c)
			}
			pushes = append(pushes, push)
		}
		want := naiveVisits(pushes)
		for name, opts := range map[string][]streamtest.Option{
			"plain":    nil,
			"evict":    {streamtest.EvictAlways(), streamtest.Room(1)},
			"parallel": {streamtest.Parallelism(4), streamtest.KeyGroups(16), streamtest.Shuffle(seed)},
			"faults":   {streamtest.Parallelism(int(seed%3) + 1), streamtest.Faults(seed), streamtest.Room(3)},
			"all":      {streamtest.Parallelism(2), streamtest.Faults(seed), streamtest.EvictAlways(), streamtest.Room(1)},
		} {
			h := streamtest.New(t, buildVisits, nil, opts...)
			for i, p := range pushes {
				streamtest.PushAll(h, "clicks", p)
				if name != "plain" && i == len(pushes)/2 {
					h.Rescale(int(seed%5) + 1)
				}
			}
			h.Drain()
			got := streamtest.Rows[visit](h, "out")
			if !slices.Equal(sorted(got), sorted(want)) {
				t.Fatalf("seed %d, %s:\ngot  %v\nwant %v", seed, name, sorted(got), sorted(want))
			}
		}
	}
}

func sorted(v []visit) []visit {
	v = slices.Clone(v)
	slices.SortFunc(v, func(a, b visit) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Who.User, b.Who.User), cmp.Compare(a.Who.Site, b.Who.Site))
	})
	return v
}
