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
