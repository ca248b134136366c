package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/control"
	"github.com/weirstream/weir/internal/queue"
)

// workerArg is the first argument by which a static pack's executable is told to
// be a worker. It then reads control messages, a JSON object a line, from file
// descriptor 3 and writes its own to 4; the first line is a workerConfig, and a
// budgetLine may stand between messages. The end of its input ends it.
const workerArg = "weir-worker"

// A workerConfig is what a worker must know before its first message.
type workerConfig struct {
	Dir         string            `json:"dir"` // for local state, its own alone
	Checkpoints string            `json:"checkpoints"`
	Settings    map[string]string `json:"settings"`
	StateBudget int64             `json:"state_budget"` // its share at the start
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

	starter *starter

	resize func(stateBudget int64) // tells this process's task manager; may be nil

	mu     sync.Mutex
	byJob  map[dataflow.JobID]*worker
	shares shares
	closed bool
	wg     sync.WaitGroup
}

// A worker is a process that runs one job, or will be one when its executable is
// known; it may turn out that there is none.
type worker struct {
	job    dataflow.JobID
	out    *queue.Queue[control.Message] // to the process
	budget *queue.Queue[int64]           // its share of the state budget, to the process
	ctx    context.Context               // ends with the process
	end    context.CancelFunc
	retire chan struct{}
	once   sync.Once

	to    control.To // newest attempt deployed; workers.mu guards it and what follows
	share int64      // of the state budget
	cmd   *exec.Cmd  // nil until it started, then it stays
}

// linger is how long what a worker wrote is read after its death. Children of its
// own may hold its files open for ever.
const linger = time.Second

// Send routes a message. It does not block: to find a job's executable and to start
// it happens in the background, and the job's messages wait for that alone.
func (w *workers) Send(m control.Message) {
	to := m.(interface{ Target() control.To }).Target()
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.byJob[to.Job]
	d, deploys := m.(control.Deploy)
	if deploys && p == nil && !w.closed {
		p = &worker{job: to.Job, out: queue.New[control.Message](), budget: queue.New[int64](), to: to, retire: make(chan struct{})}
		p.ctx, p.end = context.WithCancel(context.Background())
		w.byJob[to.Job] = p
		w.wg.Go(func() { w.launch(p, d) })
	}
	if deploys {
		w.shares.begin(d)
		w.divide()
	}
	if p == nil {
		w.here.Send(m) // which answers Cancel with Stopped
		return
	}
	if deploys && d.Attempt > p.to.Attempt {
		p.to = to
	}
	p.out.Put(m)
}

// launch makes a process of p, or hands its messages on where the job needs none.
func (w *workers) launch(p *worker, d control.Deploy) {
	exe, err := w.exe(d.Pack)
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	if err == nil && exe != "" && !closed {
		if err = w.start(p, exe, d.To); err == nil {
			return
		}
	}
	w.mu.Lock()
	delete(w.byJob, p.job)
	p.end()
	to := p.to
	closed = w.closed
	if err != nil || closed {
		w.shares.endJob(p.job)
	}
	w.divide()
	for _, m := range p.out.Take() {
		if _, ok := m.(control.Deploy); !ok || err == nil && !closed {
			w.here.Send(m) // which answers Cancel with Stopped
		}
	}
	w.mu.Unlock()
	if err != nil && !closed {
		w.up.Send(control.Failed{To: to, Reason: err.Error()})
	}
}

// start starts the process for an attempt.
func (w *workers) start(p *worker, exe string, to control.To) error {
	config := w.config
	w.mu.Lock()
	config.StateBudget = p.share
	w.mu.Unlock()
	config.Dir = filepath.Join(w.config.Dir, fmt.Sprintf("%s-%d", to.Job, to.Attempt))
	in, toChild, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("local: worker: %w", err)
	}
	fromChild, out, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("local: worker: %w", err), in.Close(), toChild.Close())
	}
	said := &sayings{log: w.log.With("job", to.Job)}
	cmd := exec.Command(exe, workerArg)
	cmd.ExtraFiles = []*os.File{in, out}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = linger
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // a Ctrl-C is ours to pass on
	err = w.starter.start(cmd)
	err = errors.Join(err, in.Close(), out.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("local: worker of %s: %w", to.Job, err), toChild.Close(), fromChild.Close())
	}
	w.log.Info("worker started", "job", to.Job, "attempt", to.Attempt, "pid", cmd.Process.Pid)
	w.mu.Lock()
	p.cmd = cmd
	w.mu.Unlock()
	heard := make(chan struct{})
	w.wg.Go(func() { p.feed(toChild, config) })
	w.wg.Go(p.expire)
	w.wg.Go(func() {
		defer close(heard)
		w.listen(p, fromChild)
	})
	w.wg.Go(func() {
		err := cmd.Wait() // not the end of its messages: a child may have inherited the pipe
		p.end()
		toChild.Close()
		late := time.AfterFunc(linger, func() { fromChild.Close() })
		<-heard
		late.Stop()
		fromChild.Close()
		w.over(p, fault(said.last(), err))
		if err := os.RemoveAll(config.Dir); err != nil {
			w.log.Warn("local state of a worker stays", "job", to.Job, "error", err)
		}
	})
	return nil
}

// feed writes the config, then messages and budgets, until the worker retires or ends.
func (p *worker) feed(to io.WriteCloser, config workerConfig) {
	defer to.Close() // again when the process ended, which is no fault
	enc := json.NewEncoder(to)
	if enc.Encode(config) != nil {
		return
	}
	for {
		for _, bytes := range p.budget.Take() {
			if enc.Encode(budgetLine{bytes}) != nil {
				return
			}
		}
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
		case <-p.budget.Ready():
		case <-p.retire:
			return
		case <-p.ctx.Done():
			return
		}
	}
}

// listen passes on what the worker says until it ends.
func (w *workers) listen(p *worker, from io.Reader) {
	err := readMessages(bufio.NewReader(from), func(m control.Message) {
		if s, ok := m.(control.Stopped); ok {
			w.mu.Lock()
			w.shares.end(s.To)
			if s.To == p.to { // its last attempt: the next one gets a process of its own
				if w.byJob[s.Job] == p {
					delete(w.byJob, s.Job)
				}
				p.leave()
			}
			w.divide()
			w.mu.Unlock()
		}
		w.up.Send(m)
	})
	if err != nil {
		w.log.Error("worker's messages", "job", p.job, "error", err)
		p.cmd.Process.Kill() // nobody would hear the rest; it may be dead already
	}
}

// leave ends the worker's input, and soon the worker.
func (p *worker) leave() { p.once.Do(func() { close(p.retire) }) }

// expire kills a worker that does not end by itself within 30 s of leave.
func (p *worker) expire() {
	select {
	case <-p.retire:
	case <-p.ctx.Done():
		return
	}
	t := time.NewTimer(30 * time.Second)
	defer t.Stop()
	select {
	case <-t.C:
		p.cmd.Process.Kill()
	case <-p.ctx.Done():
	}
}

// over reports a worker that died with an attempt of its own.
func (w *workers) over(p *worker, fault string) {
	w.mu.Lock()
	to, died := p.to, w.byJob[p.job] == p && !w.closed
	if w.byJob[p.job] == p {
		delete(w.byJob, p.job)
		w.shares.endJob(p.job)
		w.divide()
	}
	w.mu.Unlock()
	if died {
		w.up.Send(control.Failed{To: to, Reason: "the worker process ended: " + fault})
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
	w.starter.close()
}

// readMessages calls f with each message of r until its end.
func readMessages(r *bufio.Reader, f func(control.Message)) error {
	return readLines(r, func(line []byte) error {
		m, err := control.Decode(line)
		if err == nil {
			f(m)
		}
		return err
	})
}

// readLines calls f with each line of r until its end or f's error.
func readLines(r *bufio.Reader, f func(line []byte) error) error {
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF || errors.Is(err, os.ErrClosed) {
			return nil // half a message is lost, as the rest is
		}
		if err != nil {
			return err
		}
		if err := f(line); err != nil {
			return err
		}
	}
}
