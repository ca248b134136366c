package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// A progress writes how far long work is: one line that redraws itself on a
// terminal, plain lines at least every apart elsewhere. It goes to standard error,
// so that results can be piped. A progress is not safe for concurrent use.
type progress struct {
	out   io.Writer
	apart time.Duration // least time between two plain lines; 0: all are written
	tty   bool
	drawn bool
	last  time.Time
}

func newProgress(out io.Writer, apart time.Duration) *progress {
	return &progress{out: out, apart: apart, tty: isTerminal(out)}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// linef writes a line that stays.
func (p *progress) linef(format string, args ...any) {
	p.wipe()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// due reports whether a line of now would be written.
func (p *progress) due(now time.Time) bool {
	return p.tty && now.Sub(p.last) >= 50*time.Millisecond || !p.tty && now.Sub(p.last) >= p.apart
}

// show writes the state of the work as of now.
func (p *progress) show(now time.Time, text string) {
	if !p.due(now) {
		return
	}
	p.last = now
	if !p.tty {
		fmt.Fprintln(p.out, text)
		return
	}
	p.wipe()
	if len(text) > 200 {
		text = text[:200]
	}
	fmt.Fprint(p.out, text)
	p.drawn = true
}

// wipe removes the line that redraws itself.
func (p *progress) wipe() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}
