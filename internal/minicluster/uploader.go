package minicluster

import (
	"errors"
	"fmt"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
)

// uploader gathers the parts of an epoch and puts their new files into one
// object, as taskmanager's does.
type uploader struct {
	a      *attempt
	newest dataflow.Epoch // last begun
	epoch  dataflow.Epoch // being gathered; 0: none
	parts  []dataflow.Part
	busy   bool
	places map[string]place // by local path
	job    func()           // the upload under way
}

type place struct {
	object string
	offset int64
}

func (u *uploader) begin(e dataflow.Epoch) {
	if e <= u.newest {
		return // doubled, or late
	}
	u.newest, u.epoch, u.parts = e, e, nil
}

func (u *uploader) abort(e dataflow.Epoch) {
	if u.epoch == e {
		u.epoch, u.parts = 0, nil
	}
}

func (u *uploader) acked(ev isAcked) {
	if ev.epoch != u.epoch {
		return
	}
	u.parts = append(u.parts, ev.part)
	if len(u.parts) == len(u.a.nodes) {
		u.start()
	}
}

func (u *uploader) start() {
	if u.busy {
		return
	}
	u.busy = true
	epoch, parts, known := u.epoch, u.parts, map[string]place{}
	for i := range parts {
		for _, f := range parts[i].Files {
			if p, ok := u.places[f.Local]; ok && f.Object == "" {
				known[f.Local] = p
			}
		}
	}
	u.job = func() {
		fresh, err := u.upload(epoch, parts, known)
		u.uploaded(epoch, parts, fresh, err)
	}
}

// upload puts every file that lies nowhere yet into one object and fills in parts.
func (u *uploader) upload(epoch dataflow.Epoch, parts []dataflow.Part, known map[string]place) (fresh []localPlace, err error) {
	d := &u.a.deploy
	key := checkpoint.DataKey(d.Pipeline, epoch, d.Attempt, "node")
	var body []byte
	for i := range parts {
		for j := range parts[i].Files {
			f := &parts[i].Files[j]
			if f.Object != "" {
				continue
			}
			p, ok := known[f.Local]
			if !ok {
				p = place{key, int64(len(body))}
				known[f.Local] = p
				fresh = append(fresh, localPlace{f.Local, p})
				body = append(body, u.a.w.files[f.Local]...)
				parts[i].NewBytes += f.Length
			}
			f.Object, f.Offset = p.object, p.offset
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	if err := u.put(key, body); err != nil {
		return nil, fmt.Errorf("upload of %s: %w", key, err)
	}
	return fresh, nil
}

type localPlace struct {
	local string
	place
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
func (u *uploader) uploaded(epoch dataflow.Epoch, parts []dataflow.Part, fresh []localPlace, err error) {
	u.busy = false
	for _, f := range fresh {
		u.places[f.local] = f.place
		for _, n := range u.a.nodes {
			if n.store != nil {
				n.store.uploaded(f.local, f.place)
			}
		}
	}
	current := epoch == u.epoch
	if current {
		u.epoch, u.parts = 0, nil
	}
	for _, part := range parts {
		switch {
		case !current:
		case err != nil:
			u.a.declined(epoch, part.Subtask, err.Error())
		default:
			u.a.w.send(control.Acked{To: u.a.deploy.To, Epoch: epoch, Part: part})
		}
	}
	if !current && u.epoch != 0 && len(u.parts) == len(u.a.nodes) {
		u.start()
	}
}
