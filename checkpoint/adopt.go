package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/objstore"
)

// A Copying is how far an Adopt has come.
type Copying struct{ Done, Objects int }

// Adopt copies every object that m, which ref names, holds under another owner's
// prefix to that of epoch e of pipeline p, and publishes a manifest there that names
// the copies alone: what becomes of m no longer matters. Prepared output is left out,
// for its owner commits it: the job manager refuses what a cluster that is gone is not
// known to have committed, unless that is allowed to be lost. It may be called again, and then copies again; progress is
// told before each object and at the end.
func (o Objects) Adopt(ctx context.Context, m *Manifest, ref Ref, p dataflow.Pipeline, e dataflow.Epoch, progress func(Copying)) (Ref, *Manifest, error) {
	own := *m
	own.Pipeline, own.Epoch, own.Kind = p, e, Adopted
	own.Origin = &Origin{Pipeline: m.Pipeline, Epoch: m.Committed(), Key: ref.Key}
	own.Parts = slices.Clone(m.Parts)
	sources := slices.Sorted(maps.Keys(m.Objects()))
	at := map[string]string{}
	for i, src := range sources {
		progress(Copying{i, len(sources)})
		at[src] = objstore.JoinKey(EpochDir(p, e), fmt.Sprintf("adopted-%06d.data", i))
		if err := o.copy(ctx, at[src], src); err != nil {
			return Ref{}, nil, fmt.Errorf("checkpoint: copy of %s, which %s needs: %w", src, ref.Key, err)
		}
	}
	progress(Copying{len(sources), len(sources)})
	for i := range own.Parts {
		part := &own.Parts[i]
		part.Commits, part.Files = nil, slices.Clone(part.Files)
		for j := range part.Files {
			if f := &part.Files[j]; f.Object != "" {
				f.Object = at[f.Object]
			}
		}
	}
	got, err := o.Publish(ctx, &own)
	return got, &own, err
}

// copy copies one object, with patience.
func (o Objects) copy(ctx context.Context, dst, src string) error {
	var last error
	for i := range tries {
		if i > 0 {
			if err := o.pause(ctx, i); err != nil {
				return errors.Join(err, last)
			}
		}
		last = o.Store.Copy(ctx, dst, src)
		if last == nil || !objstore.Retryable(last) && !errors.Is(last, objstore.ErrAmbiguous) {
			return last
		}
	}
	return last
}
