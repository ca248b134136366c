package checkpoint

import (
	"maps"

	"github.com/weirstream/weir/dataflow"
)

// A Gatherer collects the parts that the subtasks of one process give to an epoch
// and decides which of their files are uploaded, all into one object. It does no
// I/O: who calls it carries an Upload out and brings it back to Done.
//
// A file that an aborted epoch uploaded is not uploaded again: its place is kept
// until an epoch is complete that does not name it.
//
// A Gatherer is not safe for concurrent use; an attempt owns it.
type Gatherer struct {
	subtasks int
	key      func(dataflow.Epoch) string

	newest dataflow.Epoch // last begun
	epoch  dataflow.Epoch // being gathered; 0: none
	parts  []dataflow.Part
	busy   bool // an upload is under way
	places map[string]Place

	// The epoch acked last, and the local paths that its parts name.
	ackedEpoch dataflow.Epoch
	ackedFiles map[string]bool
}

// A Place is where the bytes of a local file lie in the object store.
type Place struct {
	Object string
	Offset int64
}

// An Upload is the work of one epoch: the files of Paths, one behind the other, are
// to be the object Key.
type Upload struct {
	Epoch dataflow.Epoch
	Key   string
	Paths []string // local; empty: there is nothing to put
	Size  int64    // bytes of all
	Parts []dataflow.Part

	offsets []int64 // of Paths
}

// Each calls f with the place of every file of the upload.
func (u *Upload) Each(f func(local string, p Place)) {
	for i, path := range u.Paths {
		f(path, Place{u.Key, u.offsets[i]})
	}
}

// NewGatherer returns a Gatherer for that many subtasks; key names an epoch's object.
func NewGatherer(subtasks int, key func(dataflow.Epoch) string) *Gatherer {
	return &Gatherer{subtasks: subtasks, key: key, places: map[string]Place{}}
}

// Begin gathers for e. A Trigger that comes twice or late changes nothing: the parts
// that are here already will not come again.
func (g *Gatherer) Begin(e dataflow.Epoch) {
	if e > g.newest {
		g.newest, g.epoch, g.parts = e, e, nil
	}
}

// Abort gives e up.
func (g *Gatherer) Abort(e dataflow.Epoch) {
	if g.epoch == e {
		g.epoch, g.parts = 0, nil
	}
}

// Complete forgets the places of files that the complete epoch does not name: no
// later part will, unless it brings them anew, and a sweep may delete them.
func (g *Gatherer) Complete(e dataflow.Epoch) {
	if e == g.ackedEpoch {
		maps.DeleteFunc(g.places, func(path string, _ Place) bool { return !g.ackedFiles[path] })
	}
}

// Add takes a subtask's part of e and returns the upload that is due now, or nil. A
// part of an epoch that was given up is dropped: its files come with the next one.
func (g *Gatherer) Add(e dataflow.Epoch, part dataflow.Part) *Upload {
	if e != g.epoch {
		return nil
	}
	g.parts = append(g.parts, part)
	return g.next()
}

// next returns the upload of the epoch being gathered if all parts are here and none
// is under way.
func (g *Gatherer) next() *Upload {
	if g.busy || g.epoch == 0 || len(g.parts) < g.subtasks {
		return nil
	}
	g.busy = true
	u := &Upload{Epoch: g.epoch, Key: g.key(g.epoch), Parts: g.parts}
	fresh := map[string]Place{}
	for i := range u.Parts {
		for j := range u.Parts[i].Files {
			f := &u.Parts[i].Files[j]
			if f.Object != "" {
				continue
			}
			p, ok := g.places[f.Local]
			if !ok {
				if p, ok = fresh[f.Local]; !ok {
					p = Place{u.Key, u.Size}
					fresh[f.Local] = p
					u.Paths, u.offsets = append(u.Paths, f.Local), append(u.offsets, u.Size)
					u.Size += f.Length
				}
				u.Parts[i].NewBytes += f.Length
			}
			f.Object, f.Offset = p.Object, p.Offset
		}
	}
	return u
}

// Done ends an upload. Current says that its epoch was not given up meanwhile: its
// parts are to be acked, or declined if it failed. Next is the upload due now, or nil.
func (g *Gatherer) Done(u *Upload, failed bool) (current bool, next *Upload) {
	g.busy = false
	if !failed {
		u.Each(func(local string, p Place) { g.places[local] = p })
	}
	if u.Epoch != g.epoch {
		return false, g.next()
	}
	if !failed {
		g.ackedEpoch, g.ackedFiles = u.Epoch, map[string]bool{}
		for i := range u.Parts {
			for _, f := range u.Parts[i].Files {
				g.ackedFiles[f.Local] = true
			}
		}
	}
	g.epoch, g.parts = 0, nil
	return true, nil
}
