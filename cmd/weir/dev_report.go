package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// devReport is DEMO_DIR/report.json.
type devReport struct {
	Seconds    float64                 `json:"seconds"` // from the start of the process to the last finished epoch
	Input      string                  `json:"input,omitempty"`
	Topics     map[string]topicReport  `json:"topics"`
	SinkTopics map[string]topicReport  `json:"sink_topics"`
	Tables     map[string]*tableReport `json:"tables"`
}

type topicReport struct {
	Records int64 `json:"records"`
}

type tableReport struct {
	Path    string   `json:"path"` // relative to the folder of the report
	Rows    int64    `json:"rows"`
	Version int64    `json:"version"`
	Bytes   int64    `json:"bytes"`
	Files   int      `json:"files"`
	Key     []string `json:"key"` // columns that identify a row
}

func (d *dev) counted() string {
	t := d.counts.Topics()
	return fmt.Sprintf("%d checkout events, %d cart updates", t["checkout_events"], t["cart_updates"])
}

// allRead reports that every source has read what the topics hold: nothing waits,
// and as many records left the sources as were loaded. A source that cannot tell
// what waits is read when its job ends by itself.
func (d *dev) allRead(infos []jobmanager.Info) bool {
	held := d.counts.Topics()
	seen := false
	for _, i := range infos {
		if i.Phase.Terminal() {
			continue
		}
		if len(i.Operators) == 0 || i.Phase != "running" {
			return false
		}
		for _, o := range i.Operators {
			op := i.Plan.Graph.Operator(o.Operator)
			if op == nil || op.Kind != dataflow.KindSource {
				continue
			}
			seen = true
			want, known := held[op.Connector.Options["topic"]]
			if o.Lag > 0 || o.Lag < 0 && !known || known && i.Restarts == 0 && i.Attempt == 1 && o.Out < want {
				return false
			}
		}
	}
	return seen || len(infos) > 0 // all have ended
}

// drain ends every live job with all its output committed.
func (d *dev) drain(ctx context.Context, infos []jobmanager.Info) error {
	d.out.linef("all input is read: draining")
	errs := make([]error, len(infos))
	var wg sync.WaitGroup
	for n, i := range infos {
		if !i.Phase.Terminal() {
			wg.Go(func() {
				if _, err := d.cluster.Jobs.Stop(ctx, i.ID, true); err != nil && !d.ended(i.ID) {
					errs[n] = err
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ended reports that a job came to its own end.
func (d *dev) ended(id dataflow.JobID) bool {
	return slices.ContainsFunc(d.cluster.Jobs.Jobs(), func(i jobmanager.Info) bool { return i.ID == id && i.Phase == fsm.Finished })
}

// report writes report.json and says what the tables hold.
func (d *dev) report(ctx context.Context) error {
	r := devReport{Seconds: time.Since(d.started).Seconds(), Input: d.label, Topics: map[string]topicReport{}, SinkTopics: map[string]topicReport{}, Tables: map[string]*tableReport{}}
	for name, n := range d.counts.Topics() {
		r.Topics[name] = topicReport{n}
	}
	infos := d.cluster.Jobs.Jobs()
	for _, i := range infos {
		for _, op := range i.Plan.Graph.Operators {
			if op.Kind != dataflow.KindSink {
				continue
			}
			switch op.Connector.Kind {
			case "delta":
				t, err := d.table(ctx, op.Connector.Options["path"])
				if err != nil {
					return err
				}
				r.Tables[op.Connector.Options["path"]] = t
			case "kafka":
				n, err := d.records(ctx, op.Connector.Options["topic"])
				if err != nil {
					return err
				}
				r.SinkTopics[op.Connector.Options["topic"]] = topicReport{n}
			}
		}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(d.opts.dir, "report.json")
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return d.sayTables(ctx, r, path)
}

// location returns where a table of the lake is: a path, or a URI with the lake's
// options.
func (d *dev) location(name string) string {
	switch {
	case d.opts.lake == "":
		return filepath.Join(d.opts.dir, "lake", name)
	case strings.Contains(d.opts.lake, "://"):
		at, options, ok := strings.Cut(d.opts.lake, "?")
		if ok {
			options = "?" + options
		}
		return strings.TrimSuffix(at, "/") + "/" + name + options
	}
	return filepath.Join(d.opts.lake, name)
}

// shown is a location for people: below --dir without it, and never with options,
// which may hold secrets.
func (d *dev) shown(location string) string {
	if strings.Contains(location, "://") {
		at, _, _ := strings.Cut(location, "?")
		return at
	}
	if rel, err := filepath.Rel(d.opts.dir, location); err == nil {
		return rel
	}
	return location
}

func (d *dev) table(ctx context.Context, path string) (*tableReport, error) {
	at := d.location(path)
	t, err := openTable(ctx, at)
	if err != nil {
		return nil, err
	}
	s := t.Latest()
	rows, ok := s.NumRows()
	if !ok {
		return nil, fmt.Errorf("table %s has files without statistics", path)
	}
	return &tableReport{Path: d.shown(at), Rows: rows, Version: s.Version(), Bytes: s.SizeBytes(), Files: s.NumFiles(), Key: tableKeys[path]}, nil
}

// tableKeys says which columns identify a row of the retail tables.
var tableKeys = map[string][]string{
	"bronze/checkout_events": {"topic", "partition", "offset"},
	"bronze/cart_updates":    {"topic", "partition", "offset"},
	"gold/baskets":           {"household_id", "basket_id", "opened"},
	"gold/revenue":           {"category", "window_start", "lines"},
	"gold/revenue_late":      {"household_id", "basket_id", "product_id", "at"},
}
