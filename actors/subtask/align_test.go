package subtask

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/weirstream/weir/dataflow"
)

// The scripts are the specification of alignment.
func TestAligner(t *testing.T) {
	datadriven.Walk(t, "testdata/align", func(t *testing.T, path string) {
		var a *Aligner
		n := 0
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var ch, epoch int
			note := ""
			d.MaybeScanArgs(t, "ch", &ch)
			d.MaybeScanArgs(t, "epoch", &epoch)
			switch d.Cmd {
			case "init":
				d.ScanArgs(t, "channels", &n)
				a = NewAligner(n)
			case "barrier":
				done, gone := a.Barrier(ch, dataflow.Epoch(epoch))
				if note = fmt.Sprintf(" done=%v", done); gone != 0 {
					note += fmt.Sprintf(" gone=%d", gone)
				}
			case "end":
				note = fmt.Sprintf(" done=%v", a.End(ch))
			case "abort":
				a.Abort(dataflow.Epoch(epoch))
			default:
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			e, open := a.Epoch()
			blocked := []int{}
			for i := range n {
				if a.Blocked(i) {
					blocked = append(blocked, i)
				}
			}
			return fmt.Sprintf("epoch=%d open=%v blocked=%v live=%d%s\n", e, open, blocked, a.Live(), note)
		})
	})
}
