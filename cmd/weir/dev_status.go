package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/examples/retail/load"
	"github.com/weirstream/weir/jobmanager"
)

// A status shows the jobs of a weir dev.
type status struct{ *progress }

func newStatus(out io.Writer) *status { return &status{newProgress(out, 5*time.Second)} }

func (s *status) show(started time.Time, infos []jobmanager.Info, counts *load.Counts) {
	now := time.Now()
	if !s.due(now) {
		return
	}
	var parts []string
	if n := counts.Checkouts.Load() + counts.Carts.Load(); n > 0 {
		parts = append(parts, fmt.Sprintf("loaded %s", short(n)))
	}
	for _, i := range infos {
		if !i.Phase.Terminal() {
			parts = append(parts, jobStatus(i))
		}
	}
	s.progress.show(now, fmt.Sprintf("%4.0fs  %s", now.Sub(started).Seconds(), strings.Join(parts, "  |  ")))
}

func jobStatus(i jobmanager.Info) string {
	rate := 0.0
	for _, o := range i.Operators {
		if op := i.Plan.Graph.Operator(o.Operator); op != nil && op.Kind == dataflow.KindSource {
			rate += o.OutRate
		}
	}
	text := fmt.Sprintf("%s %s/s", i.Pipeline, short(int64(rate)))
	if i.Watermark != dataflow.MinTime && i.Watermark != dataflow.MaxTime && i.Watermark != 0 {
		text += " wm " + time.UnixMicro(i.Watermark).UTC().Format("2006-01-02 15:04")
	}
	if n := len(i.Checkpoints); n > 0 {
		c := i.Checkpoints[n-1]
		if c.Duration == 0 && n > 1 {
			c = i.Checkpoints[n-2]
		}
		text += fmt.Sprintf(" cp %d %dms", c.Epoch, c.Duration.Milliseconds())
	}
	for _, result := range i.Sinks {
		if v, ok := strings.CutPrefix(result, "version "); ok {
			text += " v" + v
		}
	}
	if i.Phase != "running" {
		text += " (" + string(i.Phase) + ")"
	}
	return text
}

// short writes a count with three digits or so.
func short(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%.0fM", float64(n)/1e6)
	case n >= 1_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	case n >= 10_000:
		return fmt.Sprintf("%.0fk", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}
