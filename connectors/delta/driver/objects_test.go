package driver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/s3"
	"github.com/weirstream/weir/stream/spi"
)

// On an object store whose answers fail, get lost or come late, every epoch is in
// the table once.
func TestObjects(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		mem := objstore.NewMem(nil)
		faulty := objstore.NewFaulty(mem, objstore.FaultyOptions{Rand: rnd, Odds: map[objstore.Fault]float64{objstore.LostAfter: 0.1, objstore.LostBefore: 0.1, objstore.Late: 0.05, objstore.Conflict: 0.1, objstore.Throttle: 0.1, objstore.Truncate: 0.1}})
		wait := objstore.Backoff{Tries: 50, Sleep: func(context.Context, time.Duration) error { return nil }}
		sink := Sink{Store: func(context.Context, string, map[string]string) (deltalake.Store, error) {
			return objects{faulty, wait}, nil
		}}
		s := newStage(t)
		e := env[purchase](s, 0, 1, "path", "mem://t")
		// More lost answers in a row than a put repeats fail the attempt: the job
		// opens its sink anew and reads the rows again.
		open := func() spi.Writer {
			return until(t, func() (spi.Writer, error) { return sink.OpenWriter(context.Background(), e, nil) })
		}
		w := open()
		c := until(t, func() (spi.Committer, error) { return sink.OpenCommitter(context.Background(), e) })
		for epoch := dataflow.Epoch(1); epoch <= 25; epoch++ {
			p := until(t, func() (spi.Prepared, error) {
				write(s, w, purchases(int(epoch)*100, int(epoch)*100+100)...)
				p, err := prepareErr(w, epoch, false)
				if err != nil {
					w.Close()
					w = open()
				}
				return p, err
			})
			h := handles(0, epoch, p)
			for _, err := c.Commit(context.Background(), epoch, h); err != nil; _, err = c.Commit(context.Background(), epoch, h) {
				if errors.Is(err, spi.ErrStop) {
					t.Fatal(err)
				}
			}
		}
		w.Close()
		c.Close()
		tbl, err := deltalake.Open(context.Background(), objects{mem, wait}, deltalake.TableOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := tbl.Latest().NumRows(); n != 2500 || tbl.Latest().Version() < 25 {
			t.Errorf("seed %d: %d rows at version %d", seed, n, tbl.Latest().Version())
		}
	}
}

// until repeats what an injected fault of the store may fail.
func until[T any](t *testing.T, do func() (T, error)) (v T) {
	t.Helper()
	for range 20 {
		var err error
		if v, err = do(); err == nil {
			return v
		}
		if !errors.Is(err, objstore.ErrAmbiguous) && !errors.Is(err, objstore.ErrRetry) {
			t.Fatal(err)
		}
	}
	t.Fatal("20 failures in a row")
	return v
}

// A table in the object store that WEIR_S3_ENDPOINT names, if any.
func TestRealS3(t *testing.T) {
	data, bucket := os.Getenv("WEIR_S3_DATA"), fmt.Sprintf("weir-delta-%d", os.Getpid())
	if os.Getenv("WEIR_S3_ENDPOINT") == "" || data == "" {
		t.Skip("set WEIR_S3_ENDPOINT and WEIR_S3_DATA (deploy/real/s3.sh env) to write to a real S3 server")
	}
	if err := os.Mkdir(filepath.Join(data, bucket), 0o777); err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	e := env[purchase](s, 0, 1, "partition_by", "day")
	e.Settings["lake.root"] = "s3://" + bucket + "/lake?endpoint=" + os.Getenv("WEIR_S3_ENDPOINT") + "&region=us-east-1"
	sink := Sink{Store: Objects(objstore.Openers{"s3": s3.Open})}
	w, err := sink.OpenWriter(context.Background(), e, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c, err := sink.OpenCommitter(context.Background(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for epoch := dataflow.Epoch(1); epoch <= 12; epoch++ {
		write(s, w, purchases(int(epoch)*1000, int(epoch)*1000+1000)...)
		h, _ := s.prepare(w, 0, epoch)
		s.commit(c, epoch, h)
		s.commit(c, epoch, h)
	}
	if n, _ := c.(*committer).table.Latest().NumRows(); n != 12000 {
		t.Errorf("%d rows", n)
	}
}

type seven struct {
	Auction, Bidder, Price int64
	Channel, URL, Extra    string
	At                     time.Time
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWrite measures Write to Prepare of 7 columns, in rows per second.
func BenchmarkWrite(b *testing.B) { benchmarkWrite(b) }

// BenchmarkWritePartitioned is the same with 3 partitions whose rows alternate.
func BenchmarkWritePartitioned(b *testing.B) { benchmarkWrite(b, "partition_by", "channel") }

func benchmarkWrite(b *testing.B, options ...string) {
	folder := b.TempDir()
	s := &stage{folder: folder, wake: make(chan struct{}, 1), counts: map[string]int64{}}
	e := env[seven](s, 0, 1, options...)
	e.Settings = map[string]string{"lake.root": folder}
	w, err := Sink{}.OpenWriter(context.Background(), e, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	var batch []seven
	for i := range 1024 {
		batch = append(batch, seven{int64(1000 + i%100), int64(i * 7 % 1013), int64(i * i % 100003), []string{"Google", "Apple", "Baidu"}[i%3],
			fmt.Sprintf("https://www.nexmark.com/item.htm?query=%d", i%300), "", time.UnixMicro(int64(i) * 1000)})
	}
	rows := batchOf(batch...)
	b.ResetTimer()
	began := cpu()
	defer func() { b.ReportMetric(float64(b.N)/(cpu()-began).Seconds(), "rows/cpu-s") }()
	epoch := dataflow.Epoch(0)
	for n := 0; n < b.N; {
		for from := 0; from < len(batch); {
			k, err := w.Write(rows, from)
			if err != nil {
				b.Fatal(err)
			}
			if from += k; from < len(batch) {
				<-s.wake
			}
		}
		if n += len(batch); n/1_000_000 > int(epoch) || n >= b.N {
			epoch++
			if _, err := prepareErr(w, epoch, false); err != nil {
				b.Fatal(err)
			}
		}
	}
}
