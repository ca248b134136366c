package minicluster

import (
	"errors"
	"fmt"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
)

// uploader carries out what a Gatherer decides, as taskmanager's does.
type uploader struct {
	*checkpoint.Gatherer
	a   *attempt
	job func() // the upload under way
}

func newUploader(a *attempt) uploader {
	d := &a.deploy
	return uploader{a: a, Gatherer: checkpoint.NewGatherer(len(d.Subtasks), func(e dataflow.Epoch) string {
		return checkpoint.DataKey(d.Pipeline, e, d.Attempt, "node")
	})}
}

func (u *uploader) acked(ev isAcked) { u.start(u.Add(ev.epoch, ev.part)) }

func (u *uploader) start(up *checkpoint.Upload) {
	if up == nil {
		return
	}
	u.job = func() {
		var err error
		if len(up.Paths) > 0 {
			var body []byte
			for _, path := range up.Paths {
				body = append(body, u.a.w.files[path]...)
			}
			if err = u.put(up.Key, body); err != nil {
				err = fmt.Errorf("upload of %s: %w", up.Key, err)
			}
		}
		u.uploaded(up, err)
	}
}

func (u *uploader) put(key string, body []byte) (last error) {
	for range 5 {
		err := objstore.PutBytes(u.a.s.ctx, u.a.w.disk(), key, body)
		if err == nil {
			return nil
		}
		last = err
		if !objstore.Retryable(err) && !errors.Is(err, objstore.ErrAmbiguous) {
			break
		}
	}
	return last
}

// uploaded acks the parts, unless their epoch was given up.
func (u *uploader) uploaded(up *checkpoint.Upload, err error) {
	if err == nil {
		up.Each(func(local string, p checkpoint.Place) {
			for _, n := range u.a.nodes {
				if n.store != nil {
					n.store.uploaded(local, p)
				}
			}
		})
	}
	current, next := u.Done(up, err != nil)
	u.start(next)
	if !current {
		return
	}
	for _, part := range up.Parts {
		if err != nil {
			u.a.declined(up.Epoch, part.Subtask, err.Error())
			continue
		}
		u.a.w.send(control.Acked{To: u.a.deploy.To, Epoch: up.Epoch, Part: part})
	}
}
