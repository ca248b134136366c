package local

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/stream"
)

type event struct {
	User  string `json:"user"`
	Price int64  `json:"price"`
}

type total struct {
	User  string
	N     int64
	Price int64
}

// counter counts one user's events and emits every new state.
type counter struct{ N, Price int64 }

func (c *counter) Receive(ctx stream.Context[total], e event) {
	c.N++
	c.Price += e.Price
	ctx.Emit(total{e.User, c.N, c.Price})
}

func countJob(g *stream.Graph) error {
	return counts(stream.Read(g, "events", kafka.Topic("events", stream.JSON[event](), kafka.End(kafka.Latest()))))
}

func foreverJob(g *stream.Graph) error {
	return counts(stream.Read(g, "events", kafka.Topic("events", stream.JSON[event]())))
}

func counts(events stream.Stream[event]) error {
	byUser := stream.KeyBy(events, func(e event) string { return e.User })
	totals := stream.Actors(byUser, "count", func() *counter { return new(counter) })
	stream.Write(totals, "totals", delta.Table("gold/totals"))
	return nil
}

func testLog(t *testing.T) *slog.Logger {
	f, err := os.Create(filepath.Join(t.TempDir(), "weir.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if b, err := os.ReadFile(f.Name()); t.Failed() && err == nil {
			lines := strings.Split(string(b), "\n")
			t.Log("last lines of the log:\n" + strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	return slog.New(slog.NewTextHandler(f, nil))
}

// broker starts a broker in this process with n events over 8 users.
func broker(t *testing.T, n int) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	addr := strings.Join(c.ListenAddrs(), ",")
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("events"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		cl.Produce(t.Context(), &kgo.Record{Key: []byte{byte(i % 8)}, Value: fmt.Appendf(nil, `{"user":"u%d","price":%d}`, i%8, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return addr
}

func start(t *testing.T, dir, addr string, log *slog.Logger) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), Options{Dir: dir, Log: log, Jobs: map[string]Build{"count": countJob, "forever": foreverJob},
		Settings: map[string]string{"connections.kafka.default.bootstrap.servers": addr}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A bounded job from Kafka through keyed actors to Delta finishes with every event
// counted once.
func TestBoundedJobFinishes(t *testing.T) {
	const n = 20_000
	addr, dir := broker(t, n), t.TempDir()
	c := start(t, dir, addr, testLog(t))
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	id, err := c.Run(t.Context(), RunRequest{Pack: "count", Parallelism: 2, Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: 200 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var last jobmanager.Info
	if err := c.Wait(ctx, 20*time.Millisecond, func(infos []jobmanager.Info) { last = infos[0] }); err != nil {
		t.Fatalf("%s is %s (%s): %v", id, last.Phase, last.Reason, err)
	}
	if last.Phase != fsm.Finished || last.Restarts != 0 {
		t.Fatalf("%s is %s after %d restarts: %s", id, last.Phase, last.Restarts, last.Reason)
	}
	if rows := tableRows(t, dir); rows != n {
		t.Errorf("the table has %d rows, want %d", rows, n)
	}
}

func tableRows(t *testing.T, dir string) int64 {
	t.Helper()
	tbl, err := deltalake.Open(t.Context(), deltalake.NewFolderStore(filepath.Join(dir, "lake", "gold", "totals")), deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := tbl.Latest().NumRows()
	return rows
}

// A job that was suspended resumes from its checkpoint with the next cluster, and
// so does one whose cluster just closed; neither loses nor doubles a row.
func TestResume(t *testing.T) {
	const n = 4_000
	addr, dir, log := broker(t, n), t.TempDir(), testLog(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for round := range 3 {
		c := start(t, dir, addr, log)
		if round == 0 {
			if _, err := c.Run(ctx, RunRequest{Pack: "forever", Parallelism: 2, Options: fsm.Options{Checkpoint: checkpoint.Options{Interval: 20 * time.Millisecond}}}); err != nil {
				t.Fatal(err)
			}
		}
		before := time.Now()
		for {
			i := c.Jobs.Jobs()[0]
			if e := i.Epochs; i.Phase == fsm.Running && len(e) > 0 && e[len(e)-1].Finished && time.UnixMicro(e[len(e)-1].At).After(before) {
				break
			}
			if err := clock.Sleep(ctx, clock.Wall(), 5*time.Millisecond); err != nil {
				t.Fatalf("round %d: job is %s (%s): %v", round, i.Phase, i.Reason, err)
			}
		}
		if round == 1 {
			if err := c.Suspend(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if round == 2 {
			if _, err := c.Jobs.Stop(ctx, c.Jobs.Jobs()[0].ID, true); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if rows := tableRows(t, dir); rows != n {
		t.Errorf("the table has %d rows, want %d", rows, n)
	}
}
