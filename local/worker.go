package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/queue"
)

// workerArg is the first argument by which a static pack's executable is told to
// be a worker. It then reads control messages, a JSON object a line, from file
// descriptor 3 and writes its own to 4; the first line is a workerConfig. The end
// of its input ends it.
const workerArg = "weir-worker"

// A workerConfig is what a worker must know before its first message.
type workerConfig struct {
	Dir         string            `json:"dir"` // for local state, its own alone
	Checkpoints string            `json:"checkpoints"`
	Settings    map[string]string `json:"settings"`
	StateBudget int64             `json:"state_budget"`
}

// workers is the way down from the job manager: messages for jobs of static packs
// go to a worker process, one per job, all others to the task manager of this
// process.
//
// A worker lives from the first Deploy of a job until the newest attempt that it
// was given has stopped. One that ends before is reported as Failed and, once the
// job manager cancels the attempt, as Stopped: nothing of it can run any more.
type workers struct {
	here   control.Link // this process's task manager
	up     control.Link
	config workerConfig // Dir is the parent of the workers' folders
	exe    func(pack string) (string, error)
	log    *slog.Logger

	mu     sync.Mutex
	byJob  map[dataflow.JobID]*worker
	closed bool
	wg     sync.WaitGroup
}

// A worker is a process that runs one job.
type worker struct {
	cmd    *exec.Cmd
	out    *queue.Queue[control.Message] // to the process
	ctx    context.Context               // ends with the process
	end    context.CancelFunc
	to     control.To // newest attempt deployed; workers.mu guards it
	retire chan struct{}
	once   sync.Once
	fault  string // why it died; set before ctx ends
}

// Send routes a message. It does not block: a process starts in the background.
func (w *workers) Send(m control.Message) {
	to := m.(interface{ Target() control.To }).Target()
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.byJob[to.Job]
	if d, ok := m.(control.Deploy); ok && p == nil && !w.closed {
		exe, err := w.exe(d.Pack)
		switch {
		case err != nil:
			go w.up.Send(control.Failed{To: to, Reason: err.Error()})
			return
		case exe != "":
			p, err = w.start(exe, to)
			if err != nil {
				go w.up.Send(control.Failed{To: to, Reason: err.Error()})
				return
			}
			w.byJob[to.Job] = p
		}
	}
	if p == nil {
		w.here.Send(m) // which answers Cancel with Stopped
		return
	}
	if d, ok := m.(control.Deploy); ok && d.Attempt > p.to.Attempt {
		p.to = to
	}
	p.out.Put(m)
}

// start starts the process for an attempt. w.mu is held.
func (w *workers) start(exe string, to control.To) (*worker, error) {
	config := w.config
	config.Dir = filepath.Join(w.config.Dir, fmt.Sprintf("%s-%d", to.Job, to.Attempt))
	in, toChild, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("local: worker: %w", err)
	}
	fromChild, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local: worker: %w", err), in.Close(), toChild.Close())
	}
	p := &worker{cmd: exec.Command(exe, workerArg), out: queue.New[control.Message](), to: to, retire: make(chan struct{})}
	p.ctx, p.end = context.WithCancel(context.Background())
	said := &sayings{log: w.log.With("job", to.Job)}
	p.cmd.ExtraFiles = []*os.File{in, out}
	p.cmd.Stdout, p.cmd.Stderr = said, said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // a Ctrl-C is ours to pass on
	err = p.cmd.Start()
	err = errors.Join(err, in.Close(), out.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local: worker of %s: %w", to.Job, err), toChild.Close(), fromChild.Close())
	}
	w.log.Info("worker started", "job", to.Job, "attempt", to.Attempt, "pid", p.cmd.Process.Pid)
	w.wg.Go(func() { p.feed(toChild, config) })
	w.wg.Go(func() {
		w.listen(p, fromChild)
		err := p.cmd.Wait()
		p.fault = cmpFault(said.last(), err)
		p.end()
		w.over(p)
	})
	return p, nil
}

// feed writes the config, then messages, until the worker retires or ends.
func (p *worker) feed(to io.WriteCloser, config workerConfig) {
	defer to.Close()
	enc := json.NewEncoder(to)
	if enc.Encode(config) != nil {
		return
	}
	for {
		for _, m := range p.out.Take() {
			b, err := control.Encode(m)
			if err != nil {
				panic(err) // a message of ours without an encoding
			}
			if _, err := to.Write(append(b, '\n')); err != nil {
				return // it ended: over says so
			}
		}
		select {
		case <-p.out.Ready():
		case <-p.retire:
			return
		case <-p.ctx.Done():
			return
		}
	}
}

// listen passes on what the worker says until it ends.
func (w *workers) listen(p *worker, from io.ReadCloser) {
	defer from.Close()
	err := readMessages(bufio.NewReader(from), func(m control.Message) {
		if s, ok := m.(control.Stopped); ok {
			w.mu.Lock()
			if s.To == p.to { // its last attempt: the next one gets a process of its own
				if w.byJob[s.Job] == p {
					delete(w.byJob, s.Job)
				}
				p.leave()
			}
			w.mu.Unlock()
		}
		w.up.Send(m)
	})
	if err != nil {
		w.log.Error("worker's messages", "job", p.to.Job, "error", err)
	}
}

// leave ends the worker's input, and the worker after 30 s.
func (p *worker) leave() {
	p.once.Do(func() {
		close(p.retire)
		kill := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
		context.AfterFunc(p.ctx, func() { kill.Stop() })
	})
}

// over reports a worker that died with an attempt of its own.
func (w *workers) over(p *worker) {
	w.mu.Lock()
	to, died := p.to, w.byJob[p.to.Job] == p && !w.closed
	if w.byJob[to.Job] == p {
		delete(w.byJob, to.Job)
	}
	w.mu.Unlock()
	if died {
		w.up.Send(control.Failed{To: to, Reason: "the worker process ended: " + p.fault})
	}
}

// Close ends all workers and waits for them.
func (w *workers) Close() {
	w.mu.Lock()
	w.closed = true
	for _, p := range w.byJob {
		p.leave()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// readMessages calls f with each message of r until its end.
func readMessages(r *bufio.Reader, f func(control.Message)) error {
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF || errors.Is(err, os.ErrClosed) {
			return nil // half a message is lost, as the rest is
		}
		if err != nil {
			return err
		}
		m, err := control.Decode(line)
		if err != nil {
			return err
		}
		f(m)
	}
}

// sayings logs what a worker writes, and keeps the line that tells why it died.
type sayings struct {
	log *slog.Logger

	mu   sync.Mutex
	rest []byte
	why  string
}

func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, b...)
	for {
		line, rest, ok := bytes.Cut(s.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		text := string(line)
		s.rest = rest
		for _, begin := range []string{"panic: ", "fatal error: ", "weir: "} {
			if strings.HasPrefix(text, begin) && s.why == "" {
				s.why = text
			}
		}
		s.log.Info("worker says", "line", text)
	}
}

func (s *sayings) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

func cmpFault(why string, err error) string {
	switch {
	case why != "":
		return why
	case err != nil:
		return err.Error()
	}
	return "it exited by itself"
}
