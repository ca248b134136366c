package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/state"
)

// An uploader carries out what a Gatherer decides. It is owned by the attempt's
// goroutine; the upload itself runs beside it.
type uploader struct {
	*checkpoint.Gatherer
	a      *attempt
	ctx    context.Context
	cancel context.CancelFunc
	idle   chan struct{} // closed when the last upload is over
}

type uploaded struct {
	*checkpoint.Upload
	err error
}

func newUploader(a *attempt) *uploader {
	d := &a.deploy
	u := &uploader{a: a, idle: make(chan struct{}), Gatherer: checkpoint.NewGatherer(len(d.Subtasks), func(e dataflow.Epoch) string {
		return checkpoint.DataKey(d.Pipeline, e, d.Attempt, a.m.opts.Node)
	})}
	u.ctx, u.cancel = context.WithCancel(a.ctx)
	close(u.idle)
	return u
}

func (u *uploader) acked(ev isAcked) { u.start(u.Add(ev.epoch, ev.part)) }

// start carries an upload out, if there is one.
func (u *uploader) start(up *checkpoint.Upload) {
	if up == nil {
		return
	}
	idle := make(chan struct{})
	u.idle = idle
	go func() {
		defer close(idle)
		var err error
		if len(up.Paths) > 0 {
			if err = u.put(up.Key, up.Paths, up.Size); err != nil {
				err = fmt.Errorf("upload of %s: %w", up.Key, err)
			} else {
				failpoint.Hit(failpoint.PartUploaded, failpoint.Int("epoch", int64(up.Epoch)))
			}
		}
		u.a.inbox.Put(uploaded{up, err})
	}()
}

// put writes the concatenation of files. The key is this attempt's and epoch's
// own, so writing it again is harmless.
func (u *uploader) put(key string, paths []string, size int64) error {
	var last error
	for i := range 5 {
		if i > 0 {
			if err := clock.Sleep(u.ctx, u.a.m.opts.Clock, readPause<<i); err != nil {
				return errors.Join(err, last)
			}
		}
		r := &concat{paths: slices.Clone(paths), disk: u.a.m.opts.FS}
		err := u.a.m.opts.Store.Put(u.ctx, key, r, size)
		err = errors.Join(err, r.close())
		if err == nil {
			return nil
		}
		last = err
		if u.ctx.Err() != nil || !objstore.Retryable(err) && !errors.Is(err, objstore.ErrAmbiguous) {
			break
		}
	}
	return last
}

// uploaded acks the parts of a finished upload, unless its epoch was given up.
func (u *uploader) uploaded(ev uploaded) {
	if ev.err == nil {
		ev.Each(u.a.states.placed)
	}
	current, next := u.Done(ev.Upload, ev.err != nil)
	u.start(next)
	if !current {
		return
	}
	for i, part := range ev.Parts {
		if ev.err != nil {
			u.a.send(control.Declined{To: u.a.deploy.To, Epoch: ev.Epoch, Subtask: part.Subtask, Reason: ev.err.Error()})
			continue
		}
		if i == len(ev.Parts)-1 && u.spoiled(ev.Epoch, part.Subtask) {
			continue
		}
		u.a.send(control.Acked{To: u.a.deploy.To, Epoch: ev.Epoch, Part: part})
	}
}

// spoiled withholds the last ack of an epoch that a fault test spoils.
func (u *uploader) spoiled(e dataflow.Epoch, s dataflow.SubtaskID) bool {
	switch failpoint.SpoilOf(int64(e)) {
	case failpoint.DeclineLate:
		u.a.send(control.Declined{To: u.a.deploy.To, Epoch: e, Subtask: s, Reason: failpoint.EnvSpoil})
		return true
	case failpoint.LoseAck:
		return true
	}
	return false
}

func (u *uploader) close() {
	u.cancel()
	<-u.idle
}

// concat reads files one after the other, opening each when its turn comes.
type concat struct {
	paths []string
	file  io.ReadCloser
	disk  state.FS
}

func (c *concat) Read(p []byte) (int, error) {
	for {
		if c.file == nil {
			if len(c.paths) == 0 {
				return 0, io.EOF
			}
			f, err := c.disk.Open(c.paths[0])
			if err != nil {
				return 0, err
			}
			c.file, c.paths = f, c.paths[1:]
		}
		n, err := c.file.Read(p)
		if err == io.EOF {
			err = c.file.Close()
			c.file = nil
			if err == nil && n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (c *concat) close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}
