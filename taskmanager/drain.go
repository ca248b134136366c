package taskmanager

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A drain lets an attempt end all its sources as if their input had ended here:
// readers hand out nothing more and report the end.
type drain struct {
	mu   sync.Mutex
	on   bool
	wake []func()
}

// start ends every source, also those that open later. Any goroutine.
func (d *drain) start() {
	d.mu.Lock()
	d.on = true
	wake := d.wake
	d.mu.Unlock()
	for _, f := range wake {
		f()
	}
}

func (d *drain) started() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.on
}

// sources wraps drivers so that their readers obey d.
func (d *drain) sources(in map[string]spi.SourceDriver) map[string]spi.SourceDriver {
	out := maps.Clone(in)
	for kind, s := range in {
		out[kind] = drainDriver{s, d}
	}
	return out
}

type drainDriver struct {
	spi.SourceDriver
	d *drain
}

func (s drainDriver) Open(ctx context.Context, env spi.Env, restored []dataflow.SplitState, gen spi.SourceRunner) (spi.Reader, error) {
	r, err := s.SourceDriver.Open(ctx, env, restored, gen)
	if err != nil {
		return nil, err
	}
	s.d.mu.Lock()
	s.d.wake = append(slices.Clip(s.d.wake), env.Wake)
	s.d.mu.Unlock()
	return drainReader{r, s.d}, nil
}

type drainReader struct {
	spi.Reader
	d *drain
}

func (r drainReader) Poll(b spi.Batch, max int, bad *[]spi.Rejected) (int, int, error) {
	if r.d.started() {
		return 0, 0, nil
	}
	return r.Reader.Poll(b, max, bad)
}

func (r drainReader) Ended() bool { return r.d.started() || r.Reader.Ended() }
