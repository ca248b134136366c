package faults

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// built is what all tests of this binary share: weir and the pack of the job.
var built = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "weir-faults-"); err != nil {
		return "", err
	}
	args := []string{"build", "-trimpath", "-o", filepath.Join(dir, "weir")}
	if os.Getenv("WEIR_FAULTS_RACE") != "" {
		args = append(args, "-race")
	}
	if _, err := command("", "go", append(args, "../../cmd/weir")...); err != nil {
		return dir, err
	}
	_, err = command("", filepath.Join(dir, "weir"), "build", "--name", pipeline, "-o", filepath.Join(dir, pipeline+".wj"), "./job")
	return dir, err
})

const (
	pipeline   = "faults"
	partitions = 4
)

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := built(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// command runs a program to its end and returns what it wrote to its output; the error
// holds all that it said.
func command(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-trimpath")
	var said bytes.Buffer // what is waited for is told there, if it takes long
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		out = append(out, said.Bytes()...)
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// scriptOutput runs a script of deploy/real.
func scriptOutput(name string, args ...string) (string, error) {
	cmd := exec.Command("../../deploy/real/"+name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// A world is a broker in its own process, a folder for weir, and what is known of
// both.
type world struct {
	t       *testing.T
	bin     string // folder of weir and the packs
	dir     string // of weir
	brokers string
	env     []string // of every weir
	flags   []string // of every weir dev
	keys    int64
	feed    *feed
	sent    func() int64 // how much was put into topics
	seen    func() int64 // how much of it has come out, for good
	jobs    []string     // names of the pipelines, whose packs lie in bin
	stop    func()       // ends the broker in order; nothing may be open in it
	at      string       // folder or URL of the table
	folder  string       // where a server keeps it, if at is a URL

	patient time.Duration // for anything that must happen; 2 minutes
	settled func() bool   // what torture waits for before it lets weir finish; nil: nothing
	sink    *tally        // what a read_committed consumer sees
	log     *os.File
}

func newWorld(t *testing.T, keys int64) *world {
	t.Helper()
	return openWorld(t, keys, scratch(t))
}

// openWorld starts a broker over what dir holds, if anything.
func openWorld(t *testing.T, keys int64, dir string) *world {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, bin: bin, dir: filepath.Join(dir, "weir"), keys: keys}
	w.at = filepath.Join(w.dir, "lake", "gold", "out")
	w.brokers = w.startBroker()
	w.open()
	return w
}

func (w *world) patience() time.Duration { return cmp.Or(w.patient, 2*time.Minute) }

// open makes the folder and begins to read the topic out.
func (w *world) open() {
	w.t.Helper()
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if w.log, err = os.OpenFile(filepath.Join(w.dir, "weir.log"), os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.log.Close() })
	w.jobs = []string{pipeline}
	w.sink = consume(w.t, w.brokers, "out", w.keys)
	w.sent, w.seen = func() int64 { return w.feed.sent.Load() }, w.sink.distinct
}

// scratch is a folder that a failed test leaves behind if WEIR_FAULTS_DIR says where.
func scratch(t *testing.T) string {
	t.Helper()
	base := os.Getenv("WEIR_FAULTS_DIR")
	if base == "" {
		return t.TempDir()
	}
	dir := filepath.Join(base, t.Name())
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startBroker starts the broker, which ends with the test.
func (w *world) startBroker() string {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(w.bin, "weir"), "broker", "--dir", filepath.Join(filepath.Dir(w.dir), "broker"),
		"--listen", "127.0.0.1:0", "--topic", "in:"+strconv.Itoa(partitions), "--topic", "out:"+strconv.Itoa(partitions))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.stop = sync.OnceFunc(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	w.t.Cleanup(w.stop)
	line := bufio.NewScanner(out)
	if !line.Scan() {
		w.t.Fatalf("the broker did not start: %s", said.String())
	}
	return line.Text()
}

// A run is one life of a weir process.
type run struct {
	w     *world
	cmd   *exec.Cmd
	out   string // file of what it said
	from  int64  // where its part of weir.log begins
	ended chan struct{}
	death error
}

// start starts weir dev with its jobs. It dies with the test.
func (w *world) start(env ...string) *run {
	w.t.Helper()
	var packs []string
	for _, j := range w.jobs {
		packs = append(packs, filepath.Join(w.bin, j+".wj"))
	}
	return w.startWith(packs, env...)
}

// startWith starts weir dev with some packs, or none.
func (w *world) startWith(packs []string, env ...string) *run {
	w.t.Helper()
	end, err := w.log.Seek(0, 2)
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := os.CreateTemp(filepath.Dir(w.dir), "out-*.txt")
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.Close()
	args := append([]string{"dev", "--dir", w.dir, "--kafka", w.brokers, "--listen", "127.0.0.1:0", "--checkpoint-interval", "500ms",
		"--checkpoint-timeout", "3s", "-p", "2"}, w.flags...)
	cmd := exec.Command(filepath.Join(w.bin, "weir"), append(args, packs...)...)
	cmd.Env = append(append(os.Environ(), w.env...), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	r := &run{w: w, cmd: cmd, out: out.Name(), from: end, ended: make(chan struct{})}
	go func() { r.death = cmd.Wait(); close(r.ended) }()
	w.t.Cleanup(func() {
		if said := r.said(); strings.Contains(said, "DATA RACE") {
			w.t.Errorf("weir has a data race: %s", said)
		}
	})
	w.t.Cleanup(r.kill)
	return r
}

// kill ends the process as a crash does and waits until it is gone.
func (r *run) kill() {
	r.cmd.Process.Kill()
	<-r.ended
}

// interrupt is a user's Ctrl-C; it waits for the orderly end.
func (r *run) interrupt() {
	r.w.t.Helper()
	r.cmd.Process.Signal(os.Interrupt)
	select {
	case <-r.ended:
	case <-time.After(r.w.patience()):
		r.w.fatalf(r, "weir did not stop within %v of an interrupt", r.w.patience())
	}
	if r.death != nil {
		r.w.fatalf(r, "weir ended with %v after an interrupt", r.death)
	}
}

// said is what this life wrote to the terminal.
func (r *run) said() string {
	b, _ := os.ReadFile(r.out)
	return string(b)
}

// logged is what this life wrote to weir.log.
func (r *run) logged() string {
	b, err := os.ReadFile(filepath.Join(r.w.dir, "weir.log"))
	if err != nil || int64(len(b)) < r.from {
		return ""
	}
	return string(b[r.from:])
}

var (
	completeLine = regexp.MustCompile(`msg="checkpoint complete".* epoch=(\d+)`)
	abortedLine  = regexp.MustCompile(`msg="checkpoint aborted".* epoch=(\d+)`)
	restLine     = regexp.MustCompile(`REST http://(\S+)`)
)

// epochs returns how many epochs this life completed and aborted, and the last
// complete one.
func (r *run) epochs() (complete, aborted int, last int64) {
	log := r.logged()
	for _, m := range completeLine.FindAllStringSubmatch(log, -1) {
		complete++
		last, _ = strconv.ParseInt(m[1], 10, 64)
	}
	return complete, len(abortedLine.FindAllString(log, -1)), last
}

// until waits for something that must happen while the process lives.
func (r *run) until(what string, is func() bool) {
	r.w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(r.w.patience())
	for !is() {
		select {
		case <-tick.C:
		case <-r.ended:
			if is() {
				return
			}
			r.w.fatalf(r, "weir ended (%v) before %s", r.death, what)
		case <-late:
			r.w.fatalf(r, "waited %v in vain until %s", r.w.patience(), what)
		}
	}
}

// rest returns the address of the REST API.
func (r *run) rest() (addr string) {
	r.until("its address is known", func() bool {
		m := restLine.FindStringSubmatch(r.said())
		if m != nil {
			addr = m[1]
		}
		return m != nil
	})
	return addr
}

// weir runs a client command against this life.
func (r *run) weir(args ...string) (string, error) {
	return command("", filepath.Join(r.w.bin, "weir"), append(args, "--job-manager", r.rest())...)
}

func (w *world) fatalf(r *run, format string, args ...any) {
	w.t.Helper()
	log := strings.Split(r.logged(), "\n")
	w.t.Fatalf("%s\nit said: %s\nlast lines of its log:\n%s", fmt.Sprintf(format, args...), r.said(), strings.Join(log[max(0, len(log)-40):], "\n"))
}

// A feed writes numbers to the topic in at a steady rate.
type feed struct {
	sent atomic.Int64 // ids below it were handed to the broker
	stop context.CancelFunc
	done chan error
}

// startFeed begins to write rate numbers a second, at most limit (0: no limit).
func (w *world) startFeed(rate int, limit int64) {
	w.t.Helper()
	w.feedFrom(0, rate, limit)
}

// feedFrom is startFeed with a first number.
func (w *world) feedFrom(first int64, rate int, limit int64) {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.DefaultProduceTopic("in"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &feed{stop: stop, done: make(chan error, 1)}
	w.feed = f
	w.t.Cleanup(func() { stop(); cl.Close() })
	go func() {
		var failed atomic.Pointer[error]
		const every = 20 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		start, id := time.Now(), first
		for ctx.Err() == nil && (limit == 0 || id < limit) {
			due := first + int64(float64(rate)*time.Since(start).Seconds())
			if limit != 0 {
				due = min(due, limit)
			}
			for ; id < due; id++ {
				key := id % w.keys
				cl.Produce(context.Background(), &kgo.Record{Partition: int32(key % partitions), Value: fmt.Appendf(nil, `{"id":%d,"key":%d}`, id, key)}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.Store(&err)
					}
				})
			}
			f.sent.Store(id)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		err := cl.Flush(context.Background())
		if p := failed.Load(); p != nil {
			err = errors.Join(err, *p)
		}
		f.done <- err
	}()
}

// finish ends the feed and returns how many numbers it wrote.
func (w *world) finishFeed(now bool) int64 {
	w.t.Helper()
	if now {
		w.feed.stop()
	}
	if err := <-w.feed.done; err != nil {
		w.t.Fatalf("the input could not be written: %v", err)
	}
	return w.feed.sent.Load()
}
