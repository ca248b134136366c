package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/streamtest"
)

type Payment struct {
	User    string
	Country string
	Cents   int64
}

type Limit struct {
	Country string
	Cents   int64
}

type Refused struct {
	User  string
	Cents int64
}

// limits are held by every subtask; the newest row of a country is its limit.
var limits = stream.NewRules("limits", func(l Limit) string { return l.Country })

// Account is one user's; it reads the limit of the country that a payment is from.
type Account struct{ Spent int64 }

func (a *Account) Receive(ctx stream.Context[Refused], p Payment) {
	if l, ok := limits.Get(ctx, p.Country); ok && a.Spent+p.Cents > l.Cents {
		ctx.Emit(Refused{p.User, p.Cents})
		return
	}
	a.Spent += p.Cents
}

func buildAccounts(g *stream.Graph) error {
	payments := stream.Read(g, "payments", kafka.Topic("payments", stream.JSON[Payment]()))
	changes := stream.Read(g, "limit changes", kafka.Topic("limits", stream.JSON[Limit]()))
	byUser := stream.KeyBy(payments, func(p Payment) string { return p.User })
	refused := stream.WithBroadcast(byUser, changes, limits, "accounts", func() *Account { return new(Account) })
	stream.Write(refused, "refused", delta.Table("gold/refused"))
	return nil
}

// Limits that change while the job runs: every change goes to all subtasks, and the
// actors of all keys read it.
func ExampleWithBroadcast() {
	job, err := stream.Build(nil, buildAccounts)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range job.Graph().Edges {
		fmt.Println(e.From, "->", e.To, e.Exchange)
	}
	// Output:
	// payments -> accounts hash
	// limit changes -> accounts broadcast
	// accounts -> refused forward
}

// The job of the example refuses what is over the limit, also after a restart with
// more subtasks.
func TestAccounts(t *testing.T) {
	h := streamtest.New(t, buildAccounts, nil, streamtest.StartAt(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	h.Push("limit changes", Limit{"de", 100}, Limit{"fr", 10}, Limit{"de", 50})
	h.Push("payments", Payment{"ada", "de", 40})
	h.Rescale(3)
	h.Push("payments", Payment{"ada", "de", 20}, Payment{"bob", "fr", 11}, Payment{"cyd", "it", 1000})
	h.Push("limit changes", Limit{"de", 60})
	h.Push("payments", Payment{"ada", "de", 20})
	h.Drain()
	if got := fmt.Sprint(streamtest.Rows[Refused](h, "refused")); got != "[{ada 20} {bob 11}]" && got != "[{bob 11} {ada 20}]" {
		t.Errorf("refused %s", got)
	}
}

// Rules that cannot be kept are refused by Build, with the cure.
func TestRulesRefused(t *testing.T) {
	for _, tt := range []struct {
		want  string
		build func(payments stream.Keyed[string, Payment], changes stream.Stream[Limit])
	}{
		{"no rules: make them by NewRules", func(p stream.Keyed[string, Payment], c stream.Stream[Limit]) {
			stream.Discard(stream.WithBroadcast(p, c, (*stream.Rules[string, Limit])(nil), "a", func() *Account { return new(Account) }), "d")
		}},
		{"have no key: pass NewRules", func(p stream.Keyed[string, Payment], c stream.Stream[Limit]) {
			stream.Discard(stream.WithBroadcast(p, c, stream.NewRules[string, Limit]("r", nil), "a", func() *Account { return new(Account) }), "d")
		}},
		{"keys of float64", func(p stream.Keyed[string, Payment], c stream.Stream[Limit]) {
			r := stream.NewRules("r", func(l Limit) float64 { return 0 })
			stream.Discard(stream.WithBroadcast(p, c, r, "a", func() *Account { return new(Account) }), "d")
		}},
		{"without a name", func(p stream.Keyed[string, Payment], c stream.Stream[Limit]) {
			r := stream.NewRules("", func(l Limit) string { return l.Country })
			stream.Discard(stream.WithBroadcast(p, c, r, "a", func() *Account { return new(Account) }), "d")
		}},
	} {
		_, err := stream.Build(nil, func(g *stream.Graph) error {
			payments := stream.Read(g, "payments", kafka.Topic("payments", stream.JSON[Payment]()))
			tt.build(stream.KeyBy(payments, func(p Payment) string { return p.User }), stream.Read(g, "changes", kafka.Topic("limits", stream.JSON[Limit]())))
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("err = %v, want %q in it", err, tt.want)
		}
	}
}
