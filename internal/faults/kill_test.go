package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/internal/failpoint"
)

// A plan is how long and how hard a test is.
type plan struct {
	kills  int
	points []failpoint.Point // killed at in turn; the rest of the kills is at random moments
	rate   int               // numbers a second
	least  int64             // numbers at least
	seed   uint64
}

// hitsPerEpoch is about how often an epoch of the job under test passes a point, so
// that a kill can be aimed at an epoch that is not the first.
var hitsPerEpoch = map[failpoint.Point]int{
	failpoint.OffsetsSnapshotted: 2, failpoint.PartFrozen: 4, failpoint.PartWritten: 2, failpoint.DeltaFilesClosed: 2, failpoint.KafkaPrepared: 2,
	failpoint.KafkaBeforeEndTxn: 2, failpoint.KafkaAfterEndTxn: 2,
}

// Weir is killed again and again, and yet every number is in the table and in the
// topic once, with the state that it must have met.
func TestExactlyOnce(t *testing.T) {
	p := plan{kills: 10, rate: 2000, seed: uint64(time.Now().UnixNano())}
	if s := os.Getenv("WEIR_FAULTS_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		p.seed = seed
	}
	all := failpoint.Points()
	rand.New(rand.NewPCG(p.seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	p.points = all[:7]
	if os.Getenv("WEIR_FAULTS") == "full" {
		p.kills, p.rate, p.least = 100, 10_000, 5_000_000
		p.points = append(append(append([]failpoint.Point{}, all...), all...), all...)
	}
	if s := os.Getenv("WEIR_FAULTS_POINTS"); s != "" { // for a closer look
		p.points = nil
		for _, name := range strings.Split(s, ",") {
			p.points = append(p.points, failpoint.Point(name))
		}
		p.kills = len(p.points)
	}
	python(t)
	w := newWorld(t, 997)
	w.env = []string{failpoint.EnvSpoil + "=3"}
	n := w.torture(p)
	w.mustBeClean(n)
}

// With far more state than memory for it, rows are evicted, spilled and read back, and
// all is as right.
func TestExactlyOnceBeyondMemory(t *testing.T) {
	python(t)
	w := newWorld(t, 20_011)
	w.env = []string{failpoint.EnvSpoil + "=3"}
	w.flags = []string{"--state-budget", "1048576"}
	p := plan{kills: 4, rate: 8000, least: 100_000, seed: uint64(time.Now().UnixNano())}
	if os.Getenv("WEIR_FAULTS") == "full" {
		p.kills, p.least = 30, 1_000_000
	}
	n := w.torture(p)
	w.mustBeClean(n)
}

// torture kills weir as planned, lets it finish and returns how many numbers it got.
func (w *world) torture(p plan) int64 {
	w.t.Helper()
	w.startFeed(p.rate, 0)
	w.kills(p)
	last := w.start()
	last.until("all of the least number is sent", func() bool { return w.sent() >= p.least && (w.settled == nil || w.settled()) })
	n := w.finishFeed(true)
	last.until(fmt.Sprintf("all %d numbers are in the topic", n), func() bool { return w.seen() >= n })
	last.drain()
	return n
}

// kills kills weir as planned.
func (w *world) kills(p plan) {
	w.t.Helper()
	r := rand.New(rand.NewPCG(p.seed, 1))
	w.t.Logf("seed %d: %d kills at %d numbers a second", p.seed, p.kills, p.rate)
	complete, aborted := 0, 0
	points := p.points
	for kill, tries := 0, 0; kill < p.kills; tries++ {
		if tries > 3*p.kills {
			w.t.Fatalf("only %d of %d kills counted in %d tries", kill, p.kills, tries)
		}
		var point failpoint.Point
		if left := p.kills - kill; len(points) > 0 && (left <= len(points) || r.IntN(2) == 0) {
			point = points[0]
		}
		if r.IntN(3) == 0 {
			w.disturb(r)
		}
		c, a, counts := w.life(point, r, kill+1, p.least*int64(kill)/int64(p.kills))
		complete, aborted = complete+c, aborted+a
		if counts {
			kill++
			if point != "" {
				points = points[1:]
			}
		}
	}
	w.t.Logf("%d kills, %d epochs completed, %d aborted", p.kills, complete, aborted)
	if complete > 9 && aborted*5 < complete {
		w.t.Errorf("%d epochs completed and %d were aborted, want about a third aborted", complete, aborted)
	}
}

// finish ends the input, lets weir write all of it and returns how many numbers there
// were.
func (w *world) finish() int64 {
	w.t.Helper()
	n := w.finishFeed(true)
	last := w.start()
	last.until(fmt.Sprintf("all %d numbers are in the topic", n), func() bool { return w.seen() >= n })
	last.drain()
	return n
}

// drain ends the jobs with all their output and then weir.
func (r *run) drain() {
	r.w.t.Helper()
	for _, j := range r.w.jobs {
		if _, err := r.weir("stop", "--drain", j); err != nil {
			r.w.fatalf(r, "drain %s: %v", j, err)
		}
	}
	r.interrupt()
}

// disturb starts weir and ends it in a way that does not count as a kill, for no epoch
// need have been completed: while it starts, at the first hit of a fault point, or
// in the middle of an orderly stop.
func (w *world) disturb(r *rand.Rand) {
	w.t.Helper()
	wait := func(run *run, most time.Duration) {
		select {
		case <-time.After(time.Duration(r.Int64N(int64(most)))):
		case <-run.ended:
		}
	}
	switch r.IntN(3) {
	case 0:
		run := w.start()
		wait(run, 1200*time.Millisecond)
		run.kill()
		w.t.Logf("  killed while it started")
	case 1:
		point := failpoint.Points()[r.IntN(len(failpoint.Points()))]
		run := w.start(failpoint.EnvPoints + "=" + string(point))
		run.untilDead()
		w.t.Logf("  killed at the first hit of %s", point)
	case 2:
		run := w.start()
		wait(run, 2*time.Second)
		run.cmd.Process.Signal(os.Interrupt)
		wait(run, 700*time.Millisecond)
		run.kill()
		w.t.Logf("  killed while it stopped with a savepoint, or after")
	}
}

// life starts weir, kills it and tells whether the kill counts: an epoch was completed
// in this life and numbers were on their way. A kill at a random moment comes after
// the given number was sent.
func (w *world) life(point failpoint.Point, r *rand.Rand, kill int, sent int64) (complete, aborted int, counts bool) {
	w.t.Helper()
	started := time.Now()
	var env []string
	deathLog := filepath.Join(filepath.Dir(w.dir), fmt.Sprintf("death-%d.log", time.Now().UnixNano()))
	if point != "" {
		per := max(hitsPerEpoch[point], 1)
		env = []string{fmt.Sprintf("%s=%s:%d", failpoint.EnvPoints, point, per*(2+r.IntN(2))+1+r.IntN(per)), failpoint.EnvLog + "=" + deathLog}
	}
	run := w.start(env...)
	where := "random"
	if point == "" {
		run.until("an epoch is complete", func() bool { c, _, _ := run.epochs(); return c > 0 && w.sent() >= sent })
		select {
		case <-time.After(time.Duration(r.Int64N(int64(900 * time.Millisecond)))):
		case <-run.ended:
		}
		run.kill()
	} else {
		run.untilDead()
		where = lastLine(deathLog)
	}
	inFlight := w.sent() - w.seen()
	if ws := run.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		w.fatalf(run, "weir ended by itself: %v", run.death)
	}
	complete, aborted, last := run.epochs()
	counts = complete > 0 && inFlight > 0
	w.t.Logf("kill %d after %.1fs: %s; %d epochs completed since the start, the last %d, %d aborted; %d records in flight; counts: %v",
		kill, time.Since(started).Seconds(), where, complete, last, aborted, inFlight, counts)
	if w.sink != nil {
		if v := w.sink.judge(0); v.Twice > 0 {
			w.t.Logf("already: %s", v)
		}
	}
	return complete, aborted, counts
}

// untilDead waits for the end of the process, whatever it is.
func (r *run) untilDead() {
	r.w.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(r.w.patience()):
		r.w.fatalf(r, "weir lives on after %v without passing its fault point", r.w.patience())
	}
}

// mustBeClean holds the table and the topic against what must be in them.
func (w *world) mustBeClean(n int64) {
	w.t.Helper()
	for _, v := range w.verdicts(n) {
		w.t.Log(v)
		if !v.clean() || v.Rows != n {
			w.t.Errorf("%s; want %d rows, each once and right", v, n)
		}
	}
}

func (w *world) verdicts(n int64) []verdict {
	w.t.Helper()
	return append(w.judgeTable(n), w.again(n).judge(n))
}

// untilAborted waits until the broker has given up the transactions that are open in a
// topic.
func (w *world) untilAborted(topic string) {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	adm, late := kadm.NewClient(cl), time.After(w.patience())
	for {
		ends, err1 := adm.ListEndOffsets(w.t.Context(), topic)
		stable, err2 := adm.ListCommittedOffsets(w.t.Context(), topic)
		open := len(ends[topic]) == 0
		ends.Each(func(end kadm.ListedOffset) {
			o, ok := stable.Lookup(topic, end.Partition)
			open = open || !ok || o.Offset != end.Offset
		})
		if err := errors.Join(err1, err2); err == nil && !open {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-late:
			w.t.Fatalf("transactions are open for more than %v: ends %v (%v), stable %v (%v)", w.patience(), ends, err1, stable, err2)
		}
	}
}

// An outage that is longer than the transaction time-out loses what was prepared:
// that is told by a job that stops and names the transaction, not by rows that lack.
func TestOutageBeyondTransactionTimeout(t *testing.T) {
	w := newWorld(t, 97)
	w.flags = []string{"--set", "connections.kafka.default.transaction.timeout.ms=8000"} // more than a busy machine takes for an epoch
	w.startFeed(500, 0)
	w.start(failpoint.EnvPoints + "=" + string(failpoint.KafkaBeforeEndTxn) + ":3").untilDead()
	w.untilAborted("out")
	before := w.seen()
	w.finishFeed(true)
	r := w.start()
	reason := r.reason(pipeline)
	says(t, reason, "the transaction faults", "INVALID_TXN_STATE", "transaction.timeout.ms")
	if after := w.seen(); after != before {
		t.Errorf("%d numbers were in the topic and %d are, although the job stopped", before, after)
	}
}
