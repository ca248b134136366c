package pack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// The first arguments by which a static pack's executable is asked things; local.Main
// answers them.
const (
	InspectArg = "weir-inspect" // FILE PARAMS: what InspectJob does
	CheckArg   = "weir-check"   // PARAMS: what CheckJob does, the old states on standard input
)

// Executable returns the unpacked executable of the static pack at path, "" if the
// pack is a plugin.
func (l *Loader) Executable(path string) (string, error) {
	m, err := Open(path)
	if err != nil || m.Kind != KindStatic {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	exe := filepath.Join(l.Dir, m.Sum+".exe")
	if err := unpack(path, m, exe); err != nil {
		return "", err
	}
	return exe, os.Chmod(exe, 0o755)
}

// DescribeStatic asks a static pack's executable for the job's graph with params.
func DescribeStatic(ctx context.Context, exe string, params map[string]string) (g dataflow.Graph, err error) {
	p, err := json.Marshal(params)
	if err != nil {
		return g, err
	}
	answer, err := os.CreateTemp("", "weir-inspect-*.json")
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, os.Remove(answer.Name())) }()
	if err := answer.Close(); err != nil {
		return g, err
	}
	if err := ask(ctx, exe, nil, InspectArg, answer.Name(), string(p)); err != nil {
		return g, err
	}
	b, err := os.ReadFile(answer.Name())
	if err != nil {
		return g, err
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return g, fmt.Errorf("the pack's executable answers nonsense: %w", err)
	}
	return m.Graph, nil
}

// CheckStatic is CheckStates for a static pack's executable.
func CheckStatic(ctx context.Context, exe string, params map[string]string, old []dataflow.StateInfo) error {
	p, err := json.Marshal(params)
	if err != nil {
		return err
	}
	b, err := json.Marshal(old)
	if err != nil {
		return err
	}
	return ask(ctx, exe, b, CheckArg, string(p))
}

// CheckJob is what a static pack's executable does for CheckStatic.
func CheckJob(build func(map[string]string) (spi.Job, error), params string, in io.Reader) error {
	var p map[string]string
	var old []dataflow.StateInfo
	if err := errors.Join(json.Unmarshal([]byte(params), &p), json.NewDecoder(in).Decode(&old)); err != nil {
		return err
	}
	job, err := build(p)
	if err != nil {
		return err
	}
	return CheckStates(job, old)
}

func ask(ctx context.Context, exe string, in []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Stdin = bytes.NewReader(in)
	_, said, err := capture(cmd)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if said = strings.TrimPrefix(said, "weir: "); said != "" {
		return errors.New(said)
	}
	return fmt.Errorf("the pack's executable: %w", err)
}
