package local

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
)

// A starter starts processes from one operating system thread, which lives until
// close: a process that is to die with its parent (Pdeathsig) dies with the thread
// that forked it, and the runtime ends threads as it likes.
type starter struct {
	work chan func()
	once sync.Once
	done chan struct{}
}

func newStarter() *starter {
	s := &starter{work: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for {
			select {
			case f := <-s.work:
				f()
			case <-s.done:
				return
			}
		}
	}()
	return s
}

// start is cmd.Start on the starter's thread.
func (s *starter) start(cmd *exec.Cmd) error {
	answer := make(chan error, 1)
	select {
	case s.work <- func() { answer <- cmd.Start() }:
		return <-answer
	case <-s.done:
		return errors.New("local: the cluster is closed")
	}
}

// close ends the thread. What it started must be over.
func (s *starter) close() { s.once.Do(func() { close(s.done) }) }
