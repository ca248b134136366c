package deltalake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// CompactOptions says how far a Compact goes. A zero field means its default.
type CompactOptions struct {
	TargetBytes int64 // size that files grow to; delta.targetFileSize or 128 MiB
	MinFiles    int   // of like size that a partition must hold before they are merged; 10
	MaxBytes    int64 // of the files merged in one commit, one merge at least; 1 GiB
	MaxFiles    int   // files merged in one commit, one merge at least; 2,000
	File        FileOptions
	// Pace is called between batches of rows and may wait, so that a Compact in the
	// background takes no more of the CPU than it should; an error ends the Compact.
	// nil: full speed.
	Pace func(ctx context.Context) error
}

func (o CompactOptions) filled(m *Metadata) (CompactOptions, error) {
	o.TargetBytes = cmp.Or(o.TargetBytes, targetBytes(m))
	o.MinFiles = cmp.Or(o.MinFiles, 10)
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<30)
	o.MaxFiles = cmp.Or(o.MaxFiles, 2000)
	var errs []error
	if o.TargetBytes < 0 || o.MaxBytes < 0 || o.MaxFiles < 0 {
		errs = append(errs, fmt.Errorf("deltalake: compact: TargetBytes %d, MaxBytes %d and MaxFiles %d must not be negative", o.TargetBytes, o.MaxBytes, o.MaxFiles))
	}
	if o.MinFiles < 2 {
		errs = append(errs, fmt.Errorf("deltalake: compact: MinFiles %d is below 2", o.MinFiles))
	}
	return o, errors.Join(errs...)
}

// Compact is the step of an ongoing compaction beside writers: it merges small
// files of like size, partition by partition, in one commit without row changes,
// and does nothing where there are few. A file is merged again only with at least as
// many rows as it has, so that a row is rewritten about log2(its final file's
// rows / its first file's) times, and a partition is left with at most MinFiles - 1
// files of each of about as many sizes.
//
// It yields to others: a *ConflictError says that they changed the same files; what
// it wrote is deleted and nothing is lost. Metrics.Committed tells whether there was
// something to do; there may be more.
func (t *Table) Compact(ctx context.Context, o CompactOptions) (*Metrics, error) {
	return t.retriedTimes(ctx, 0, func(s *Snapshot) (*Commit, *changes, error) {
		d := &changes{}
		o, err := o.filled(s.metadata)
		if err != nil {
			return nil, d, err
		}
		bins := s.likeSized(o)
		if len(bins) == 0 {
			return nil, d, nil
		}
		if err := t.compactBins(ctx, s, bins, OptimizeOptions{TargetBytes: o.TargetBytes, File: o.File, pace: o.Pace}, d); err != nil {
			return nil, d, err
		}
		params := map[string]string{"predicate": "[]", "zOrderBy": "[]", "auto": "true"}
		return &Commit{Operation: "OPTIMIZE", Parameters: params, rearranges: true}, d, nil
	})
}

// likeSized returns what one Compact merges: the fullest partitions first.
func (s *Snapshot) likeSized(o CompactOptions) [][]*AddFile {
	groups := map[string][]*AddFile{}
	for a := range s.files.all() {
		if a.Size < o.TargetBytes*3/4 && a.ClusteringProvider == "" {
			k := partitionKey(a.PartitionValues)
			groups[k] = append(groups[k], a)
		}
	}
	type partition struct {
		key   string
		files int
		bins  [][]*AddFile
	}
	var parts []partition
	for k, files := range groups {
		if len(files) < 2 {
			continue
		}
		if bins := runsOfLikeSize(files, o); len(bins) > 0 {
			parts = append(parts, partition{k, len(files), bins})
		}
	}
	slices.SortFunc(parts, func(a, b partition) int { return cmp.Or(cmp.Compare(b.files, a.files), cmp.Compare(a.key, b.key)) })
	var out [][]*AddFile
	bytes, files := int64(0), 0
	for _, p := range parts {
		for _, bin := range p.bins {
			size := int64(0)
			for _, a := range bin {
				size += a.Size
			}
			if len(out) > 0 && (bytes+size > o.MaxBytes || files+len(bin) > o.MaxFiles) {
				return out
			}
			out = append(out, bin)
			bytes, files = bytes+size, files+len(bin)
		}
	}
	return out
}

// runsOfLikeSize cuts the files of a partition, smallest first, where one is larger
// than all before it since the last cut together, or the target is reached, and
// returns the runs that are worth a merge.
func runsOfLikeSize(files []*AddFile, o CompactOptions) (bins [][]*AddFile) {
	weights := make(map[*AddFile]int64, len(files))
	for _, a := range files {
		weights[a] = weight(a)
	}
	slices.SortFunc(files, func(a, b *AddFile) int {
		return cmp.Or(cmp.Compare(weights[a], weights[b]), cmp.Compare(a.Size, b.Size), cmp.Compare(a.Path, b.Path))
	})
	var run []*AddFile
	sum, bytes := int64(0), int64(0)
	cut := func(full bool) { // full: the next does not fit, and is no larger than the run
		if len(run) >= o.MinFiles || len(run) > 1 && (full || bytes >= o.TargetBytes*3/4) {
			bins = append(bins, run)
		}
		run, sum, bytes = nil, 0, 0
	}
	for _, a := range files {
		switch {
		case len(run) == 0:
		case weights[a] > sum && (len(run) > 1 || weights[a] > 2*sum):
			cut(false)
		case bytes+a.Size > o.TargetBytes || len(run) >= o.MaxFiles:
			cut(true)
		}
		run, sum, bytes = append(run, a), sum+weights[a], bytes+a.Size
	}
	cut(false)
	return bins
}

// weight is what a file counts when sizes are compared: its rows, for much of a small
// file is not rows.
func weight(a *AddFile) int64 {
	if n, ok := a.NumRecords(); ok {
		return max(n, 1)
	}
	return max(a.Size, 1)
}

// compactBins writes each bin anew and notes the changes in d.
func (t *Table) compactBins(ctx context.Context, s *Snapshot, bins [][]*AddFile, o OptimizeOptions, d *changes) error {
	now := t.opts.Now().UnixMilli()
	for _, bin := range bins {
		adds, err := t.compact(ctx, s, bin, o)
		if err != nil {
			return errors.Join(err, t.drop(ctx, d.adds))
		}
		for _, a := range adds {
			a.DataChange = false
		}
		d.adds = append(d.adds, adds...)
		d.m.FilesAdded += len(adds)
		for _, a := range bin {
			r := a.remove(now, false)
			d.removes = append(d.removes, &r)
			d.m.FilesRemoved++
			d.m.BytesRemoved += a.Size
		}
	}
	return nil
}

// autoCompact runs Compact where delta.autoOptimize.autoCompact asks for it and a
// partition has gathered many small files; every tenth version is looked at.
func (t *Table) autoCompact(ctx context.Context, s *Snapshot) error {
	if t.opts.NoAutoCompact || s.property("delta.autoOptimize.autoCompact", "") != "true" || s.version%10 != 0 {
		return nil
	}
	_, err := t.Compact(ctx, CompactOptions{MinFiles: 50})
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		return nil // another writer was there; the next round tries again
	}
	return err
}
