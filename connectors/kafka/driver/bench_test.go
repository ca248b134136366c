package driver

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/stream/spi"
)

// bid is a record of 7 columns whose JSON has about 255 bytes.
type bid struct {
	Auction  int64     `json:"auction"`
	Bidder   int64     `json:"bidder"`
	Price    int64     `json:"price"`
	Channel  string    `json:"channel"`
	URL      string    `json:"url"`
	DateTime time.Time `json:"date_time"`
	Extra    string    `json:"extra"`
}

func bidJSON(i int) string {
	s := fmt.Sprintf(`{"auction":%d,"bidder":%d,"price":%d,"channel":"channel-%d","url":"https://www.nexmark.com/item.htm?query=1&channel_id=%d","date_time":"2026-01-31T12:%02d:%02d.%03dZ","extra":"`,
		1000+i%977, 1000+i%1013, i*37%100003, i%100, i*7919, i/60%60, i%60, i%1000)
	return s + strings.Repeat("x", max(0, 253-len(s))) + `"}`
}

const benchPartitions = 4

// TestBenchServer tests nothing: with WEIR_KFAKE_RECORDS set it serves a cluster with
// that many records from a process of its own, until its input ends.
func TestBenchServer(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("WEIR_KFAKE_RECORDS"))
	if os.Getenv("WEIR_KFAKE_RECORDS") == "" {
		return
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(benchPartitions, "in", "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		cl.Produce(context.Background(), &kgo.Record{Topic: "in", Partition: int32(i % benchPartitions), Value: []byte(bidJSON(i))}, nil)
	}
	if err := cl.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	fmt.Println("\nADDR", c.ListenAddrs()[0])
	bufio.NewReader(os.Stdin).ReadString('\n')
}

func startServer(b *testing.B, records int) string {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchServer$")
	cmd.Env = append(os.Environ(), "WEIR_KFAKE_RECORDS="+strconv.Itoa(records))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	for s := bufio.NewScanner(out); s.Scan(); {
		if addr, ok := strings.CutPrefix(s.Text(), "ADDR "); ok {
			return addr
		}
	}
	b.Fatal("the server did not start")
	return ""
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSource reads records from a broker in another process, decodes all
// columns and drops the rows: records per second and per CPU second of this
// process.
func BenchmarkSource(b *testing.B) {
	addr := startServer(b, b.N)
	c, err := codec.ForFormat("json", (&rows[bid]{}).Elem())
	if err != nil {
		b.Fatal(err)
	}
	w := newWorld()
	env := envOf[bid](w, "src", 0, 1, source("end", "latest"), []string{addr})
	env.Value = c
	b.ResetTimer()
	began := cpu()
	r, err := Source{}.Open(context.Background(), env, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	batch := &rows[bid]{values: make([]bid, 0, 1024)}
	n := 0
	for !r.Ended() {
		batch.Truncate(0)
		_, k, err := r.Poll(batch, 1024, new([]spi.Rejected))
		if err != nil {
			b.Fatal(err)
		}
		if n += k; k == 0 && !r.Ended() {
			<-w.wake
		}
	}
	used := cpu() - began
	b.StopTimer()
	if n != b.N {
		b.Fatalf("%d records read, want %d", n, b.N)
	}
	b.ReportMetric(float64(n)/used.Seconds(), "records/cpu-s")
}

// BenchmarkSink writes rows exactly once, an epoch per 100,000.
func BenchmarkSink(b *testing.B) {
	addr := startServer(b, 0)
	c, err := codec.ForFormat("json", (&rows[bid]{}).Elem())
	if err != nil {
		b.Fatal(err)
	}
	wd := newWorld()
	env := envOf[bid](wd, "snk", 0, 1, sink(), []string{addr})
	env.Value = c
	w, err := Sink{}.OpenWriter(context.Background(), env, nil)
	if err == nil {
		err = w.Start(context.Background())
	}
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	cm, err := Sink{}.OpenCommitter(context.Background(), env)
	if err != nil {
		b.Fatal(err)
	}
	defer cm.Close()
	var v []bid
	for i := range 1000 {
		v = append(v, bid{int64(i), int64(i), int64(i), "channel", "https://www.nexmark.com/item.htm?query=1&channel_id=" + strconv.Itoa(i*7919), time.Unix(1700000000, 0).UTC(), strings.Repeat("x", 90)})
	}
	batch := batchOf(v...)
	b.ResetTimer()
	began := cpu()
	n := 0
	for n < b.N {
		for from := 0; from < len(v); {
			k, err := w.Write(batch, from)
			if err != nil {
				b.Fatal(err)
			}
			if from += k; from < len(v) {
				<-wd.wake
			}
		}
		if n += len(v); n%100_000 == 0 || n >= b.N {
			p, err := prepareErr(w, 1)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := cm.Commit(context.Background(), 1, handles(0, 1, p)); err != nil {
				b.Fatal(err)
			}
			w.Finished(1)
		}
	}
	b.ReportMetric(float64(n)/(cpu()-began).Seconds(), "records/cpu-s")
}
