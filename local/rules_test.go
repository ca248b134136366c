package local

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/stream"
)

type discount struct {
	User    string `json:"user"`
	Percent int64  `json:"percent"`
}

// answer tells which discount an event met.
type answer struct {
	User    string
	Round   int64
	Found   bool
	Percent int64
}

var discounts = stream.NewRules("discounts", func(d discount) string { return d.User })

type asker struct{ N int64 }

func (a *asker) Receive(ctx stream.Context[answer], e event) {
	a.N++
	d, ok := discounts.Get(ctx, e.User)
	ctx.Emit(answer{e.User, e.Price, ok, d.Percent})
}

func ruledJob(g *stream.Graph) error {
	events := stream.Read(g, "events", kafka.Topic("events", stream.JSON[event]()))
	rows := stream.Read(g, "discounts", kafka.Topic("discounts", stream.JSON[discount]()))
	byUser := stream.KeyBy(events, func(e event) string { return e.User })
	answers := stream.WithBroadcast(byUser, rows, discounts, "ask", func() *asker { return new(asker) })
	stream.Write(answers, "answers", delta.Table("gold/answers"))
	return nil
}

// Rules that were broadcast before a rescale are known to every subtask after it:
// their topic is not read again.
func TestRulesSurviveRescale(t *testing.T) {
	const users = 20
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "events", "discounts"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	addr := strings.Join(fake.ListenAddrs(), ",")
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	produce := func(topic, format string, value int64) {
		t.Helper()
		for i := range int64(users) {
			if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte{byte(i)}, Value: fmt.Appendf(nil, format, i, value+i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	c, err := Start(ctx, Options{Dir: dir, Log: testLog(t), Jobs: map[string]Build{"ruled": ruledJob},
		Settings: map[string]string{"connections.kafka.default.bootstrap.servers": addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	id, err := c.Run(ctx, RunRequest{Pack: "ruled", Parallelism: 2, Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: 50 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	produce("discounts", `{"user":"u%d","percent":%d}`, 100)

	// ask sends an event per user and returns how many met their discount, when all
	// answers of the round are committed.
	round := int64(0)
	ask := func() (found int) {
		t.Helper()
		round += 1000
		produce("events", `{"user":"u%d","price":%d}`, round)
		for {
			all, ok := answers(t, dir, round, users)
			if all == users {
				return ok
			}
			if err := clock.Sleep(ctx, clock.Wall(), 20*time.Millisecond); err != nil {
				i := c.Jobs.Jobs()[0]
				t.Fatalf("%d answers of round %d; job is %s (%s): %v", all, round, i.Phase, i.Reason, err)
			}
		}
	}
	for ask() < users { // the two topics are read in no particular order
	}
	for _, p := range []int{3, 1, 4} {
		rescale(ctx, t, c, id, p)
		if found := ask(); found != users {
			t.Errorf("at parallelism %d, %d of %d users have a discount", p, found, users)
		}
	}
}

func rescale(ctx context.Context, t *testing.T, c *Cluster, id dataflow.JobID, parallelism int) {
	t.Helper()
	if _, err := c.Jobs.Rescale(ctx, id, parallelism); err != nil {
		t.Fatal(err)
	}
}

// answers counts the committed answers of a round, and those with the right
// discount.
func answers(t *testing.T, dir string, round, users int64) (all, right int) {
	t.Helper()
	tbl, err := deltalake.Open(t.Context(), deltalake.NewFolderStore(filepath.Join(dir, "lake", "gold", "answers")), deltalake.TableOptions{})
	if err != nil {
		return 0, 0 // not made yet
	}
	for a, err := range deltalake.Read[answer](t.Context(), tbl.Latest(), deltalake.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if i := a.Round - round; i >= 0 && i < users {
			all++
			if a.Found && a.Percent == 100+i && a.User == fmt.Sprintf("u%d", i) {
				right++
			}
		}
	}
	return all, right
}
