package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weirstream/weir/examples/retail/load"
)

// startBroker starts the embedded broker in a child process, unless there is a
// Kafka to use, and returns what stops it. The child dies with this process.
func (d *dev) startBroker(ctx context.Context) (stop func() error, err error) {
	if d.opts.broker != "" {
		d.brokers = d.opts.broker
		return func() error { return nil }, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(d.opts.dir, "broker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "broker", "--listen", d.opts.brokerListen, "--dir", filepath.Join(d.opts.dir, "broker"))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true} // a Ctrl-C is ours to pass on
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded broker: %w", err), log.Close())
	}
	stop = func() error {
		err := cmd.Process.Signal(syscall.SIGTERM)
		werr := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(werr, &exit) {
			werr = nil // it was told to
		}
		return errors.Join(err, werr, log.Close())
	}
	line := make(chan string, 1)
	go func() {
		s := bufio.NewScanner(out)
		if s.Scan() {
			line <- s.Text()
		}
		close(line)
	}()
	select {
	case addr := <-line:
		if addr == "" {
			said, _ := os.ReadFile(log.Name())
			return nil, errors.Join(fmt.Errorf("the embedded broker did not start: %s", strings.TrimSpace(string(said))), stop())
		}
		d.brokers = addr
		return stop, nil
	case <-time.After(30 * time.Second):
		return nil, errors.Join(errors.New("the embedded broker was not ready within 30s"), stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), stop())
	}
}

// startLoader begins to write the retail records into their topics, unless they
// hold records already.
func (d *dev) startLoader(ctx context.Context) error {
	opts := load.Options{Brokers: strings.Split(d.brokers, ","), Limit: d.opts.limit}
	if err := load.CreateTopics(ctx, opts); err != nil {
		return err
	}
	held, err := load.Held(ctx, opts)
	if err != nil {
		return err
	}
	if n := held.Checkouts.Load() + held.Carts.Load(); n > 0 {
		d.counts.Checkouts.Store(held.Checkouts.Load())
		d.counts.Carts.Store(held.Carts.Load())
		d.out.linef("the topics hold %d records already: nothing is loaded", n)
		return nil
	}
	lines, label, err := load.Lines(ctx, cacheDir())
	if err != nil {
		return err
	}
	d.label = label
	d.out.linef("loading %s", label)
	d.loaded = make(chan error, 1)
	go func() { d.loaded <- load.Run(ctx, opts, lines, &d.counts) }()
	return nil
}

// cacheDir is where downloads are kept between runs.
func cacheDir() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "weir")
	}
	return filepath.Join(os.TempDir(), "weir-cache")
}
