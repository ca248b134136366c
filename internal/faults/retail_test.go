package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/examples/retail"
	"github.com/weirstream/weir/examples/retail/load"
	"github.com/weirstream/weir/internal/failpoint"
)

// A shop feeds the topics of the retail jobs and keeps what it wrote for the judge.
type shop struct {
	counts load.Counts
	input  string // CSV of the purchase lines
	stop   context.CancelFunc
	done   chan error
}

// baskets returns how many baskets were checked out so far.
func (s *shop) baskets() int64 { return s.counts.Carts.Load() - s.counts.Checkouts.Load() }

// open begins to write purchase lines at a rate.
func openShop(w *world, rate int) *shop {
	w.t.Helper()
	s := &shop{input: filepath.Join(filepath.Dir(w.dir), "input.csv"), done: make(chan error, 1)}
	opts := load.Options{Brokers: strings.Split(w.brokers, ",")}
	if err := load.CreateTopics(w.t.Context(), opts); err != nil {
		w.t.Fatal(err)
	}
	f, err := os.Create(s.input)
	if err != nil {
		w.t.Fatal(err)
	}
	out := bufio.NewWriter(f)
	fmt.Fprintln(out, "household_id,store_id,basket_id,product_id,department,category,quantity,amount,discount,at")
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	w.t.Cleanup(stop)
	lines := func(yield func(retail.CheckoutLine, error) bool) {
		start, n := time.Now(), 0
		for l, err := range load.Generate(8451, load.JourneyLines) {
			for due := start.Add(time.Duration(n) * time.Second / time.Duration(rate)); err == nil && ctx.Err() == nil && time.Until(due) > 0; {
				select {
				case <-time.After(time.Until(due)):
				case <-ctx.Done():
				}
			}
			if err == nil && ctx.Err() != nil {
				return
			}
			n++
			fmt.Fprintf(out, "%d,%d,%d,%d,%s,%s,%d,%s,%s,%s\n", l.Household, l.Store, l.Basket, l.Product, l.Department, l.Category, l.Quantity, l.Amount, l.Discount, l.At.UTC().Format(time.RFC3339))
			if !yield(l, err) {
				return
			}
		}
	}
	go func() {
		err := load.Run(context.Background(), opts, lines, &s.counts)
		if ferr := out.Flush(); err == nil {
			err = ferr
		}
		f.Close()
		s.done <- err
	}()
	return s
}

// A register is what a read_committed consumer has seen of closed baskets.
type register struct {
	mu     sync.Mutex
	times  map[string]int
	rows   atomic.Int64
	closed atomic.Int64 // distinct
}

func watchBaskets(t *testing.T, brokers string) *register {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(retail.ClosedBaskets), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	g := &register{times: map[string]int{}}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				var b struct {
					Household int64 `json:"household_id"`
					Basket    int64 `json:"basket_id"`
				}
				if err := json.Unmarshal(r.Value, &b); err != nil {
					t.Errorf("closed basket %s: %v", r.Value, err)
				}
				g.mu.Lock()
				defer g.mu.Unlock()
				id := fmt.Sprint(b.Household, "/", b.Basket)
				if g.times[id]++; g.times[id] == 1 {
					g.closed.Add(1)
				}
				g.rows.Add(1)
			})
		}
	}()
	t.Cleanup(func() { stop(); <-done; cl.Close() })
	return g
}

// retailWorld turns a world into one that runs the three retail jobs.
func (w *world) retail() *register {
	w.t.Helper()
	w.jobs = []string{"bronze", "baskets", "revenue"}
	for _, j := range w.jobs {
		pack := filepath.Join(w.bin, j+".wj")
		if _, err := os.Stat(pack); err == nil {
			continue
		}
		if _, err := command("", filepath.Join(w.bin, "weir"), "build", "-o", pack, "../../examples/retail/"+j); err != nil {
			w.t.Fatal(err)
		}
	}
	w.sink = nil
	return watchBaskets(w.t, w.brokers)
}

// judgeRetail lets the outside readers compare the four tables with the input.
func (w *world) judgeRetail(s *shop, lake, folder string) {
	w.t.Helper()
	cmd := exec.Command(python(w.t), "testdata/retail.py", s.input, lake, folder)
	cmd.Env = append(os.Environ(), w.env...)
	var said strings.Builder
	cmd.Stderr = &said
	b, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("judge: %v: %s", err, said.String())
	}
	checks := 0
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var v struct {
			Reader, Check string
			Got, Want     int64
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			w.t.Fatalf("judge said %q: %v", line, err)
		}
		checks++
		if v.Got != v.Want {
			w.t.Errorf("%s: %s: %d, want %d", v.Reader, v.Check, v.Got, v.Want)
		}
		w.t.Logf("%s: %s: %d", v.Reader, v.Check, v.Got)
	}
	if checks < 20 {
		w.t.Errorf("only %d checks were made", checks)
	}
}

// caughtUp reports whether no source of any job has anything left to read.
func (r *run) caughtUp() bool {
	for _, j := range r.w.jobs {
		var info struct {
			Phase     string
			Operators []struct {
				In  int64 `json:"rows_in"`
				Lag int64
			}
		}
		out, err := r.weir("info", "-o", "json", j)
		if err != nil || json.Unmarshal([]byte(out), &info) != nil || info.Phase != "running" || len(info.Operators) == 0 {
			return false
		}
		for _, o := range info.Operators {
			if o.Lag > 0 {
				return false
			}
		}
	}
	return true
}

// torture kills weir under the three retail jobs and judges what they wrote.
func (w *world) tortureRetail(p plan, lake, folder string) {
	w.t.Helper()
	baskets := w.retail()
	s := openShop(w, p.rate)
	w.sent, w.seen = s.baskets, baskets.closed.Load
	w.kills(p)
	last := w.start()
	if w.settled != nil {
		last.until("all is settled", w.settled)
	}
	s.stop()
	if err := <-s.done; err != nil {
		w.t.Fatal(err)
	}
	n := s.baskets()
	last.until(fmt.Sprintf("all %d baskets are closed", n), func() bool { return baskets.closed.Load() >= n })
	settled := time.Now().Add(3 * time.Second) // reports come every second
	last.until("all is read", func() bool { return last.caughtUp() && time.Now().After(settled) })
	last.drain()
	w.t.Logf("%d purchase lines, %d baskets", s.counts.Checkouts.Load(), n)
	if rows := baskets.rows.Load(); rows != n || baskets.closed.Load() != n {
		w.t.Errorf("the topic has %d rows of %d baskets, want %d", rows, baskets.closed.Load(), n)
	}
	w.judgeRetail(s, lake, folder)
	if lake != folder {
		w.judgeSpark(folder, "retail", s.counts.Checkouts.Load(), s.counts.Carts.Load(), n)
	}
}

// The retail jobs, with their timers, windows, decimals and two sinks, survive kills
// like the job of numbers does.
func TestRetailJobs(t *testing.T) {
	if os.Getenv("WEIR_FAULTS") == "" {
		t.Skip("the retail jobs under kills are part of make faults: WEIR_FAULTS=full or retail")
	}
	python(t)
	w := newWorld(t, 1)
	w.env = []string{failpoint.EnvSpoil + "=3"}
	lake := filepath.Join(w.dir, "lake")
	w.tortureRetail(plan{kills: 10, rate: 1500, seed: uint64(time.Now().UnixNano())}, lake, lake)
}

// The retail jobs on real parts: 20 kills of weir and 10 of the broker.
func TestRetailJobsOnRealParts(t *testing.T) {
	d := deploy(t)
	python(t)
	w := d.world(1)
	w.env = append(w.env, failpoint.EnvSpoil+"=3")
	w.patient = 6 * time.Minute
	p := plan{kills: 20, rate: 500, seed: uint64(time.Now().UnixNano())}
	var broken atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil && (w.seen == nil || w.seen() == 0) {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		if err := d.breakBroker(ctx, rand.New(rand.NewPCG(p.seed, 8)), brokerKills, func() int64 { return w.seen() }, &broken); err != nil {
			t.Error(err)
		}
	})
	w.settled = func() bool { return broken.Load() >= brokerKills }
	w.tortureRetail(p, "s3://"+bucket+"/tables", filepath.Join(d.folder, "tables"))
	stop()
	wg.Wait()
}
