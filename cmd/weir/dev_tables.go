package main

import (
	"encoding/json"

	"context"
	"errors"
	"fmt"
	"github.com/weirstream/weir/deltalake"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// records counts what a read_committed consumer finds in a topic.
func (d *dev) records(ctx context.Context, topic string) (n int64, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(d.brokers, ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("topic %s: %w", topic, err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for len(left) > 0 {
		f := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return n, fmt.Errorf("topic %s: its committed records were not read within 30s: %w", topic, ctx.Err())
		}
		for _, e := range f.Errors() {
			err = errors.Join(err, e.Err)
		}
		if err != nil {
			return n, fmt.Errorf("topic %s: %w", topic, err)
		}
		f.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				n++
			}
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return n, nil
}

// sayTables prints what a newcomer should see of the tables.
func (d *dev) sayTables(ctx context.Context, r devReport, path string) error {
	d.out.linef("")
	for _, name := range slices.Sorted(maps.Keys(r.Tables)) {
		t := r.Tables[name]
		d.out.linef("%-24s %9d rows  version %-4d %7.1f MB in %d files", name, t.Rows, t.Version, float64(t.Bytes)/1e6, t.Files)
		sample, err := d.sample(ctx, name)
		if err != nil {
			return err
		}
		d.out.linef("  %s", sample)
	}
	for _, name := range slices.Sorted(maps.Keys(r.SinkTopics)) {
		d.out.linef("%-24s %9d records (topic, read committed)", name, r.SinkTopics[name].Records)
	}
	d.out.linef("")
	d.out.linef("%.1f s from start to the last committed row; figures in %s", r.Seconds, path)
	if names := slices.Sorted(maps.Keys(r.Tables)); len(names) > 0 {
		at, options, _ := strings.Cut(d.location(names[0]), "?")
		if options != "" {
			options = "?..."
		}
		d.out.linef("more: bin/weir table show %s%s", at, options)
	}
	return nil
}

// sample returns one row of a table as JSON.
func (d *dev) sample(ctx context.Context, name string) (string, error) {
	t, err := openTable(ctx, d.location(name))
	if err != nil {
		return "", err
	}
	for row, err := range t.Latest().Rows(ctx, deltalake.ScanOptions{BatchRows: 1, Parallelism: 1}) {
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(row)
		return string(b), err
	}
	return "(no rows)", nil
}
