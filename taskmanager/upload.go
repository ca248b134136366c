package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/state"
)

// An uploader gathers the parts that this worker's subtasks give to an epoch and
// puts all their new files into one object. It is owned by the attempt's
// goroutine; the upload itself runs beside it.
//
// A file that an aborted epoch uploaded is not uploaded again: its place is kept
// until the attempt ends.
type uploader struct {
	a      *attempt
	newest dataflow.Epoch // last begun
	epoch  dataflow.Epoch // being gathered; 0: none
	parts  []dataflow.Part
	busy   bool             // an upload is under way
	places map[string]place // by local path
	// The epoch acked last, and the local paths that its parts name.
	ackedEpoch dataflow.Epoch
	ackedFiles map[string]bool
	ctx        context.Context
	cancel     context.CancelFunc
	idle       chan struct{} // closed when the last upload is over
}

type place struct {
	object string
	offset int64
}

type uploaded struct {
	epoch  dataflow.Epoch
	parts  []dataflow.Part
	places map[string]place
	err    error
}

func newUploader(a *attempt) *uploader {
	u := &uploader{a: a, places: map[string]place{}, idle: make(chan struct{})}
	u.ctx, u.cancel = context.WithCancel(a.ctx)
	close(u.idle)
	return u
}

// begin gathers for e. A Trigger that comes twice or late changes nothing: the parts
// that are here already will not come again.
func (u *uploader) begin(e dataflow.Epoch) {
	if e > u.newest {
		u.newest, u.epoch, u.parts = e, e, nil
	}
}

func (u *uploader) abort(e dataflow.Epoch) {
	if u.epoch == e {
		u.epoch, u.parts = 0, nil
	}
}

// complete forgets the places of files that the complete epoch does not name: no
// later part will, unless it brings them anew, and a sweep may delete them.
func (u *uploader) complete(e dataflow.Epoch) {
	if e == u.ackedEpoch {
		maps.DeleteFunc(u.places, func(path string, _ place) bool { return !u.ackedFiles[path] })
	}
}

func (u *uploader) acked(ev isAcked) {
	if ev.epoch != u.epoch {
		return // given up meanwhile; its files come with the next part
	}
	u.parts = append(u.parts, ev.part)
	if len(u.parts) == len(u.a.deploy.Subtasks) {
		u.start()
	}
}

func (u *uploader) start() {
	if u.busy {
		return // an aborted epoch's upload is still under way: uploaded() comes back here
	}
	u.busy, u.idle = true, make(chan struct{})
	epoch, parts, known, idle := u.epoch, u.parts, map[string]place{}, u.idle
	for i := range parts {
		for _, f := range parts[i].Files {
			if p, ok := u.places[f.Local]; ok && f.Object == "" {
				known[f.Local] = p
			}
		}
	}
	go func() {
		defer close(idle)
		fresh, err := u.upload(epoch, parts, known)
		u.a.inbox.Put(uploaded{epoch, parts, fresh, err})
	}()
}

// upload puts every file of parts that lies nowhere yet into one object, and
// returns their places. It fills in the parts.
func (u *uploader) upload(epoch dataflow.Epoch, parts []dataflow.Part, known map[string]place) (map[string]place, error) {
	d := u.a.deploy
	key := checkpoint.DataKey(d.Pipeline, epoch, d.Attempt, u.a.m.opts.Node)
	fresh, size := map[string]place{}, int64(0)
	var paths []string
	for i := range parts {
		for j := range parts[i].Files {
			f := &parts[i].Files[j]
			if f.Object != "" {
				continue
			}
			p, ok := known[f.Local]
			if !ok {
				if p, ok = fresh[f.Local]; !ok {
					p = place{key, size}
					fresh[f.Local] = p
					paths = append(paths, f.Local)
					size += f.Length
				}
				parts[i].NewBytes += f.Length
			}
			f.Object, f.Offset = p.object, p.offset
		}
	}
	if len(paths) == 0 {
		return nil, nil
	}
	err := u.put(key, paths, size)
	if err != nil {
		return nil, fmt.Errorf("upload of %s: %w", key, err)
	}
	failpoint.Hit(failpoint.PartUploaded, failpoint.Int("epoch", int64(epoch)))
	return fresh, nil
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
	u.busy = false
	for path, p := range ev.places {
		u.places[path] = p
		u.a.states.placed(path, p)
	}
	if ev.epoch == u.epoch && ev.err == nil {
		u.ackedEpoch, u.ackedFiles = ev.epoch, map[string]bool{}
		for i := range ev.parts {
			for _, f := range ev.parts[i].Files {
				u.ackedFiles[f.Local] = true
			}
		}
	}
	for i := range ev.parts {
		part := ev.parts[i]
		if ev.epoch != u.epoch {
			break
		}
		if ev.err != nil {
			u.a.send(control.Declined{To: u.a.deploy.To, Epoch: ev.epoch, Subtask: part.Subtask, Reason: ev.err.Error()})
			continue
		}
		if i == len(ev.parts)-1 && u.spoiled(ev.epoch, part.Subtask) {
			continue
		}
		u.a.send(control.Acked{To: u.a.deploy.To, Epoch: ev.epoch, Part: part})
	}
	if ev.epoch == u.epoch {
		u.epoch, u.parts = 0, nil
	} else if u.epoch != 0 && len(u.parts) == len(u.a.deploy.Subtasks) {
		u.start()
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
