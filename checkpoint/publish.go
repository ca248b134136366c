package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/failpoint"
	"github.com/weirstream/weir/internal/objstore"
)

// ErrFenced reports that another attempt's manifest lies at the epoch's path.
// The caller must give the epoch up: retrying can only lose again.
var ErrFenced = errors.New("checkpoint: fenced by another attempt")

// ErrIncomplete reports a manifest without its marker: nobody knows that the
// epoch is complete.
var ErrIncomplete = errors.New("checkpoint: epoch has no marker: it was never completed")

const publishTries = 8

// Publish puts m at its path if nothing lies there. An ambiguous answer is
// settled by reading back. It may be called again with the same m.
func Publish(ctx context.Context, s objstore.Store, m *Manifest) (Ref, error) {
	b, hash, err := m.Encode()
	if err != nil {
		return Ref{}, err
	}
	ref := Ref{Epoch: m.Epoch, Kind: m.Kind, Key: ManifestKey(m.Pipeline, m.Epoch), Hash: hash, Bytes: int64(len(b))}
	failpoint.Hit(failpoint.ManifestBeforePut, failpoint.Int("epoch", int64(m.Epoch)))
	if err := putOnce(ctx, s, ref.Key, b); err != nil {
		return Ref{}, fmt.Errorf("checkpoint: publish epoch %d: %w", m.Epoch, err)
	}
	failpoint.Hit(failpoint.ManifestAfterPut, failpoint.Int("epoch", int64(m.Epoch)))
	return ref, nil
}

// Mark puts the marker of a complete epoch. It may be called again.
func Mark(ctx context.Context, s objstore.Store, p dataflow.Pipeline, ref Ref) error {
	if err := putOnce(ctx, s, MarkerKey(p, ref.Epoch), []byte(ref.Hash)); err != nil {
		return fmt.Errorf("checkpoint: mark epoch %d: %w", ref.Epoch, err)
	}
	return nil
}

// putOnce puts b at key, or finds that the same bytes are already there.
func putOnce(ctx context.Context, s objstore.Store, key string, b []byte) error {
	var last error
	for range publishTries {
		err := objstore.PutBytesIfAbsent(ctx, s, key, b)
		if err == nil {
			return nil
		}
		last = err
		switch {
		case errors.Is(err, objstore.ErrExists), errors.Is(err, objstore.ErrAmbiguous):
			got, rerr := objstore.ReadAll(ctx, s, key)
			switch {
			case rerr == nil && bytes.Equal(got, b):
				return nil
			case rerr == nil && errors.Is(err, objstore.ErrExists):
				return fmt.Errorf("%s holds other bytes: %w", key, ErrFenced)
			}
		case !objstore.Retryable(err):
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), last)
		}
	}
	return last
}

// Load reads the manifest that ref names and compares its hash. A *CorruptError
// says that other bytes were read; that the store does not answer is no such thing.
func Load(ctx context.Context, s objstore.Store, ref Ref) (*Manifest, error) {
	var last error
	for try := range publishTries {
		b, err := objstore.ReadAll(ctx, s, ref.Key)
		if err != nil {
			if objstore.Retryable(err) && ctx.Err() == nil && try < publishTries-1 {
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
func LoadPath(ctx context.Context, s objstore.Store, key string) (*Manifest, Ref, error) {
	b, err := objstore.ReadAll(ctx, s, key)
	if err != nil {
		return nil, Ref{}, fmt.Errorf("checkpoint: manifest %s: %w", key, err)
	}
	m, err := Decode(b)
	if err != nil {
		return nil, Ref{}, fmt.Errorf("%s: %w", key, err)
	}
	mark, err := objstore.ReadAll(ctx, s, MarkerKey(m.Pipeline, m.Epoch))
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
