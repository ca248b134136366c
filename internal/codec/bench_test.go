package codec

import (
	"syscall"
	"testing"
	"time"
)

// cpuPerOp reports processor time per operation besides wall time, for machines
// that are shared. Call what it returns after the loop.
func cpuPerOp(b *testing.B) func() {
	b.ReportAllocs()
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	start := used()
	return func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") }
}
