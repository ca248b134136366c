package pack

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"plugin"
	"reflect"
	"runtime"
	"sync"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/stream/spi"
)

// A Manifest says what is in a pack.
type Manifest struct {
	Version int            `json:"version"`
	Kind    string         `json:"kind,omitempty"` // KindPlugin or KindStatic; "" is a plugin
	Name    string         `json:"name"`           // default pipeline
	Package string         `json:"package"`        // import path of the job
	Go      string         `json:"go"`             // toolchain
	Sum     string         `json:"sum"`            // SHA-256 of job.so or job, hex
	Graph   dataflow.Graph `json:"graph"`          // as built without parameters
	Modules []string       `json:"modules"`        // path@version of what the plugin is linked with
}

// Suffix is the file name ending of a pack.
const Suffix = ".wj"

// Kinds of packs.
const (
	KindPlugin = "plugin" // a Go plugin, which the weir that it was built for loads
	KindStatic = "static" // an executable of job and worker, which depends on no weir's build
)

const (
	manifestName   = "manifest.json"
	pluginName     = "job.so"
	executableName = "job"
	symbol         = "Job"
)

// Open reads the manifest of the pack at path.
func Open(path string) (*Manifest, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w: a pack is what weir build writes", path, err)
	}
	defer z.Close()
	f, err := z.Open(manifestName)
	if err != nil {
		return nil, fmt.Errorf("pack %s has no manifest: a pack is what weir build writes: %w", path, err)
	}
	defer f.Close()
	m := new(Manifest)
	if err := json.NewDecoder(f).Decode(m); err != nil {
		return nil, fmt.Errorf("pack %s: its manifest is damaged: %w", path, err)
	}
	if m.Version != 1 {
		return nil, fmt.Errorf("pack %s has version %d, this weir reads 1: build it again with this weir", path, m.Version)
	}
	return m, nil
}

// content returns the name of the pack's code.
func (m *Manifest) content() string {
	if m.Kind == KindStatic {
		return executableName
	}
	return pluginName
}

// write makes the pack at path from a plugin or an executable.
func write(path string, m *Manifest, file string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pack-*")
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	z := zip.NewWriter(tmp)
	w, err := z.Create(manifestName)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return err
	}
	// Stored, not deflated: packs are opened far more often than they are sent.
	if w, err = z.CreateHeader(&zip.FileHeader{Name: m.content(), Method: zip.Store}); err != nil {
		return err
	}
	if err := copyFile(w, file); err != nil {
		return err
	}
	if err := errors.Join(z.Close(), tmp.Chmod(0o644)); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

func sumOf(path string) (string, error) {
	h := sha256.New()
	if err := copyFile(h, path); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// A Loader opens the jobs in packs. It keeps unpacked plugins in Dir by checksum:
// a process can never unload one, and opens each only once.
type Loader struct {
	Dir string // for unpacked plugins

	mu     sync.Mutex
	opened map[string]func(map[string]string) (spi.Job, error)
}

// Load builds the job in the pack at path with params.
func (l *Loader) Load(path string, params map[string]string) (spi.Job, error) {
	m, err := Open(path)
	if err != nil {
		return nil, err
	}
	build, err := l.open(path, m)
	if err != nil {
		return nil, err
	}
	return build(params)
}

func (l *Loader) open(path string, m *Manifest) (func(map[string]string) (spi.Job, error), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.opened[m.Sum]; f != nil {
		return f, nil
	}
	if m.Kind == KindStatic {
		return nil, fmt.Errorf("pack %s is static: it runs in a process of its own, not in this one", path)
	}
	so := filepath.Join(l.Dir, m.Sum+".so")
	if err := unpack(path, m, so); err != nil {
		return nil, err
	}
	f, err := openPlugin(so)
	if err != nil {
		return nil, fmt.Errorf("pack %s (built with %s, this weir with %s): %w", path, m.Go, runtime.Version(), err)
	}
	if l.opened == nil {
		l.opened = map[string]func(map[string]string) (spi.Job, error){}
	}
	l.opened[m.Sum] = f
	return f, nil
}

// unpack puts the pack's code into file, unless it is there, and checks it.
func unpack(path string, m *Manifest, file string) error {
	if sum, err := sumOf(file); err == nil && sum == m.Sum {
		return nil
	}
	if err := extract(path, m.content(), file); err != nil {
		return fmt.Errorf("pack %s: %w", path, err)
	}
	if sum, err := sumOf(file); err != nil || sum != m.Sum {
		return fmt.Errorf("pack %s: its code has checksum %s, its manifest says %s: build it again", path, sum, m.Sum)
	}
	return nil
}

func extract(path, name, file string) error {
	z, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer z.Close()
	r, err := z.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".code-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, r)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return os.Rename(tmp.Name(), file)
}

func openPlugin(so string) (func(map[string]string) (spi.Job, error), error) {
	p, err := plugin.Open(so)
	if err != nil {
		return nil, fmt.Errorf("%w: build the pack again with this weir's own `weir build`", err)
	}
	s, err := p.Lookup(symbol)
	if err != nil {
		return nil, err
	}
	f, ok := s.(func(map[string]string) (spi.Job, error))
	if !ok {
		return nil, fmt.Errorf("its symbol %s is a %T: build the pack again with this weir", symbol, s)
	}
	return f, nil
}

// Describe returns the graph of a job with the schemas of its rows and states
// filled in, as a pack's manifest holds it. It refuses types that do not survive
// a checkpoint, by name.
func Describe(job spi.Job) (dataflow.Graph, error) {
	g := job.Graph()
	var errs []error
	for i := range g.Operators {
		op := &g.Operators[i]
		if t := job.Elem(op.Name, 0); t != nil {
			c, err := codec.Of(t)
			if err != nil {
				errs = append(errs, fmt.Errorf("operator %q: its rows cannot travel: %w", op.Name, err))
			} else {
				op.Schema = c.Schema()
			}
		}
		for _, st := range job.States(op.Name) {
			info := dataflow.StateInfo{Operator: op.Name, Name: st.Name, Kind: st.Kind, Panes: st.Panes}
			if err := describeState(&info, st.Key, st.Value); err != nil {
				errs = append(errs, fmt.Errorf("operator %q, state %q: %w", op.Name, st.Name, err))
			}
			for j := range op.States {
				if op.States[j].Name == st.Name {
					op.States[j] = info
				}
			}
		}
	}
	return g, errors.Join(errs...)
}

func describeState(info *dataflow.StateInfo, key, value reflect.Type) error {
	if key != nil {
		c, err := codec.Of(key)
		if err != nil {
			return err
		}
		info.Key = c.Schema()
	}
	if value != nil {
		c, err := codec.Of(value)
		if err != nil {
			return err
		}
		info.Schemas = []string{c.Schema()}
	}
	return nil
}

// CheckStates refuses a job whose types cannot read the states that an older
// version wrote, naming the state, the field and both types.
func CheckStates(job spi.Job, old []dataflow.StateInfo) error {
	var errs []error
	for _, was := range old {
		for _, now := range job.States(was.Operator) {
			if now.Name != was.Name {
				continue
			}
			if err := checkState(was, now); err != nil {
				errs = append(errs, fmt.Errorf("state %q of operator %q cannot be restored: %w", was.Name, was.Operator, err))
			}
		}
	}
	return errors.Join(errs...)
}

func checkState(was dataflow.StateInfo, now spi.StateType) error {
	if was.Kind != now.Kind {
		return fmt.Errorf("it was a %s and is a %s now", was.Kind, now.Kind)
	}
	if now.Key != nil && was.Key != "" {
		k, err := codec.Of(now.Key)
		if err != nil {
			return err
		}
		if k.Schema() != was.Key {
			return fmt.Errorf("its key was %s and is %s now: keys cannot change", was.Key, k.Schema())
		}
	}
	if now.Value == nil {
		return nil
	}
	_, _, err := codec.NewStateCodec(now.Value, was.Schemas)
	return err
}
