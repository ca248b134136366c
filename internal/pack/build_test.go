package pack

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// hostWith returns a host like the Makefile's, with some build settings changed.
func hostWith(goVersion string, settings map[string]string) *debug.BuildInfo {
	all := map[string]string{"-trimpath": "true", "CGO_ENABLED": "1"}
	maps.Copy(all, settings)
	info := &debug.BuildInfo{GoVersion: goVersion, Main: debug.Module{Path: weirModule, Version: "(devel)"}}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		info.Settings = append(info.Settings, debug.BuildSetting{Key: k, Value: all[k]})
	}
	return info
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const modFile = "module example.com/job\n\ngo 1.26\n"

// What cannot be built is refused in one sentence that names it and the cure,
// before anything is compiled.
func TestRefusals(t *testing.T) {
	job := func(source string) map[string]string { return map[string]string{"go.mod": modFile, "job.go": source} }
	good := job("package job\n\nfunc Build(g *stream.Graph) error { return nil }\n")
	for _, tt := range []struct {
		name  string
		files map[string]string
		host  *debug.BuildInfo
		env   map[string]string
		opts  BuildOptions
		want  []string
	}{
		{"no module", map[string]string{"job.go": "package job\n"}, nil, nil, BuildOptions{}, []string{"is not in a Go module", "go mod init"}},
		{"no Go files", map[string]string{"go.mod": modFile}, nil, nil, BuildOptions{}, []string{"is not a Go package", "no Go files"}},
		{"package main", job("package main\n\nfunc main() {}\n"), nil, nil, BuildOptions{}, []string{"example.com/job is package main", "exports Build", "local.Main"}},
		{"no Build", job("package job\n\nfunc build() {}\n"), nil, nil, BuildOptions{}, []string{"example.com/job has no function Build", "func Build(g *stream.Graph) error"}},
		{"method Build", job("package job\n\ntype J int\n\nfunc (J) Build(g *stream.Graph) error { return nil }\n"), nil, nil, BuildOptions{}, []string{"has no function Build"}},
		{"wrong parameters", job("package job\n\nfunc Build() error { return nil }\n"), nil, nil, BuildOptions{}, []string{"wrong shape", "func Build(g *stream.Graph) error"}},
		{"no result", job("package job\n\nfunc Build(g *stream.Graph) {}\n"), nil, nil, BuildOptions{}, []string{"wrong shape"}},
		{"newer go line", map[string]string{"go.mod": "module example.com/job\n\ngo 1.99\n", "job.go": good["job.go"]}, nil, nil, BuildOptions{},
			[]string{"asks for go 1.99", "built with " + runtime.Version(), "lower that go line"}},
		{"no go command", good, nil, map[string]string{"PATH": "/nowhere"}, BuildOptions{}, []string{"needs the Go toolchain", "install Go"}},
		{"no C compiler", good, nil, map[string]string{"CC": "/nowhere/cc"}, BuildOptions{}, []string{"needs a C compiler", "install gcc or clang", "--static"}},
		{"host without cgo", good, hostWith(runtime.Version(), map[string]string{"CGO_ENABLED": "0"}), nil, BuildOptions{}, []string{"CGO_ENABLED=0", "make build", "--static"}},
		{"host without -trimpath", good, hostWith(runtime.Version(), map[string]string{"-trimpath": "false"}), nil, BuildOptions{}, []string{"without -trimpath", "make build"}},
		{"host of another Go", good, hostWith("devel go1.99-abc", nil), nil, BuildOptions{}, []string{"built with devel", "PATH is " + runtime.Version()}},
		{"output nowhere", good, nil, nil, BuildOptions{Out: "/nowhere/x.wj"}, []string{"the folder of /nowhere/x.wj is not there", "--output"}},
		{"wrong tree", good, nil, nil, BuildOptions{WeirSource: "/"}, []string{"--weir-source /", "module " + weirModule}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeFiles(t, tt.files)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			tt.opts.Dir, tt.opts.Host = dir, tt.host
			if tt.host == nil {
				tt.opts.Host = hostWith(runtime.Version(), nil)
			}
			if tt.opts.Out == "" {
				tt.opts.Out = filepath.Join(dir, "x.wj")
			}
			_, err := Build(t.Context(), tt.opts)
			if err == nil {
				t.Fatal("it was built")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q, want %q in it", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q is more than one line", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "x.wj")); err == nil {
				t.Error("a pack was written")
			}
		})
	}
	if _, err := Build(t.Context(), BuildOptions{Dir: "/nowhere", Host: hostWith(runtime.Version(), nil)}); err == nil || !strings.Contains(err.Error(), "/nowhere is not a folder") {
		t.Errorf("error %v", err)
	}
}

// What is not a pack, or is a damaged one, is refused by name.
func TestOpenRefusals(t *testing.T) {
	dir := writeFiles(t, map[string]string{"text.wj": "no zip", "job": "#!/bin/sh\n"})
	m := &Manifest{Version: 1, Kind: KindStatic, Name: "j", Sum: strings.Repeat("0", 64)}
	damaged := filepath.Join(dir, "damaged.wj")
	if err := write(damaged, m, filepath.Join(dir, "job")); err != nil {
		t.Fatal(err)
	}
	m.Version = 2
	if err := write(filepath.Join(dir, "newer.wj"), m, filepath.Join(dir, "job")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"text.wj": "what weir build writes", "none.wj": "no such file", "newer.wj": "version 2"} {
		if _, err := Open(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	l := &Loader{Dir: filepath.Join(dir, "unpacked")}
	if _, err := l.Executable(damaged); err == nil || !strings.Contains(err.Error(), "its manifest says 0000") {
		t.Errorf("error %v, want both checksums", err)
	}
	if _, err := l.Load(damaged, nil); err == nil || !strings.Contains(err.Error(), "static") {
		t.Errorf("error %v, want that it is static", err)
	}
}
