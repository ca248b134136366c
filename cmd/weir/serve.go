package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/jobmanager/rest"
	"github.com/weirstream/weir/local"
)

// serve starts the REST API and the page and returns what stops them.
func (d *dev) serve() (stop func(), err error) {
	if d.opts.listen == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", d.opts.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w: another weir may be running there; choose another address", d.opts.listen, err)
	}
	s := &http.Server{Handler: rest.Handler(d.cluster.Jobs, runner{d.cluster, filepath.Join(d.opts.dir, "packs")}, metricsHandler(d.cluster.Jobs)), ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(l)
	d.out.linef("page and REST http://%s   kafka %s   data %s", l.Addr(), d.brokers, d.opts.dir)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
	}, nil
}

// runner opens packs for the REST API. An upload lasts until it is run once, taken
// or refused; the next start removes those that never were.
type runner struct {
	cluster *local.Cluster
	dir     string
}

func (r runner) Upload(_ context.Context, body io.Reader) (path string, err error) {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(r.dir, local.UploadPattern)
	if err != nil {
		return "", err
	}
	if _, err = io.Copy(f, body); err != nil {
		return "", errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f.Name(), f.Close()
}

func (r runner) Run(ctx context.Context, q rest.RunRequest) (dataflow.JobID, error) {
	if ours, _ := filepath.Match(local.UploadPattern, filepath.Base(q.Pack)); ours && filepath.Dir(q.Pack) == filepath.Clean(r.dir) {
		defer os.Remove(q.Pack) // the cluster keeps a copy under the pack's checksum
	}
	return r.cluster.Run(ctx, local.RunRequest{Pack: q.Pack, Name: q.Name, Params: q.Params, Parallelism: q.Parallelism,
		KeyGroups: q.KeyGroups, Options: q.Options, Restore: q.Restore, SkipState: q.SkipState, LoseOutput: q.LoseOutput})
}
