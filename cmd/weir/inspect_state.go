package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
)

// A stateRow is one row, tombstone or drop of a sorted file, as
// docs/format/rows.md describes it.
type stateRow struct {
	Group int    `json:"group"`
	State string `json:"state"` // OPERATOR/NAME by the manifest, else the number
	Pane  string `json:"pane,omitempty"`
	Hash  string `json:"hash,omitempty"`
	Key   string `json:"key"`             // quoted where it is text, else hex
	Op    string `json:"op"`              // row, tombstone or drop
	Value string `json:"value,omitempty"` // hex; the end of a drop
}

// A stateFile is a sorted file and where its bytes are.
type stateFile struct {
	name   string
	bytes  []byte
	states map[dataflow.StateID]dataflow.StateInfo // of the manifest; may be nil
}

// inspectState prints the rows of a sorted file, of all .sst files of a folder, or
// of the checkpoint whose folder it is.
func inspectState(w io.Writer, path string, asJSON bool) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if filepath.Base(path) == "manifest.json" {
		return inspectState(w, filepath.Dir(path), asJSON)
	}
	if !st.IsDir() {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return printState(w, stateFile{name: path, bytes: b}, asJSON)
	}
	if b, err := os.ReadFile(filepath.Join(path, "manifest.json")); err == nil {
		return inspectParts(w, path, b, asJSON)
	}
	files, err := filepath.Glob(filepath.Join(path, "*.sst"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s holds neither a manifest.json nor .sst files: name the folder of a checkpoint, or a sorted file", path)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := printState(w, stateFile{name: filepath.Base(f), bytes: b}, asJSON); err != nil {
			return err
		}
	}
	return nil
}

// inspectParts prints the files of a checkpoint in the folder dir, which may lie in
// the folders of older epochs beside it.
func inspectParts(w io.Writer, dir string, manifest []byte, asJSON bool) error {
	m, err := checkpoint.Decode(manifest)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	root := strings.TrimSuffix(abs, filepath.FromSlash(checkpoint.EpochDir(m.Pipeline, m.Epoch)))
	states := map[dataflow.StateID]dataflow.StateInfo{}
	for _, s := range m.States {
		states[s.ID] = s
	}
	for _, p := range m.Parts {
		for _, f := range p.Files {
			object := filepath.Join(root, filepath.FromSlash(f.Object))
			b, err := slice(object, f.Offset, f.Length)
			if err != nil {
				return fmt.Errorf("part of %s: %w", p.Subtask, err)
			}
			if sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)); sum != f.CRC32C {
				return fmt.Errorf("part of %s: %s at %d: checksum %08x, the manifest says %08x: the object is damaged", p.Subtask, object, f.Offset, sum, f.CRC32C)
			}
			name := fmt.Sprintf("subtask %s, epoch %d, seq %d, level %d, groups %s", p.Subtask, f.Epoch, f.Seq, f.Level, f.Groups)
			if err := printState(w, stateFile{name: name, bytes: b, states: states}, asJSON); err != nil {
				return err
			}
		}
	}
	return nil
}

func slice(path string, offset, length int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || offset < 0 || length < 0 || offset+length > st.Size() {
		return nil, errors.Join(err, fmt.Errorf("%s has no %d bytes at %d: the object is cut", path, length, offset))
	}
	b := make([]byte, length)
	_, err = f.ReadAt(b, offset)
	return b, err
}

// printState prints one sorted file.
func printState(w io.Writer, f stateFile, asJSON bool) error {
	enc, headed := json.NewEncoder(w), asJSON
	head := func() {
		if !headed {
			fmt.Fprintf(w, "%s: %d bytes\n", f.name, len(f.bytes))
			headed = true
		}
	}
	err := f.rows(func(r stateRow) error {
		if asJSON {
			return enc.Encode(r)
		}
		head()
		if r.Op == "drop" {
			_, err := fmt.Fprintf(w, "  drop %s %s\n", r.Key, r.Value)
			return err
		}
		pane := ""
		if r.Pane != "" {
			pane = "  pane " + r.Pane
		}
		_, err := fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  group %d  state %s%s  hash %s  %s  key %s  %s", r.Group, r.State, pane, r.Hash, r.Op, r.Key, r.Value), " "))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s is not a sorted file of this weir: %w", f.name, err)
	}
	head()
	return nil
}

// rows calls each with what the file holds, drops first.
func (f stateFile) rows(each func(stateRow) error) (err error) {
	defer func() {
		if p := recover(); p != nil { // Pebble trusts its blocks
			err = fmt.Errorf("it is damaged: %v", p)
		}
	}()
	mem := vfs.NewMem()
	if err := writeFile(mem, "f", f.bytes); err != nil {
		return err
	}
	file, err := mem.Open("f")
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	ctx := context.Background()
	r, err := sstable.NewReader(ctx, readable, sstable.ReaderOptions{})
	if err != nil {
		return errors.Join(oneLine(err), readable.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := f.drops(ctx, r, each); err != nil {
		return oneLine(err)
	}
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return oneLine(err)
	}
	defer func() { err = cmp.Or(err, oneLine(it.Close())) }() // which repeats what the iterator met
	for kv := it.First(); kv != nil; kv = it.Next() {
		row := f.row(kv.K.UserKey)
		row.Op = "tombstone"
		if kv.K.Kind() == pebble.InternalKeyKindSet {
			v, _, err := kv.Value(nil)
			if err != nil {
				return oneLine(err)
			}
			row.Op, row.Value = "row", hex.EncodeToString(v)
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return oneLine(it.Error())
}

func (f stateFile) drops(ctx context.Context, r *sstable.Reader, each func(stateRow) error) error {
	it, err := r.NewRawRangeDelIter(ctx, sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return err
	}
	defer it.Close()
	span, err := it.First()
	for ; span != nil && err == nil; span, err = it.Next() {
		if err := each(stateRow{State: "*", Op: "drop", Key: hex.EncodeToString(span.Start), Value: "until " + hex.EncodeToString(span.End)}); err != nil {
			return err
		}
	}
	return err
}

// row takes a row key apart, by the manifest where there is one.
func (f stateFile) row(key []byte) stateRow {
	if len(key) < 4 {
		return stateRow{State: "?", Key: hex.EncodeToString(key)}
	}
	_, id := dataflow.RowGroup(key)
	info, known := f.states[id]
	k, ok := dataflow.ParseRowKey(key, info.Panes)
	if !ok {
		return stateRow{State: "?", Key: hex.EncodeToString(key)}
	}
	row := stateRow{Group: k.Group, State: fmt.Sprint(k.State), Hash: fmt.Sprintf("%08x", k.Hash), Key: printable(k.Key)}
	if known {
		row.State = fmt.Sprintf("%s/%s", info.Operator, info.Name)
	}
	if info.Panes {
		row.Pane = time.UnixMicro(k.Pane).UTC().Format(time.RFC3339Nano)
	}
	return row
}

// printable quotes text and writes everything else in hex.
func printable(b []byte) string {
	if utf8.Valid(b) && !slices.ContainsFunc([]rune(string(b)), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", b)
	}
	return hex.EncodeToString(b)
}

func writeFile(fs vfs.FS, name string, b []byte) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// oneLine cuts Pebble's errors, which may hold a dump, to their first line.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(text)
}
