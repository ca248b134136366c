package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
)

// weirModule is the module that a job is written against.
const weirModule = "github.com/weirstream/weir"

// A toolchain runs the go command as the host was built: same Go, same target,
// no flags of the user's.
type toolchain struct {
	info    *debug.BuildInfo  // of the host
	version string            // of its Go
	host    map[string]string // build settings of the host
	env     []string
	flags   []string // build flags of the host that change the code of shared packages
}

// newToolchain returns the toolchain of a host and checks that it is there.
func newToolchain(ctx context.Context, info *debug.BuildInfo) (*toolchain, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, errors.New("weir build needs the Go toolchain: install Go from go.dev and put it on the PATH")
	}
	version, _, _ := strings.Cut(info.GoVersion, " ") // without experiments
	t := &toolchain{info: info, version: version, host: map[string]string{}, flags: []string{"-trimpath"}}
	for _, s := range info.Settings {
		t.host[s.Key] = s.Value
		switch s.Key {
		case "-race", "-msan", "-asan":
			if s.Value == "true" {
				t.flags = append(t.flags, s.Key)
			}
		case "-tags", "-gcflags", "-asmflags":
			t.flags = append(t.flags, s.Key+"="+s.Value)
		}
	}
	t.env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOTOOLCHAIN=local")
	if strings.HasPrefix(version, "go1.") {
		t.env = append(t.env, "GOTOOLCHAIN="+version)
	}
	for _, k := range []string{"GOOS", "GOARCH", "GOAMD64", "GOARM", "GOARM64", "GO386", "GOEXPERIMENT"} {
		if v := t.host[k]; v != "" {
			t.env = append(t.env, k+"="+v)
		}
	}
	out, err := t.run(ctx, "", "env", "GOVERSION")
	if err != nil {
		return nil, fmt.Errorf("this weir was built with %s, and the go command on the PATH cannot become that version: install it, or build weir with the one that is there: %w", version, err)
	}
	if got, _, _ := strings.Cut(strings.TrimSpace(string(out)), " "); got != version {
		return nil, fmt.Errorf("this weir was built with %s, the go command on the PATH is %s: install %s, or build weir with the one that is there", version, got, version)
	}
	return t, nil
}

// canPlugin says in one sentence why the host cannot load plugins, or that no C
// compiler is there to make one.
func (t *toolchain) canPlugin(ctx context.Context) error {
	if t.host["CGO_ENABLED"] == "0" {
		return errors.New("this weir was built with CGO_ENABLED=0 and cannot load plugins: build it with make build, or build the job with --static")
	}
	if t.host["-trimpath"] != "true" {
		return errors.New("this weir was built without -trimpath and cannot load plugins: build it with make build, or build the job with --static")
	}
	if !t.hasCompiler(ctx) {
		return errors.New("weir build needs a C compiler, because Go plugins use cgo: install gcc or clang, or build the job with --static")
	}
	return nil
}

func (t *toolchain) hasCompiler(ctx context.Context) bool {
	out, err := t.run(ctx, "", "env", "CC")
	words := strings.Fields(string(out))
	if err != nil || len(words) == 0 {
		return false
	}
	_, err = exec.LookPath(words[0])
	return err == nil
}

// run runs the go command in dir and returns its output; the error holds what it
// said.
func (t *toolchain) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return t.runIn(ctx, dir, nil, args...)
}

func (t *toolchain) runIn(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(t.env[:len(t.env):len(t.env)], env...)
	out, said, err := capture(cmd)
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if m := needsGo.FindStringSubmatch(said); m != nil {
		return nil, fmt.Errorf("%s asks for go %s, this weir was built with %s: lower that go line, or build weir with go %s", m[1], m[2], t.version, m[2])
	}
	if said == "" {
		said = err.Error()
	}
	return nil, errors.New(said)
}

var needsGo = regexp.MustCompile(`(?:go: )?(?:module )?(\S+) requires go >= (\S+)`)

// capture runs a command; said is what it wrote to standard error.
func capture(cmd *exec.Cmd) (out []byte, said string, err error) {
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.Bytes(), strings.TrimSpace(e.String()), err
}

// hostInfo returns how this process was built.
func hostInfo() (*debug.BuildInfo, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, errors.New("this weir holds no build information: build it with make build")
	}
	if info.GoVersion == "" {
		info.GoVersion = runtime.Version()
	}
	return info, nil
}
