package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// A Cutter cuts the body of a Put into the parts that a driver sends, and checks
// that it has the size that was announced. One goroutine uses it.
type Cutter struct {
	label string
	r     io.Reader
	part  int64
	most  int   // parts; 0 is without a bound
	want  int64 // announced size; below zero if unknown
	got   int64
	done  bool   // the part just returned is the last
	peek  []byte // first byte of the next part, read to know whether there is one
}

// NewCutter cuts body, of which size bytes are announced (below zero: unknown), into
// parts of the given number of bytes, the last one excepted; into larger ones where
// they would be more than most, unless that is 0. Its errors begin with label.
func NewCutter(label string, body io.Reader, size, part int64, most int) *Cutter {
	if most > 0 && size/part >= int64(most) {
		part = size/int64(most-1) + 1
	}
	return &Cutter{label: label, r: body, part: part, most: most, want: size}
}

// Done reports whether the part that was returned last is the last of all.
func (c *Cutter) Done() bool { return c.done }

// First is Next for the first part of what is to become the object key of s. Where
// that is to be made only if it is absent, a body of several parts is not begun if
// it is there: the error is ErrExists.
func (c *Cutter) First(ctx context.Context, s Store, key string, ifAbsent bool) ([]byte, error) {
	first, err := c.Next()
	if err != nil || c.done || !ifAbsent {
		return first, err
	}
	switch _, err := s.Stat(ctx, key); {
	case err == nil:
		return nil, fmt.Errorf("%s: %w", c.label, ErrExists)
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	return first, nil
}

// Next returns the next part in memory of its own. The first one may be empty, no
// other is. A body of another size than announced is an error, told at the latest
// with what would be the last part.
func (c *Cutter) Next() ([]byte, error) {
	p, err := c.next()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.label, err)
	}
	return p, nil
}

func (c *Cutter) next() ([]byte, error) {
	room := c.part + 1
	if c.want >= 0 {
		room = min(room, c.want-c.got+1)
	}
	b := bytes.NewBuffer(make([]byte, 0, min(room, 64<<10)))
	if c.want >= 0 {
		b = bytes.NewBuffer(make([]byte, 0, room))
	}
	b.Write(c.peek)
	if _, err := io.CopyN(b, c.r, room-int64(len(c.peek))); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	p := b.Bytes()
	c.done = int64(len(p)) <= c.part
	if !c.done {
		c.peek, p = []byte{p[c.part]}, p[:c.part]
	}
	c.got += int64(len(p))
	over := c.got > c.want || !c.done && c.got == c.want
	if c.want >= 0 && (over || c.done && c.got < c.want) {
		if over {
			return nil, fmt.Errorf("the body has more than the %d bytes that were announced", c.want)
		}
		return nil, fmt.Errorf("the body has %d bytes, %d were announced", c.got, c.want)
	}
	return p, nil
}

// Send calls send for first and for all parts behind it, at most parallel at a time,
// and returns the first error; number counts the parts from 0. Memory is at most
// parallel plus two parts.
func (c *Cutter) Send(ctx context.Context, first []byte, parallel int, send func(ctx context.Context, number int, part []byte) error) error {
	g, parts := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	part, err := first, error(nil)
	for n := 0; err == nil; n++ {
		p := part // what is sent beside the next reading
		g.Go(func() error { return send(parts, n, p) })
		if c.done || parts.Err() != nil {
			break
		}
		part, err = c.Next()
		if err == nil && c.most > 0 && n+1 == c.most {
			err = fmt.Errorf("%s: over %d parts of %d bytes: announce the size, or raise part_bytes", c.label, c.most, c.part)
		}
	}
	if err != nil {
		_ = g.Wait() // the body's error is the cause
		return err
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if !c.done { // the caller's context ended between two parts
		return fmt.Errorf("%s: %w", c.label, context.Cause(ctx))
	}
	return nil
}
