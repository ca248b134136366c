package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"time"

	"github.com/weirstream/weir/actors"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/state"
	"github.com/weirstream/weir/stream/spi"
)

func openShared(opts Options) (*state.Shared, error) {
	return state.NewShared(state.SharedOptions{CacheBytes: max(opts.StateBudget/8, 1<<20)})
}

// storeDir is where a subtask of the attempt keeps its rows.
func (a *attempt) storeDir(s dataflow.SubtaskID) string {
	return filepath.Join(a.m.localDir(a.deploy), fmt.Sprintf("%s-%d", url.PathEscape(string(s.Chain)), s.Index))
}

// store adapts a state.Store to what a subtask needs.
type store struct {
	*state.Store
	a *attempt
}

var _ actors.Store = store{}

func openStore(ctx context.Context, a *attempt, s dataflow.SubtaskID, files []dataflow.FileRef) (actors.Store, error) {
	d := a.deploy
	st, err := state.Open(state.Options{
		Dir: a.storeDir(s), Shared: a.m.shared,
		Groups: d.Plan.Groups(s), Total: d.Plan.KeyGroups, Objects: objects{a.m.opts.Store, a.m.opts.Clock},
		Infos: a.states.infos, FS: a.m.opts.FS, Clock: a.m.opts.Clock, Log: a.log.With("subtask", s.String()),
	})
	if err != nil {
		return nil, err
	}
	if err := st.Restore(ctx, state.FindLocal(a.m.opts.FS, files, a.former...)); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	a.states.opened(st)
	return store{st, a}, nil
}

// WriteEpoch implements actors.Store.
func (s store) WriteEpoch(ctx context.Context, epoch dataflow.Epoch, _ int, frozen []spi.Frozen) ([]dataflow.FileRef, error) {
	return s.Store.WriteEpoch(ctx, epoch, frozen)
}

// Completed implements actors.Store.
func (s store) Completed(e dataflow.Epoch) { s.SetComplete(e) }

// Close implements actors.Store.
func (s store) Close() error {
	s.a.states.closed(s.Store)
	return s.Store.Close()
}

const (
	readTries = 6
	readPause = 50 * time.Millisecond
)

// objects is the checkpoint store as state reads it; it repeats passing failures.
type objects struct {
	store objstore.Store
	clock clock.Clock
}

func (o objects) ReadAt(ctx context.Context, object string, p []byte, off int64) error {
	return o.again(ctx, func() error { return objstore.ReadAt(ctx, o.store, object, p, off) })
}

func (o objects) Fetch(ctx context.Context, object string, off, length int64, w io.Writer) error {
	r, err := o.store.GetRange(ctx, object, off, length)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

func (o objects) again(ctx context.Context, f func() error) error {
	var err error
	for i := range readTries {
		if err = f(); err == nil || !objstore.Retryable(err) {
			return err
		}
		if serr := clock.Sleep(ctx, o.clock, readPause<<i); serr != nil {
			return errors.Join(serr, err)
		}
	}
	return err
}
