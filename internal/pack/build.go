package pack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// BuildOptions configures Build. A zero field means its default.
type BuildOptions struct {
	Dir        string            // folder of the job's package; required
	Out        string            // pack to write; the package's name + ".wj" in the working folder
	Name       string            // default pipeline; the package's name
	Params     map[string]string // that Build is called with for the manifest; a job may demand some
	WeirSource string            // weir's source tree; the one that the job's go.mod leads to, or the one around this executable
	Fix        bool              // pin modules that clash to weir's versions; where that does not build, make a static pack
	Static     bool              // make a static pack: job and worker as one executable
	Host       *debug.BuildInfo  // of the weir that will load the plugin; this process's
	Weir       []string          // command that runs Inspect(FILE, OUT): the scratch process; required
	Step       func(step string) // told what is being done; may be nil
}

// A Built says what Build made.
type Built struct {
	Path     string  `json:"pack"`
	Name     string  `json:"name"`
	Kind     string  `json:"kind"`               // KindPlugin or KindStatic
	Pinned   []Clash `json:"pinned,omitempty"`   // what Fix pinned
	Fallback string  `json:"fallback,omitempty"` // why the pack is static though a plugin was asked for
}

// Build makes a pack of the job in opts.Dir. Modules that the job and weir would
// link in different versions are a *ClashError.
func Build(ctx context.Context, opts BuildOptions) (built *Built, err error) {
	if opts.Host == nil {
		if opts.Host, err = hostInfo(); err != nil {
			return nil, err
		}
	}
	if opts.Step == nil {
		opts.Step = func(string) {}
	}
	opts.Step("looking at the job")
	tools, err := newToolchain(ctx, opts.Host)
	if err != nil {
		return nil, err
	}
	if !opts.Static {
		if err := tools.canPlugin(ctx); err != nil {
			return nil, err
		}
	}
	job, err := findJob(ctx, tools, opts.Dir)
	if err != nil {
		return nil, err
	}
	built = &Built{Name: opts.Name, Path: opts.Out, Kind: KindPlugin}
	if built.Name == "" {
		built.Name = job.Name
	}
	if built.Path == "" {
		built.Path = built.Name + Suffix
	}
	if st, err := os.Stat(filepath.Dir(built.Path)); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("pack: the folder of %s is not there: make it, or name another file with --output", built.Path)
	}
	tmp, err := os.MkdirTemp("", "weir-build-")
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	b := &builder{opts: opts, tools: tools, job: job, tmp: tmp, built: built}
	file, deps, err := b.compile(ctx)
	if err != nil {
		return nil, err
	}
	opts.Step("loading it once in a scratch process")
	m, err := b.inspect(ctx, file)
	if err != nil {
		return nil, err
	}
	m.Version, m.Kind, m.Name, m.Package, m.Go, m.Modules = 1, built.Kind, built.Name, job.ImportPath, tools.version, modules(deps)
	if m.Sum, err = sumOf(file); err != nil {
		return nil, err
	}
	return built, write(built.Path, m, file)
}

// findJob returns the package in dir, which must export Build.
func findJob(ctx context.Context, tools *toolchain, dir string) (job goPackage, err error) {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return job, fmt.Errorf("pack: %s is not a folder: name the folder of a job's package", dir)
	}
	out, err := tools.run(ctx, dir, "list", "-find", listFields, ".")
	if err != nil {
		if strings.Contains(err.Error(), "go.mod file not found") || strings.Contains(err.Error(), "outside main module") {
			return job, fmt.Errorf("pack: %s is not in a Go module: run go mod init there", dir)
		}
		return job, fmt.Errorf("pack: %s is not a Go package: %w", dir, err)
	}
	if err := decodeOne(out, &job); err != nil {
		return job, err
	}
	if job.Module == nil {
		return job, fmt.Errorf("pack: %s is not in a Go module: run go mod init there", dir)
	}
	if job.Name == "main" {
		return job, fmt.Errorf("pack: %s is package main: a job is an ordinary package that exports Build (a main that calls local.Main(job.Build) runs it on its own)", job.ImportPath)
	}
	return job, findBuild(job)
}

// A builder is one call of Build.
type builder struct {
	opts  BuildOptions
	tools *toolchain
	job   goPackage
	tmp   string
	built *Built
}

// compile makes the plugin or the executable and returns its file and what it
// links.
func (b *builder) compile(ctx context.Context) (file string, deps []goPackage, err error) {
	if b.opts.Static {
		b.built.Kind = KindStatic
		return b.static(ctx)
	}
	file, deps, err = b.plugin(ctx)
	var clash *ClashError
	if err == nil || !b.opts.Fix || !errors.As(err, &clash) && len(b.built.Pinned) == 0 || ctx.Err() != nil {
		return file, deps, err
	}
	// What is pinned does not build, or not all can be pinned.
	b.built.Kind, b.built.Pinned = KindStatic, nil
	b.built.Fallback = strings.ReplaceAll(err.Error(), "\n", "; ")
	b.opts.Step("no plugin can be made, a static pack is: " + b.built.Fallback)
	return b.static(ctx)
}

func (b *builder) workspace(ctx context.Context, name string) (*workspace, error) {
	dir := filepath.Join(b.tmp, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return newWorkspace(ctx, b.tools, dir, b.job, b.opts)
}

// maxPins bounds the rounds of pinning: each may uncover an older version that
// something else asks for.
const maxPins = 32

func (b *builder) plugin(ctx context.Context) (so string, deps []goPackage, err error) {
	w, err := b.workspace(ctx, "plugin")
	if err != nil {
		return "", nil, err
	}
	source := fmt.Sprintf(pluginMain, b.job.ImportPath)
	for range maxPins {
		var hash string
		if deps, hash, err = w.list(ctx, source); err != nil {
			return "", nil, fmt.Errorf("pack: what %s imports cannot be found: %w", b.job.ImportPath, err)
		}
		found := clashes(deps, b.opts.Host, w.tree)
		if len(found) == 0 {
			so = filepath.Join(b.tmp, pluginName)
			b.opts.Step("compiling the plugin")
			return so, deps, b.link(ctx, w, hash, source, "-buildmode=plugin", "-o", so)
		}
		if !b.opts.Fix {
			return "", nil, &ClashError{Clashes: found}
		}
		ok, err := w.pin(ctx, found)
		if err != nil {
			return "", nil, err
		}
		if !ok {
			return "", nil, &ClashError{Clashes: found}
		}
		for _, c := range found {
			if !slices.ContainsFunc(b.built.Pinned, func(p Clash) bool { return p.Module == c.Module }) && c.pin != "" {
				b.built.Pinned = append(b.built.Pinned, c)
			}
		}
	}
	return "", nil, &ClashError{Clashes: clashes(deps, b.opts.Host, w.tree)}
}

func (b *builder) static(ctx context.Context) (exe string, deps []goPackage, err error) {
	w, err := b.workspace(ctx, "static")
	if err != nil {
		return "", nil, err
	}
	source := fmt.Sprintf(staticMain, b.job.ImportPath)
	deps, hash, err := w.list(ctx, source)
	if err != nil {
		return "", nil, fmt.Errorf("pack: what %s imports cannot be found: %w", b.job.ImportPath, err)
	}
	if !b.tools.hasCompiler(ctx) {
		b.tools.env = append(b.tools.env, "CGO_ENABLED=0")
	}
	exe = filepath.Join(b.tmp, executableName)
	b.opts.Step("compiling job and worker as one executable")
	return exe, deps, b.link(ctx, w, hash, source, "-o", exe)
}

func (b *builder) link(ctx context.Context, w *workspace, hash, source string, args ...string) error {
	if err := w.generate(hash, source); err != nil {
		return err
	}
	if _, err := w.run(ctx, slices.Concat([]string{"build"}, b.tools.flags, args, []string{"."})...); err != nil {
		return fmt.Errorf("pack: %s does not compile:\n%w", b.job.ImportPath, err)
	}
	return nil
}

const pluginMain = `// Code generated by weir build. DO NOT EDIT.

package main

import (
	job %q

	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/spi"
)

// Job builds the job.
func Job(params map[string]string) (spi.Job, error) { return stream.Build(params, job.Build) }

func main() {}
`

const staticMain = `// Code generated by weir build. DO NOT EDIT.

package main

import (
	job %q

	"github.com/weirstream/weir/local"
)

func main() { local.Main(job.Build) }
`

// modules returns path@version of every module linked, sorted.
func modules(deps []goPackage) (out []string) {
	for _, p := range deps {
		if p.Module != nil {
			out = append(out, strings.TrimSuffix(p.Module.Path+"@"+p.Module.Version, "@"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
