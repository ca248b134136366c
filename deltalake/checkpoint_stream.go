package deltalake

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// StreamCheckpoint writes a Delta checkpoint of the newest version as
// Table.WriteCheckpoint does, but from the checkpoint before it and the commits
// since, in memory that is bounded by those. It returns the version. For a table
// that is open anyway, Table.WriteCheckpoint reads nothing.
//
// Where the newest version has a checkpoint, that is compared with what the commits
// since an older one make, and left alone when it says the same. One that is damaged
// or says something else is replaced, whatever its form. When no other way leads to
// the version, it is read through, and its damage is the error.
func StreamCheckpoint(ctx context.Context, store Store, opts TableOptions, o CheckpointOptions) (int64, error) {
	l, err := openStream(ctx, store, -1, anyCheckpoint, opts)
	if err != nil {
		return 0, err
	}
	version := l.head.version
	if len(l.base) > 0 && l.base[0].version == version {
		older, err := openStream(ctx, store, version, version, opts)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil { // there is no other way
			return version, l.files(ctx, func(*action) error { return nil })
		}
		if same, err := older.equals(ctx, l); err != nil || same {
			return version, err
		}
		l = older
	}
	for {
		damaged, err := l.writeCheckpoint(ctx, o)
		if err == nil || !damaged || ctx.Err() != nil {
			return version, err
		}
		// The checkpoint that the stream came from: an older one may still lead here.
		older, oerr := openStream(ctx, store, version, l.base[0].version, opts)
		if oerr != nil {
			return 0, errors.Join(err, oerr)
		}
		l = older
	}
}

// writeCheckpoint writes the version's checkpoint and drops those that it replaces.
// damaged says that an error is of the checkpoint that the stream comes from.
func (l *logStream) writeCheckpoint(ctx context.Context, o CheckpointOptions) (damaged bool, err error) {
	s := l.head
	if err := s.protocol.checkWrite(); err != nil {
		return false, err
	}
	files := int64(len(l.late.adds) + len(l.late.removes))
	for i := range l.base {
		n, err := l.rows(ctx, &l.base[i])
		if err != nil {
			return true, err
		}
		files += n
	}
	oldest := l.t.opts.Now().Add(-s.tombstoneRetention()).UnixMilli()
	w, err := l.t.newCheckpointWriter(ctx, s, files, o)
	if err != nil {
		return false, err
	}
	writing := false // the error is of writing
	err = l.files(ctx, func(a *action) (err error) {
		switch {
		case a.Add != nil:
			err = w.add(a.Add)
		case a.Remove.DeletionTimestamp > oldest:
			err = w.remove(a.Remove)
		}
		writing = err != nil
		return err
	})
	if err != nil {
		return !writing && len(l.base) > 0, w.abort(err)
	}
	if err := w.finish(); err != nil {
		return false, err
	}
	for _, f := range l.same {
		if f.info.Path == w.path {
			continue
		}
		if err := l.t.store.Delete(ctx, f.info.Path); err != nil {
			return false, fmt.Errorf("deltalake: checkpoint: drop the one that is replaced: %w", err)
		}
	}
	return false, nil
}

// equals tells whether a checkpoint says what the stream says. An error is the
// stream's own; what cannot be read of the checkpoint makes it another.
func (l *logStream) equals(ctx context.Context, checkpoint *logStream) (bool, error) {
	want, err := l.sum(ctx)
	if err != nil {
		return false, err
	}
	got, err := checkpoint.sum(ctx)
	if err != nil {
		return false, ctx.Err()
	}
	a, b := l.head, checkpoint.head
	if got != want || sameHead(a.protocol, b.protocol, a.metadata, b.metadata) != "" || len(a.txns) != len(b.txns) || len(a.domains) != len(b.domains) {
		return false, nil
	}
	for id, txn := range a.txns {
		if b.txns[id].Version != txn.Version {
			return false, nil
		}
	}
	for name, d := range a.domains {
		if b.domains[name] != d {
			return false, nil
		}
	}
	return true, nil
}

// fileSum identifies a set of live files, in no order.
type fileSum struct {
	files, bytes int64
	mix          [2]uint64
}

// sum adds up the live files of the stream. Statistics are left out: writers keep
// them in different forms.
func (l *logStream) sum(ctx context.Context) (fileSum, error) {
	var out fileSum
	err := l.files(ctx, func(a *action) error {
		if a.Add == nil {
			return nil
		}
		k := a.Add.key()
		rows := jsonText([]*int64{a.Add.BaseRowID, a.Add.DefaultRowCommitVersion})
		h := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %s %s", k.path, k.dv, a.Add.Size, partitionKey(a.Add.PartitionValues), rows))
		out.files++
		out.bytes += a.Add.Size
		out.mix[0] += binary.LittleEndian.Uint64(h[:])
		out.mix[1] += binary.LittleEndian.Uint64(h[8:])
		return nil
	})
	return out, err
}
