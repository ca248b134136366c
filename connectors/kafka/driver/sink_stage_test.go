package driver

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

func sink(options ...string) dataflow.Connector {
	c := dataflow.Connector{Kind: "kafka", Format: "json", Options: map[string]string{"topic": "out"}}
	for i := 0; i < len(options); i += 2 {
		c.Options[options[i]] = options[i+1]
	}
	return c
}

func openWriter(t *testing.T, env spi.Env, restored map[int][]byte) spi.Writer {
	t.Helper()
	w, err := Sink{markerTry: time.Minute}.OpenWriter(context.Background(), env, restored)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if err := w.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return w
}

func openCommitter(t *testing.T, env spi.Env) spi.Committer {
	t.Helper()
	c, err := Sink{}.OpenCommitter(context.Background(), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// write hands all rows to w, waiting for room.
func write(t *testing.T, wd *world, w spi.Writer, v ...event) {
	t.Helper()
	b := batchOf(v...)
	for from := 0; from < b.Len(); {
		n, err := w.Write(b, from)
		if err != nil {
			t.Fatal(err)
		}
		if from += n; from < b.Len() {
			wd.await(t)
		}
	}
}

func prepare(t *testing.T, w spi.Writer, epoch dataflow.Epoch) spi.Prepared {
	t.Helper()
	p, err := prepareErr(w, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func prepareErr(w spi.Writer, epoch dataflow.Epoch) (spi.Prepared, error) {
	type answer struct {
		p   spi.Prepared
		err error
	}
	c := make(chan answer, 1)
	w.Prepare(epoch, false, func(p spi.Prepared, err error) { c <- answer{p, err} })
	a := <-c
	return a.p, a.err
}

func handles(subtask int, epoch dataflow.Epoch, p spi.Prepared) (out []dataflow.CommitHandle) {
	for i, h := range p.Handles {
		out = append(out, dataflow.CommitHandle{Sink: "snk", Subtask: subtask, Epoch: epoch, Seq: i, Data: h})
	}
	return out
}

func commit(t *testing.T, c spi.Committer, epoch dataflow.Epoch, h []dataflow.CommitHandle) {
	t.Helper()
	if _, err := c.Commit(context.Background(), epoch, h); err != nil {
		t.Fatal(err)
	}
}

// visible reads the topic up to its last stable offset, or to its end.
func visible(t *testing.T, brokers []string, committed bool) (out []event, recs []*kgo.Record) {
	t.Helper()
	return visibleIn(t, brokers, "out", committed)
}

func visibleIn(t *testing.T, brokers []string, topic string, committed bool) (out []event, recs []*kgo.Record) {
	t.Helper()
	level := kgo.ReadCommitted()
	if !committed {
		level = kgo.ReadUncommitted()
	}
	cl := client(t, brokers, kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())
	defer cl.Close()
	list := kadm.NewClient(cl).ListCommittedOffsets
	if !committed {
		list = kadm.NewClient(cl).ListEndOffsets
	}
	ends, err := list(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
			cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {o.Partition: kgo.NewOffset().AtStart()}})
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() && r.Offset < left[r.Partition] {
				var e event
				if err := json.Unmarshal(r.Value, &e); err != nil {
					t.Fatal(err)
				}
				out = append(out, e)
				recs = append(recs, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return out, recs
}

func people(from, to int) (out []event) {
	for i := from; i < to; i++ {
		out = append(out, event{ID: i, User: fmt.Sprint("u", i)})
	}
	return out
}
