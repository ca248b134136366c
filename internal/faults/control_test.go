package faults

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/internal/failpoint"
)

// Each safeguard that is taken away must be missed: a judge that finds nothing then
// would find nothing ever.

// Without the check of its txn the table takes rows again that it already holds, when
// a job goes back to a savepoint.
func TestWithoutTxnCheckRowsAreDoubled(t *testing.T) {
	python(t)
	w := newWorld(t, 97)
	w.env = []string{failpoint.EnvGuards + "=" + string(failpoint.TxnCheck)}
	savepoint, n := w.beyondSavepoint()
	r := w.startWith(nil)
	if _, err := r.weir("run", "-p", "2", "--checkpoint-interval", "500ms", "--restore", savepoint, filepath.Join(w.bin, pipeline+".wj")); err != nil {
		t.Fatal(err)
	}
	r.until("rows are written again", func() bool { return w.sink.judge(0).Twice > 0 })
	if _, err := r.weir("stop", "--drain", pipeline); err != nil {
		w.fatalf(r, "drain: %v", err)
	}
	for _, v := range w.judgeTable(n) {
		t.Log(v)
		if v.Twice == 0 {
			t.Errorf("%s; want doubled rows", v)
		}
	}
}

// Without the ack chain, what an epoch that was aborted had made is in no manifest:
// its rows are lost, and a restored state lacks them.
func TestWithoutAckChainStateIsLost(t *testing.T) {
	python(t)
	w := newWorld(t, 2003) // more keys than an epoch has numbers: the next file does not cover the lost one
	w.env = []string{failpoint.EnvGuards + "=" + string(failpoint.AckChain), failpoint.EnvSpoil + "=2"}
	w.startFeed(2000, 0)
	for range 2 {
		r := w.start()
		r.until("an epoch is complete after an aborted one", func() bool {
			log := r.logged()
			at := abortedLine.FindStringIndex(log)
			return at != nil && completeLine.MatchString(log[at[1]:])
		})
		r.kill()
	}
	last := w.start(failpoint.EnvSpoil + "=")
	n := w.finishFeed(true)
	last.until("the last numbers are in the topic", func() bool { return w.sink.has(n-1, n-w.keys) })
	last.drain()
	for _, v := range w.verdicts(n) {
		t.Log(v)
		if v.Lost == 0 || v.Wrong == 0 {
			t.Errorf("%s; want lost rows, and wrong ones by lost state", v)
		}
	}
}

// Without alignment a part holds what its source will send again: counts and sums
// are wrong after a kill. It takes an uneven load for barriers to arrive apart, so
// more than one kill may be needed.
func TestWithoutAlignmentStateIsWrong(t *testing.T) {
	python(t)
	w := newWorld(t, 97)
	w.env = []string{failpoint.EnvGuards + "=" + string(failpoint.Alignment)}
	w.flags = []string{"--param", "slow=4ms"}
	w.startFeed(600, 0)
	r := rand.New(rand.NewPCG(3, 4))
	for kill := 1; kill <= 15; kill++ {
		w.life("", r, kill, 0)
		if v := w.sink.judge(0); v.Twice > 0 {
			break
		}
	}
	n := w.finish()
	for _, v := range w.verdicts(n) {
		t.Log(v)
		if v.Wrong == 0 {
			t.Errorf("%s; want wrong rows", v)
		}
	}
}

// beyondSavepoint runs the job, takes a savepoint, lets it go on and cancels it. It
// returns the savepoint and how many numbers all in all are in table and topic.
func (w *world) beyondSavepoint() (savepoint string, n int64) {
	w.t.Helper()
	w.startFeed(1000, 3000)
	r := w.start()
	r.until("some numbers are in the topic", func() bool { return w.sink.distinct() > 500 })
	out, err := r.weir("savepoint", pipeline)
	if err != nil {
		w.fatalf(r, "savepoint: %v", err)
	}
	n = w.finishFeed(false)
	r.until("all numbers are in the topic", func() bool { return w.sink.distinct() >= n })
	if _, err := r.weir("cancel", pipeline); err != nil {
		w.fatalf(r, "cancel: %v", err)
	}
	r.interrupt()
	return strings.TrimSpace(out), n
}
