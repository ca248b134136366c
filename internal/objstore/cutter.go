package objstore

import (
	"bytes"
	"fmt"
	"io"
)

// A Cutter cuts the body of a Put into the parts that a driver sends, and checks
// that it has the size that was announced. One goroutine uses it.
type Cutter struct {
	r    io.Reader
	part int64
	want int64 // announced size; below zero if unknown
	got  int64
	done bool   // the part just returned is the last
	peek []byte // first byte of the next part, read to know whether there is one
}

// NewCutter cuts body into parts of the given number of bytes, the last one
// excepted. Size is what was announced, or below zero.
func NewCutter(body io.Reader, part, size int64) *Cutter {
	return &Cutter{r: body, part: part, want: size}
}

// Part returns the bytes of a part.
func (c *Cutter) Part() int64 { return c.part }

// Done reports whether the part that Next returned is the last.
func (c *Cutter) Done() bool { return c.done }

// Next returns the next part in memory of its own. The first one may be empty, no
// other is. A body of another size than announced is an error, told at the latest
// with what would be the last part.
func (c *Cutter) Next() ([]byte, error) {
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
