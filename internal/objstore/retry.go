package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// A Backoff repeats calls that failed in passing. Its zero value tries 8 times
// over about 6 s, without jitter. It is a value, safe for concurrent use.
type Backoff struct {
	Tries int           // calls in all; 8
	First time.Duration // pause after the first; doubled after each more; 50ms
	Max   time.Duration // longest pause; 5s

	// Sleep waits between tries, returning the cause of ctx when it is done. It is
	// the seam for a fake clock; nil waits in real time.
	Sleep func(ctx context.Context, d time.Duration) error

	// Jitter returns a number in [0, 1) that shortens each pause by up to a half, so
	// that racing callers part; nil means none.
	Jitter func() float64
}

// Do calls f until it returns nil or an error that is not Retryable, or the tries
// are used up; then it returns the last error.
func (b Backoff) Do(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || !Retryable(err) || try >= b.tries() {
			return err
		}
		if cause := b.pause(ctx, try); cause != nil {
			return fmt.Errorf("%w (gave up waiting: %w)", err, cause)
		}
	}
}

// PutOnce writes the object if there is none, and settles lost answers by reading
// back: nil means that the object under key now has the bytes of body, ErrExists
// that it has others. Body must name its writer, by a uuid for instance: two
// writers of equal bytes would both be told that theirs is there.
//
// An error that wraps ErrAmbiguous remains only when the tries are used up; then
// the object may still appear.
func (b Backoff) PutOnce(ctx context.Context, s Store, key string, body []byte) error {
	lost := false // an earlier try may have happened
	for try := 1; ; try++ {
		err := PutBytesIfAbsent(ctx, s, key, body)
		if err == nil {
			return nil
		}
		ambiguous := errors.Is(err, ErrAmbiguous)
		lost = lost || ambiguous
		if ambiguous || errors.Is(err, ErrExists) {
			var there []byte
			readErr := b.Do(ctx, func() (e error) {
				there, e = ReadAll(ctx, s, key)
				return e
			})
			switch {
			case readErr == nil && bytes.Equal(there, body):
				return nil
			case readErr == nil:
				return fmt.Errorf("objstore: put %s: %w", key, ErrExists)
			case !errors.Is(readErr, ErrNotFound):
				return fmt.Errorf("objstore: put %s: %w: read it back: %w", key, ErrAmbiguous, readErr)
			}
		} else if !Retryable(err) {
			return settle(err, lost)
		}
		if try >= b.tries() {
			return settle(err, lost)
		}
		if cause := b.pause(ctx, try); cause != nil {
			return settle(fmt.Errorf("%w (gave up waiting: %w)", err, cause), lost)
		}
	}
}

func settle(err error, lost bool) error {
	if lost && !errors.Is(err, ErrAmbiguous) {
		return fmt.Errorf("%w: %w", ErrAmbiguous, err)
	}
	return err
}

func (b Backoff) tries() int {
	if b.Tries <= 0 {
		return 8
	}
	return b.Tries
}

func (b Backoff) pause(ctx context.Context, try int) error {
	d, limit := b.First, b.Max
	if d <= 0 {
		d = 50 * time.Millisecond
	}
	if limit <= 0 {
		limit = 5 * time.Second
	}
	for i := 1; i < try && d < limit; i++ {
		d *= 2
	}
	d = min(d, limit)
	if b.Jitter != nil {
		d -= time.Duration(float64(d) / 2 * b.Jitter())
	}
	if b.Sleep != nil {
		return b.Sleep(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
