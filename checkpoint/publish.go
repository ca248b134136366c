package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/internal/objstore"
)

// ErrFenced reports that another attempt's manifest lies at the epoch's path.
// The caller must give the epoch up: retrying can only lose again.
var ErrFenced = errors.New("checkpoint: fenced by another attempt")

// ErrIncomplete reports a manifest without its marker: nobody knows that the
// epoch is complete.
var ErrIncomplete = errors.New("checkpoint: epoch has no marker: it was never completed")

const (
	tries      = 8
	firstPause = 50 * time.Millisecond // doubled with every try
)

// Objects is how manifests and markers are read and written: with patience where the
// store's answer may be another one a moment later. Its methods may be used from any
// goroutine.
type Objects struct {
	Store objstore.Store
	// Clock is what pauses between tries go by; nil: they follow one another at once,
	// which is for simulations.
	Clock clock.Clock
	// Jitter returns a number in [0, 1) that a pause is spread by, so that many who
	// failed together do not try again together; nil: none.
	Jitter func() float64
}

// pause waits before try i, from 1 on.
func (o Objects) pause(ctx context.Context, i int) error {
	if o.Clock == nil {
		return ctx.Err()
	}
	d := firstPause << (i - 1)
	if o.Jitter != nil {
		d = d/2 + time.Duration(o.Jitter()*float64(d))
	}
	return clock.Sleep(ctx, o.Clock, d)
}

// Publish puts m at its path if nothing lies there. An ambiguous answer is
// settled by reading back. It may be called again with the same m.
func (o Objects) Publish(ctx context.Context, m *Manifest) (Ref, error) {
	b, hash, err := m.Encode()
	if err != nil {
		return Ref{}, err
	}
	ref := Ref{Epoch: m.Epoch, Kind: m.Kind, Key: ManifestKey(m.Pipeline, m.Epoch), Hash: hash, Bytes: int64(len(b))}
	failpoint.Hit(failpoint.ManifestBeforePut, failpoint.Int("epoch", int64(m.Epoch)))
	if err := o.putOnce(ctx, ref.Key, b); err != nil {
		return Ref{}, fmt.Errorf("checkpoint: publish epoch %d: %w", m.Epoch, err)
	}
	failpoint.Hit(failpoint.ManifestAfterPut, failpoint.Int("epoch", int64(m.Epoch)))
	return ref, nil
}

// Mark puts the marker of a complete epoch. It may be called again.
func (o Objects) Mark(ctx context.Context, p dataflow.Pipeline, ref Ref) error {
	if err := o.putOnce(ctx, MarkerKey(p, ref.Epoch), []byte(ref.Hash)); err != nil {
		return fmt.Errorf("checkpoint: mark epoch %d: %w", ref.Epoch, err)
	}
	return nil
}

// MarkFinished tells clusters that have not the log of this one that all output of
// an epoch is committed. It may be called again.
func (o Objects) MarkFinished(ctx context.Context, p dataflow.Pipeline, ref Ref) error {
	if err := o.putOnce(ctx, FinishedKey(p, ref.Epoch), []byte(ref.Hash)); err != nil {
		return fmt.Errorf("checkpoint: mark epoch %d finished: %w", ref.Epoch, err)
	}
	return nil
}

// Finished reports whether MarkFinished was called for what ref names.
func (o Objects) Finished(ctx context.Context, p dataflow.Pipeline, ref Ref) (bool, error) {
	got, err := objstore.ReadAll(ctx, o.Store, FinishedKey(p, ref.Epoch))
	if errors.Is(err, objstore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("checkpoint: whether epoch %d is finished: %w", ref.Epoch, err)
	}
	return string(got) == ref.Hash, nil
}

// putOnce puts b at key, or finds that the same bytes are already there.
func (o Objects) putOnce(ctx context.Context, key string, b []byte) error {
	var last error
	for i := range tries {
		if i > 0 {
			if err := o.pause(ctx, i); err != nil {
				return errors.Join(err, last)
			}
		}
		err := objstore.PutBytesIfAbsent(ctx, o.Store, key, b)
		if err == nil {
			return nil
		}
		last = err
		switch {
		case errors.Is(err, objstore.ErrExists), errors.Is(err, objstore.ErrAmbiguous):
			got, rerr := objstore.ReadAll(ctx, o.Store, key)
			switch {
			case rerr == nil && bytes.Equal(got, b):
				return nil
			case rerr == nil && errors.Is(err, objstore.ErrExists):
				return fmt.Errorf("%s holds other bytes: %w", key, ErrFenced)
			}
		case !objstore.Retryable(err):
			return err
		}
	}
	return last
}

// Load reads the manifest that ref names and compares its hash. A *CorruptError
// says that other bytes were read; that the store does not answer is no such thing.
func (o Objects) Load(ctx context.Context, ref Ref) (*Manifest, error) {
	var last error
	for i := range tries {
		if i > 0 {
			if err := o.pause(ctx, i); err != nil {
				return nil, fmt.Errorf("checkpoint: manifest %s: %w", ref.Key, errors.Join(err, last))
			}
		}
		b, err := objstore.ReadAll(ctx, o.Store, ref.Key)
		if err != nil {
			if last = err; objstore.Retryable(err) && i < tries-1 {
				continue
			}
			return nil, fmt.Errorf("checkpoint: manifest %s: %w", ref.Key, err)
		}
		if h := HashOf(b); h != ref.Hash {
			last = fmt.Errorf("its hash is %s, recorded is %s", h, ref.Hash)
			continue
		}
		return Decode(b)
	}
	return nil, &CorruptError{Object: ref.Key, Epoch: ref.Epoch, Err: last}
}

// LoadPath reads a manifest of an unknown cluster by its folder or object key;
// the marker must be there and agree.
func (o Objects) LoadPath(ctx context.Context, key string) (*Manifest, Ref, error) {
	b, err := objstore.ReadAll(ctx, o.Store, key)
	if err != nil {
		return nil, Ref{}, fmt.Errorf("checkpoint: manifest %s: %w", key, err)
	}
	m, err := Decode(b)
	if err != nil {
		return nil, Ref{}, fmt.Errorf("%s: %w", key, err)
	}
	mark, err := objstore.ReadAll(ctx, o.Store, MarkerKey(m.Pipeline, m.Epoch))
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, Ref{}, fmt.Errorf("%s: %w", key, ErrIncomplete)
	}
	if err != nil {
		return nil, Ref{}, fmt.Errorf("checkpoint: marker of %s: %w", key, err)
	}
	ref := Ref{Epoch: m.Epoch, Kind: m.Kind, Key: key, Hash: HashOf(b), Bytes: int64(len(b))}
	if string(mark) != ref.Hash {
		return nil, Ref{}, &CorruptError{Object: key, Epoch: m.Epoch, Err: fmt.Errorf("its hash is %s, its marker says %s", ref.Hash, mark)}
	}
	return m, ref, nil
}

// A CorruptError names an object of a checkpoint that cannot be trusted. The
// caller falls back to an older checkpoint where that is allowed, or stops the
// job.
type CorruptError struct {
	Object string
	Epoch  dataflow.Epoch
	Err    error
}

// Error names the object and the epoch.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint: object %s of epoch %d is corrupt: %v", e.Object, e.Epoch, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }
