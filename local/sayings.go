package local

import (
	"bytes"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// maxSaying is how much of one line of a worker is kept, bytes.
const maxSaying = 64 << 10

// sayings logs what a worker writes, and keeps the last line that may tell why it
// died. Of a line longer than maxSaying it keeps the begin.
type sayings struct {
	log *slog.Logger

	mu   sync.Mutex
	rest []byte // of a line without an end yet, at most maxSaying
	why  string
}

func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(b)
	for {
		part, rest, ended := bytes.Cut(b, []byte("\n"))
		s.rest = append(s.rest, part[:min(len(part), maxSaying-len(s.rest))]...)
		if !ended {
			return n, nil
		}
		s.line(string(s.rest))
		s.rest, b = s.rest[:0], rest
	}
}

// line takes a whole line. s.mu is held.
func (s *sayings) line(text string) {
	for _, begin := range []string{"panic: ", "fatal error: ", "weir: "} {
		if strings.HasPrefix(text, begin) {
			s.why = text
		}
	}
	s.log.Info("worker says", "line", text)
}

func (s *sayings) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// fault says why a worker ended, by what it said last and what Wait returned. One
// that was killed did not say why, but what it said may help.
func fault(why string, err error) string {
	var exit *exec.ExitError
	killed := false
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		killed = ok && status.Signaled()
	}
	switch {
	case killed && why != "":
		return err.Error() + "; it had said: " + why
	case why != "":
		return why
	case err != nil:
		return err.Error()
	}
	return "it exited by itself"
}
