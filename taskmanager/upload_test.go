package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/queue"
	"github.com/weirstream/weir/state"
)

// sent keeps what goes up.
type sent struct {
	mu  sync.Mutex
	all []control.Message
}

func (s *sent) Send(m control.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
}

func (s *sent) take() []control.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all
	s.all = nil
	return all
}

// broken is a store whose Put fails while on, for good.
type broken struct {
	objstore.Store
	on   bool
	gate chan struct{} // Put waits for it; nil: not
}

func (b *broken) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if b.gate != nil {
		<-b.gate
	}
	if b.on {
		return errors.New("the bucket is read-only")
	}
	return b.Store.Put(ctx, key, r, size)
}

// An uploadTest is an attempt of two subtasks of which only the uploader lives.
type uploadTest struct {
	t     *testing.T
	a     *attempt
	up    *sent
	store *broken
	dir   string
}

func newUploadTest(t *testing.T) *uploadTest {
	ut := &uploadTest{t: t, up: new(sent), store: &broken{Store: objstore.NewMem(nil)}, dir: t.TempDir()}
	m := &Manager{opts: Options{Node: "w", Store: ut.store, Up: ut.up, Clock: clock.Wall(), FS: state.Disk(), Log: slog.New(slog.DiscardHandler)}}
	ut.a = &attempt{m: m, log: m.opts.Log, inbox: queue.New[any](), states: &stateTable{stores: map[*state.Store]bool{}},
		deploy: control.Deploy{To: control.To{Job: "j", Attempt: 4}, Pipeline: "p", Subtasks: []dataflow.SubtaskID{{Chain: "c", Index: 0}, {Chain: "c", Index: 1}}}}
	ut.a.ctx, ut.a.cancel = background()
	ut.a.up = newUploader(ut.a)
	t.Cleanup(func() { ut.a.cancel(); ut.a.up.close() })
	return ut
}

// file is a local file of a store.
func (ut *uploadTest) file(name string) dataflow.FileRef {
	ut.t.Helper()
	body := []byte("rows of " + name)
	path := filepath.Join(ut.dir, name)
	if err := os.WriteFile(path, body, 0o644); err != nil {
		ut.t.Fatal(err)
	}
	return dataflow.FileRef{Local: path, Length: int64(len(body)), CRC32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))}
}

// ack is a subtask's part of an epoch.
func (ut *uploadTest) ack(e dataflow.Epoch, index int, files ...dataflow.FileRef) {
	s := dataflow.SubtaskID{Chain: "c", Index: index}
	ut.a.up.acked(isAcked{s, e, dataflow.Part{Subtask: s, Files: files}})
}

// finish waits for the upload under way and returns what was said of it.
func (ut *uploadTest) finish() []control.Message {
	ut.t.Helper()
	<-ut.a.inbox.Ready()
	for _, m := range ut.a.inbox.Take() {
		ut.a.up.uploaded(m.(uploaded))
	}
	return ut.up.take()
}

// mustAck finishes an epoch that must be acked, whose files can all be read.
func (ut *uploadTest) mustAck(e dataflow.Epoch) (parts []dataflow.Part) {
	ut.t.Helper()
	for _, m := range ut.finish() {
		a, ok := m.(control.Acked)
		if !ok || a.Epoch != e {
			ut.t.Fatalf("epoch %d was answered with %+v", e, m)
		}
		parts = append(parts, a.Part)
		for _, f := range a.Part.Files {
			b := make([]byte, f.Length)
			if err := objstore.ReadAt(ut.t.Context(), ut.store, f.Object, b, f.Offset); err != nil {
				ut.t.Errorf("epoch %d: %v", e, err)
			} else if crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != f.CRC32C {
				ut.t.Errorf("epoch %d: object %s at %d holds %q, want the bytes of %s", e, f.Object, f.Offset, b, f.Local)
			}
		}
	}
	if len(parts) != 2 {
		ut.t.Fatalf("epoch %d: %d acks, want 2", e, len(parts))
	}
	return parts
}

func (ut *uploadTest) object(e dataflow.Epoch) string { return checkpoint.DataKey("p", e, 4, "w") }

// All new files of an epoch are one object, put before any part is acked; files that
// lie somewhere already stay there.
func TestOneObjectPerEpoch(t *testing.T) {
	ut := newUploadTest(t)
	old := ut.file("old")
	old.Object, old.Offset = "elsewhere", 3
	if err := objstore.PutBytes(t.Context(), ut.store, "elsewhere", []byte("...rows of old")); err != nil {
		t.Fatal(err)
	}
	shared := ut.file("shared")
	ut.a.up.Begin(1)
	ut.ack(1, 0, old, ut.file("a"), shared)
	if got := ut.up.take(); len(got) != 0 {
		t.Fatalf("a part was acked before the other was here: %+v", got)
	}
	ut.ack(1, 1, ut.file("b"), shared)
	parts := ut.mustAck(1)
	for i, want := range []int64{int64(len("rows of arows of shared")), int64(len("rows of brows of shared"))} {
		if i == 1 {
			want -= int64(len("rows of shared"))
		}
		if i == 0 && parts[i].NewBytes != want {
			t.Errorf("part %d has %d new bytes, want %d", i, parts[i].NewBytes, want)
		}
	}
	if parts[0].Files[0].Object != "elsewhere" || parts[0].Files[1].Object != ut.object(1) || parts[1].Files[0].Object != ut.object(1) {
		t.Errorf("files lie in %+v", parts)
	}
}

// What an aborted epoch uploaded is not uploaded again; what a complete epoch does not
// name is, for a sweep may have deleted its object.
func TestPlacesOfFiles(t *testing.T) {
	ut := newUploadTest(t)
	a, b := ut.file("a"), ut.file("b")
	ut.a.up.Begin(1)
	ut.ack(1, 0, a)
	ut.ack(1, 1, b)
	ut.mustAck(1)
	ut.a.up.Abort(1) // too late, as an abort may be
	ut.a.up.Begin(2)
	ut.ack(2, 0, a)
	ut.ack(2, 1)
	if p := ut.mustAck(2); p[0].Files[0].Object != ut.object(1) || p[0].NewBytes != 0 {
		t.Errorf("a file of the aborted epoch is uploaded again: %+v", p[0])
	}
	ut.a.up.Complete(2) // it does not name b: the object may go
	ut.a.up.Begin(3)
	ut.ack(3, 0, a)
	ut.ack(3, 1, b)
	p := ut.mustAck(3)
	if p[1].Files[0].Object != ut.object(3) {
		t.Errorf("a file that the complete epoch does not name is taken for uploaded: %+v", p[1].Files)
	}
	if p[0].Files[0].Object != ut.object(1) {
		t.Errorf("a file that it names is uploaded again: %+v", p[0].Files)
	}
}

// An upload that fails declines the epoch for every part, and the next epoch uploads
// the same files.
func TestFailedUploadDeclines(t *testing.T) {
	ut := newUploadTest(t)
	a := ut.file("a")
	ut.store.on = true
	ut.a.up.Begin(1)
	ut.ack(1, 0, a)
	ut.ack(1, 1)
	said := ut.finish()
	for _, m := range said {
		if d, ok := m.(control.Declined); !ok || d.Epoch != 1 || d.Reason == "" {
			t.Errorf("said %+v", m)
		}
	}
	if len(said) != 2 {
		t.Errorf("%d answers, want 2", len(said))
	}
	ut.store.on = false
	ut.a.up.Abort(1)
	ut.a.up.Begin(2)
	ut.ack(2, 0, a)
	ut.ack(2, 1)
	if p := ut.mustAck(2); p[0].Files[0].Object != ut.object(2) {
		t.Errorf("the file lies in %s", p[0].Files[0].Object)
	}
}

// An epoch that is given up while its upload is under way is not acked; the next one's
// upload waits its turn and uses what the first brought.
func TestUploadOverlapsAbort(t *testing.T) {
	ut := newUploadTest(t)
	ut.store.gate = make(chan struct{})
	a := ut.file("a")
	ut.a.up.Begin(1)
	ut.ack(1, 0, a)
	ut.ack(1, 1)
	ut.a.up.Abort(1)
	ut.a.up.Begin(2)
	ut.a.up.Begin(1) // a late Trigger
	ut.ack(2, 0, a)
	ut.ack(2, 1, ut.file("b"))
	close(ut.store.gate)
	if said := ut.finish(); len(said) != 0 {
		t.Errorf("the aborted epoch was answered: %+v", said)
	}
	p := ut.mustAck(2)
	if got := fmt.Sprint(p[0].Files[0].Object, p[1].Files[0].Object); got != fmt.Sprint(ut.object(1), ut.object(2)) {
		t.Errorf("files lie in %s", got)
	}
}
