package actors

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// What a runner keeps beside keyed state goes back to the same subtask, and at another
// parallelism, where there is no such subtask, it is refused and not dropped.
func TestExtraIsNotLostByRescale(t *testing.T) {
	r := &Restored{Epoch: 3}
	for i := range 2 {
		r.Parts = append(r.Parts, dataflow.Part{Subtask: dataflow.SubtaskID{Chain: "op", Index: i}, Operators: map[dataflow.OperatorID]dataflow.OpState{
			"op": {Extra: []byte{byte('a' + i)}}, "plain": {}, "in": {Extra: []byte("marks")}, "shared": {Extra: []byte("all")[:3*(1-i)]}}})
	}
	for _, tt := range []struct {
		name        string
		op          dataflow.OperatorID
		kind        dataflow.OpKind
		parallelism int
		refused     bool
	}{
		{"same", "op", dataflow.KindOp, 2, false},
		{"fewer", "op", dataflow.KindOp, 1, true},
		{"more", "op", dataflow.KindOp, 3, true},
		{"nothing of its own", "plain", dataflow.KindOp, 3, false},
		{"a source, whose marks go by split", "in", dataflow.KindSource, 3, false},
		{"shared", "shared", dataflow.KindOp, 3, false},
		{"new operator", "new", dataflow.KindOp, 3, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			was := r.operator(tt.op)
			err := was.fits(tt.parallelism, tt.kind)
			if (err != nil) != tt.refused {
				t.Fatalf("parallelism 2 to %d: %v, want refused = %v", tt.parallelism, err, tt.refused)
			}
			if err != nil && (!errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), "restore it at 2")) {
				t.Errorf("the refusal does not stop the job or names no cure: %v", err)
			}
			for i := range tt.parallelism {
				if tt.op == "shared" && string(was.extra(i)) != "all" {
					t.Errorf("subtask %d gets %q of what subtask 0 left for all", i, was.extra(i))
				}
			}
			if err == nil && tt.op == "op" && string(was.extra(1)) != "b" {
				t.Errorf("subtask 1 gets %q", was.extra(1))
			}
		})
	}
}

// The keys of a keyed operator take no row before all that any former subtask had
// reached, or was reaching when it was cut, is reached again.
func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		name   string
		states []dataflow.OpState
		want   int64
	}{
		{"nothing restored", nil, dataflow.MinTime},
		{"no watermark yet", []dataflow.OpState{{Watermark: dataflow.MinTime}}, dataflow.MinTime},
		{"one is behind", []dataflow.OpState{{Watermark: -20}, {Watermark: -10}}, -10},
		{"one was cut between two timers", []dataflow.OpState{{Watermark: 10, Target: 30}, {Watermark: 20}}, 30},
		{"the first watermark of all", []dataflow.OpState{{Watermark: dataflow.MinTime, Target: -5}}, -5},
		{"one has ended", []dataflow.OpState{{Watermark: dataflow.MaxTime}, {Watermark: 20}}, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Restored{}
			for i, st := range tt.states {
				r.Parts = append(r.Parts, dataflow.Part{Subtask: dataflow.SubtaskID{Chain: "op", Index: i}, Operators: map[dataflow.OperatorID]dataflow.OpState{"op": st}})
			}
			if got := r.operator("op").target(); got != tt.want {
				t.Errorf("target %d, want %d", got, tt.want)
			}
		})
	}
}
