package deltalake

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// checkpointFilesOf lists the files of the checkpoints of a version, heads and parts
// first, then sidecars.
func checkpointFilesOf(t *testing.T, store Store, version int64) (out []string) {
	t.Helper()
	for info, err := range store.List(context.Background(), logDir, "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(info.Path, fmt.Sprintf("%s%020d.checkpoint", logDir, version)) || strings.HasPrefix(info.Path, sidecarDir) {
			out = append(out, info.Path)
		}
	}
	return out
}

// A checkpoint of the newest version that is damaged, or says something else than the
// commits, is replaced; a sound one stays; without the commits its damage is reported.
func TestStreamCheckpointReplaces(t *testing.T) {
	ctx := context.Background()
	edit := func(t *testing.T, store Store, path string, change func([]byte) []byte) {
		t.Helper()
		data, err := store.Get(ctx, path)
		if err == nil {
			err = store.Put(ctx, path, change(bytes.Clone(data)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	blank := func(lo, hi int) func([]byte) []byte {
		return func(b []byte) []byte {
			clear(b[len(b)*lo/100 : len(b)*hi/100])
			return b
		}
	}
	type damage = func(t *testing.T, store Store, files []string, older []string)
	damages := map[string]damage{
		"none": func(*testing.T, Store, []string, []string) {},
		"head cut": func(t *testing.T, store Store, f, _ []string) {
			edit(t, store, f[0], func(b []byte) []byte { return b[:len(b)/2] })
		},
		"pages": func(t *testing.T, store Store, f, _ []string) { edit(t, store, f[len(f)-1], blank(5, 40)) },
		"last file cut": func(t *testing.T, store Store, f, _ []string) {
			edit(t, store, f[len(f)-1], func(b []byte) []byte { return b[:len(b)/3] })
		},
		"file gone": func(t *testing.T, store Store, f, _ []string) {
			if err := store.Delete(ctx, f[len(f)-1]); err != nil {
				t.Fatal(err)
			}
		},
		"other content": func(t *testing.T, store Store, f, older []string) {
			data, err := store.Get(ctx, older[0])
			if err == nil {
				err = store.Put(ctx, f[0], data)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}
	for form, props := range map[string]map[string]string{"classic": {}, "parts": {}, "v2": {"delta.checkpointPolicy": "v2"}, "v2 sidecars": {"delta.checkpointPolicy": "v2"}, "v2 json": {"delta.checkpointPolicy": "v2"}} {
		for what, harm := range damages {
			t.Run(form+"/"+what, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(len(form)), uint64(len(what))))
				clock := &testClock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
				all := map[string]string{"delta.checkpointInterval": "1000", "delta.feature.domainMetadata": "supported"}
				for k, v := range props {
					all[k] = v
				}
				tbl, store := randomLog(t, rng, clock, 14, all)
				o := CheckpointOptions{JSON: form == "v2 json"}
				if form == "v2 sidecars" || form == "v2 json" {
					o.SidecarFiles = 3
				}
				opts := TableOptions{Now: clock.now}
				if err := tbl.WriteCheckpointWith(ctx, tbl.Latest(), o); err != nil {
					t.Fatal(err)
				}
				older := checkpointFilesOf(t, store, tbl.Latest().version)
				appendRows(t, tbl, 5000, 40)
				appendRows(t, tbl, 6000, 40)
				want := tbl.Latest()
				if err := tbl.WriteCheckpointWith(ctx, want, o); err != nil {
					t.Fatal(err)
				}
				files := checkpointFilesOf(t, store, want.version)
				if form == "parts" {
					part := fmt.Sprintf("%s%020d.checkpoint.%010d.%010d.parquet", logDir, want.version, 1, 1)
					data, err := store.Get(ctx, files[0])
					if err == nil {
						err = store.Put(ctx, part, data)
					}
					if err == nil {
						err = store.Delete(ctx, files[0])
					}
					if err != nil {
						t.Fatal(err)
					}
					files = []string{part}
				}
				if o.SidecarFiles > 0 { // of this checkpoint: the last that was written
					for _, f := range older[1:] {
						files = drop(files, f)
					}
				}
				harm(t, store, files, older)
				v, err := StreamCheckpoint(ctx, store, opts, o)
				if err != nil || v != want.version {
					t.Fatalf("version %d: %v", v, err)
				}
				if now := checkpointFilesOf(t, store, want.version); what == "none" && (now[0] != files[0] || len(now) > len(files)+len(older)) {
					t.Errorf("a sound checkpoint was replaced: %v", now)
				}
				again, err := Open(ctx, store, opts)
				if err != nil {
					t.Fatal(err)
				}
				if again.Latest().base != want.version {
					t.Fatalf("version %d was replayed from %d", want.version, again.Latest().base)
				}
				if err := sameState(want, again.Latest()); err != nil {
					t.Fatal(err)
				}
				if p, err := again.Fsck(ctx); err != nil {
					t.Fatal(err)
				} else {
					for _, p := range p {
						if p.Kind != "orphan" {
							t.Errorf("fsck: %v", p)
						}
					}
				}
				// Without the commits there is no other way.
				for v := int64(0); v <= want.version-3; v++ {
					if err := store.Delete(ctx, commitPath(v)); err != nil {
						t.Fatal(err)
					}
				}
				for _, f := range checkpointFilesOf(t, store, want.version-2) {
					if !strings.HasPrefix(f, sidecarDir) {
						if err := store.Delete(ctx, f); err != nil {
							t.Fatal(err)
						}
					}
				}
				if v, err := StreamCheckpoint(ctx, store, opts, o); err != nil || v != want.version {
					t.Fatalf("with the checkpoint alone: version %d: %v", v, err)
				}
				if what != "pages" {
					return
				}
				head := checkpointFilesOf(t, store, want.version)[0]
				edit(t, store, head, blank(5, 40))
				if _, err := StreamCheckpoint(ctx, store, opts, o); err == nil {
					t.Error("the only checkpoint is damaged, and nothing is said")
				}
			})
		}
	}
}

func drop(list []string, x string) (out []string) {
	for _, s := range list {
		if s != x {
			out = append(out, s)
		}
	}
	return out
}
