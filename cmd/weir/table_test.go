package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// weirTable runs weir table with arguments and returns what it prints.
func weirTable(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := tableCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

// A table can be made, filled, looked at, changed and exported from the command
// line, and refusals are one sentence.
func TestTableCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "t")
	export := filepath.Join(t.TempDir(), "x.parquet")
	must := func(args ...string) string {
		t.Helper()
		out, err := weirTable(t, args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	must("create", dir, "--columns", "id long not null, name string, price decimal(10,2)", "--property", "delta.enableChangeDataFeed=true")
	src := filepath.Join(t.TempDir(), "src")
	must("create", src, "--columns", "id long not null, name string, price decimal(10,2)")
	must("export", src, "--to", export)
	must("append", dir, "--from", export)
	var info struct {
		Version  int64
		Protocol []int
		Files    int
		Rows     *int64
		Schema   struct{ Fields []struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(must("info", dir, "-o", "json")), &info); err != nil {
		t.Fatal(err)
	}
	if info.Rows == nil || *info.Rows != 0 || len(info.Schema.Fields) != 3 || len(info.Protocol) != 2 {
		t.Fatalf("info %+v", info)
	}
	for _, args := range [][]string{{"history", dir}, {"show", dir}, {"files", dir}, {"schema", dir, "-o", "json"}, {"optimize", dir}, {"vacuum", dir, "--dry-run"},
		{"checkpoint", dir}, {"fsck", dir}, {"properties", dir, "--set", "a=b"}, {"cdf", dir}, {"follow", dir, "--once"}, {"diff", dir},
		{"delete", dir, "--where", "id > 3"}, {"restore", dir, "--version", "0"}, {"merge", dir, "--from", export, "--on", "target.id = source.id"}} {
		must(args...)
	}
	for _, args := range [][]string{{"info", t.TempDir()}, {"show", dir, "--where", "nope = 1"}, {"export", dir, "--version", "99", "--to", export},
		{"create", dir, "--columns", "a long"}, {"vacuum", dir, "--retention-hours", "0"}, {"info", "s3x://b/t"}} {
		if _, err := weirTable(t, args...); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: error %v, want one sentence", args, err)
		}
	}
}
