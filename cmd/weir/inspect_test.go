package main

import (
	"bytes"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/frame"
	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

var fixed = time.UnixMilli(1_700_000_000_000)

var rewrite = flag.Bool("rewrite", false, "write the golden files of inspect anew")

// inspect runs weir inspect in a folder.
func inspect(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := inspectCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

// golden compares what inspect prints, as text and as JSON, with testdata.
func golden(t *testing.T, what, path string) {
	t.Helper()
	for _, format := range []string{"table", "json"} {
		got, err := inspect(t, what, path, "-o", format)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "inspect_"+what+"."+format)
		if *rewrite {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%swant\n%s(go test ./cmd/weir -run Inspect -rewrite)", file, got, want)
		}
	}
}

// sortedFile returns the bytes of a sorted file.
func sortedFile(t *testing.T, fill func(*sstable.Writer) error) []byte {
	t.Helper()
	mem := vfs.NewMem()
	f, err := mem.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{TableFormat: sstable.TableFormatPebblev6})
	if err := fill(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := mem.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, st.Size())
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The rows of a checkpoint print with the names, panes and kinds of its manifest,
// wherever its objects lie.
func TestInspectState(t *testing.T) {
	const panes, plain = 7, 3
	first := sortedFile(t, func(w *sstable.Writer) error {
		for _, err := range []error{
			w.DeleteRange(dataflow.AppendRowPrefix(nil, 2, plain), dataflow.AppendRowPrefix(nil, 3, plain)),
			w.Set(dataflow.AppendRowKey(nil, 1, plain, 0xabc, []byte("ann")), []byte{0, 1, 2}),
			w.Delete(dataflow.AppendRowKey(nil, 1, plain, 0xabd, []byte{0, 0xff})),
			w.Set(dataflow.AppendPaneRowKey(nil, 1, panes, 1_700_000_000_000_000, 1, []byte("toys")), nil),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	second := sortedFile(t, func(w *sstable.Writer) error {
		return w.Set(dataflow.AppendRowKey(nil, 9, plain, 5, []byte("bob")), []byte{9})
	})
	root := t.TempDir()
	old, now := checkpoint.EpochDir("shop", 4), checkpoint.EpochDir("shop", 5)
	ref := func(object string, at int, b []byte, epoch dataflow.Epoch, groups dataflow.KeyGroups) dataflow.FileRef {
		return dataflow.FileRef{Object: object, Offset: int64(at), Length: int64(len(b)), CRC32C: crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)), Epoch: epoch, Level: -1, Groups: groups}
	}
	m := &checkpoint.Manifest{Version: 1, Pipeline: "shop", Epoch: 5,
		States: []dataflow.StateInfo{{Operator: "sums", Name: "pane", ID: panes, Kind: "pane", Panes: true}, {Operator: "counts", Name: "actor", ID: plain, Kind: "value"}},
		Parts: []dataflow.Part{
			{Subtask: dataflow.SubtaskID{Chain: "counts"}, Files: []dataflow.FileRef{ref(now+"/w.data", 3, first, 5, dataflow.KeyGroups{From: 0, To: 8})}},
			{Subtask: dataflow.SubtaskID{Chain: "counts", Index: 1}, Files: []dataflow.FileRef{ref(old+"/w.data", 0, second, 4, dataflow.KeyGroups{From: 8, To: 16})}},
		}}
	b, _, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	data := put(t, filepath.Join(root, now, "w.data"), append([]byte("...")[:3:3], first...))
	put(t, filepath.Join(root, old, "w.data"), second)
	put(t, filepath.Join(root, now, "manifest.json"), b)
	golden(t, "state", filepath.Join(root, now))

	// A file alone, and a folder of them, print without names.
	sst := put(t, filepath.Join(root, "ssts", "1.sst"), first)
	alone, err := inspect(t, "state", sst)
	if err != nil || !strings.Contains(alone, `group 1  state 3  hash 00000abc  row  key "ann"  000102`) {
		t.Errorf("%v\n%s", err, alone)
	}
	if folder, err := inspect(t, "state", filepath.Dir(sst)); err != nil || strings.Count(folder, "\n") != strings.Count(alone, "\n") {
		t.Errorf("%v\n%s", err, folder)
	}

	damaged := bytes.Clone(first)
	damaged[20] ^= 1
	for path, want := range map[string]string{
		put(t, filepath.Join(root, "cut.sst"), first[:len(first)-9]):     "is not a sorted file",
		put(t, filepath.Join(root, "bits.sst"), damaged):                 "is not a sorted file",
		put(t, filepath.Join(root, "text.sst"), []byte("hello there")):   "is not a sorted file",
		put(t, filepath.Join(root, "bad", "manifest.json"), []byte("{")): "manifest",
		t.TempDir():                   "neither a manifest.json nor .sst files",
		filepath.Join(root, "no.sst"): "no such file",
	} {
		if out, err := inspect(t, "state", path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(out, " row ") {
			t.Errorf("%s: error %v, want one sentence with %q; printed %q", path, err, want, out)
		}
	}
	put(t, data, append([]byte("..."), damaged...))
	if _, err := inspect(t, "state", filepath.Join(root, now)); err == nil || !strings.Contains(err.Error(), "the object is damaged") {
		t.Errorf("error %v", err)
	}
	put(t, data, first[:10])
	if _, err := inspect(t, "state", filepath.Join(root, now)); err == nil || !strings.Contains(err.Error(), "the object is cut") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

// noRows is a codec whose rows take as many bytes as it says.
type noRows int

func (n noRows) Append(dst []byte, _ spi.Batch) ([]byte, error) {
	return append(dst, make([]byte, n)...), nil
}
func (n noRows) Decode([]byte) (spi.Batch, error) { return nil, nil }

// Frames print one a line, with what they carry; the first that does not parse is
// named by its offset.
func TestInspectFrames(t *testing.T) {
	ch := dataflow.ChannelID{Edge: 2, From: 0, To: 1}
	var b []byte
	add := func(it channel.Item, c frame.Codec) {
		t.Helper()
		var err error
		it.Attempt = 3
		if b, err = frame.AppendItem(b, ch, it, c); err != nil {
			t.Fatal(err)
		}
	}
	add(channel.Item{Kind: channel.Rows, Seq: 1, Bytes: 55}, noRows(100))
	add(channel.Item{Kind: channel.Watermark, Seq: 2, Time: 1_700_000_000_000_000}, nil)
	add(channel.Item{Kind: channel.Idle, Seq: 3}, nil)
	add(channel.Item{Kind: channel.Barrier, Seq: 4, Epoch: 12, Complete: 11}, nil)
	add(channel.Item{Kind: channel.Rows, Seq: 5, Bytes: 300_000}, noRows(300_000))
	add(channel.Item{Kind: channel.End, Seq: 6}, nil)
	b = frame.AppendCredit(b, ch, 3, channel.Credit{Rows: 10, Bytes: 2000, Timer: dataflow.MaxTime})
	b = frame.AppendCredit(b, ch, 3, channel.Credit{Rows: 1, Bytes: 2, Timer: 1_700_000_000_000_000})
	dir := t.TempDir()
	golden(t, "frames", put(t, filepath.Join(dir, "frames"), b))

	bad := bytes.Clone(b)
	bad[50] ^= 1
	for path, want := range map[string]string{
		put(t, filepath.Join(dir, "cut"), b[:len(b)-1]):                   "the last frame is cut: 65 bytes",
		put(t, filepath.Join(dir, "bad"), bad):                            "at offset 0: frame: checksum",
		put(t, filepath.Join(dir, "text"), []byte("hello there, frames")): "at offset 0: frame: a frame claims",
		filepath.Join(dir, "none"):                                        "no such file",
	} {
		if _, err := inspect(t, "frames", path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one sentence with %q", path, err, want)
		}
	}
}

// The newest version of a table prints in an order that depends on its content
// alone.
func TestInspectDelta(t *testing.T) {
	dir := t.TempDir()
	log := []string{
		`{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`,
		`{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"long\",\"nullable\":false,\"metadata\":{}},{\"name\":\"day\",\"type\":\"date\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":["day"],"configuration":{"b":"2","a":"1"}}}`,
		`{"txn":{"appId":"shop/out","version":12}}`,
		`{"add":{"path":"b.parquet","partitionValues":{"day":null},"size":11,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":4}"}}`,
		`{"add":{"path":"a.parquet","partitionValues":{"day":"2026-01-31"},"size":10,"modificationTime":1,"dataChange":true}}`,
	}
	put(t, filepath.Join(dir, "_delta_log", "00000000000000000000.json"), []byte(strings.Join(log, "\n")))
	if err := os.Chtimes(filepath.Join(dir, "_delta_log", "00000000000000000000.json"), fixed, fixed); err != nil {
		t.Fatal(err)
	}
	golden(t, "delta", dir)
	if _, err := inspect(t, "delta", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no Delta table") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}
