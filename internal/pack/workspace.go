package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// goPackage is what `go list` tells.
type goPackage struct {
	Dir, ImportPath, Name string
	Standard              bool
	Module                *goModule

	GoFiles, CgoFiles, CFiles, CXXFiles, HFiles, SFiles, SysoFiles, EmbedFiles []string
}

const listFields = "-json=Dir,ImportPath,Name,Standard,Module,GoFiles,CgoFiles,CFiles,CXXFiles,HFiles,SFiles,SysoFiles,EmbedFiles"

// A workspace is a temporary folder with a go.work that joins the generated main
// module, the job's module (or all of the user's own workspace) and weir's source
// tree. In a workspace no module bears a version, as in the weir that was built
// from its tree: with -trimpath the version is part of every file's name in the
// compiled code, so that a job that reaches weir by a `replace` would get other
// packages than the worker has.
type workspace struct {
	tools *toolchain
	dir   string   // temporary
	uses  []string // folders of modules, absolute
	own   []string // go.mod files of the job's side, which --fix rewrites by overlay
	tree  string   // weir's source tree; "" where weir comes by version
	job   goPackage
	exclu []string // MODULE@VERSION that --fix excludes

	replaces []workReplace // of the user's go.work, without what --fix pins
}

// A workReplace is a replace directive of a go.work file.
type workReplace struct {
	Old, New struct{ Path, Version string }
}

func (r workReplace) String() string {
	return strings.Join(strings.Fields("replace "+r.Old.Path+" "+r.Old.Version+" => "+r.New.Path+" "+r.New.Version), " ")
}

// newWorkspace lays out the workspace of a job.
func newWorkspace(ctx context.Context, tools *toolchain, tmp string, job goPackage, o BuildOptions) (*workspace, error) {
	w := &workspace{tools: tools, dir: tmp, job: job}
	out, err := tools.run(ctx, job.Dir, "env", "GOWORK")
	if err != nil {
		return nil, err
	}
	theirs := strings.TrimSpace(string(out))
	if theirs == "" || theirs == "off" {
		w.uses = []string{job.Module.Dir}
	} else if err := w.join(ctx, theirs); err != nil {
		return nil, err
	}
	for _, dir := range w.uses {
		w.own = append(w.own, filepath.Join(dir, "go.mod"))
	}
	if releaseOf(o.Host) == "" {
		if w.tree, err = findTree(ctx, tools, job, o.WeirSource); err != nil {
			return nil, err
		}
		w.own = slices.DeleteFunc(w.own, func(f string) bool { return samePath(filepath.Dir(f), w.tree) })
		w.uses = slices.DeleteFunc(w.uses, func(d string) bool { return samePath(d, w.tree) })
		w.uses = append(w.uses, w.tree)
	}
	return w, os.MkdirAll(w.gen(), 0o755)
}

// join takes over the modules and replacements of the user's own go.work.
func (w *workspace) join(ctx context.Context, file string) error {
	out, err := w.tools.run(ctx, filepath.Dir(file), "work", "edit", "-json", file)
	if err != nil {
		return err
	}
	var theirs struct {
		Use     []struct{ DiskPath string }
		Replace []workReplace
	}
	if err := json.Unmarshal(out, &theirs); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	absolute := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(filepath.Dir(file), path)
	}
	for _, u := range theirs.Use {
		w.uses = append(w.uses, absolute(u.DiskPath))
	}
	for _, r := range theirs.Replace {
		if r.Old.Path == weirModule {
			continue // weir is in the workspace
		}
		if r.New.Version == "" {
			r.New.Path = absolute(r.New.Path)
		}
		w.replaces = append(w.replaces, r)
	}
	if !slices.ContainsFunc(w.uses, func(d string) bool { return samePath(d, w.job.Module.Dir) }) {
		w.uses = append(w.uses, w.job.Module.Dir)
	}
	if sums, err := os.ReadFile(file + ".sum"); err == nil {
		return os.WriteFile(filepath.Join(w.dir, "go.work.sum"), sums, 0o644)
	}
	return nil
}

// findTree returns weir's source tree: the one named, the job's own module, the one
// that the job's go.mod or go.work leads to, or the one around this executable.
func findTree(ctx context.Context, tools *toolchain, job goPackage, named string) (string, error) {
	if named != "" {
		abs, err := filepath.Abs(named)
		if err == nil && !isTree(abs) {
			err = fmt.Errorf("--weir-source %s: its go.mod does not say module %s", named, weirModule)
		}
		return abs, err
	}
	if job.Module.Path == weirModule {
		return job.Module.Dir, nil
	}
	if out, err := tools.run(ctx, job.Dir, "list", "-m", "-json", weirModule); err == nil {
		m := new(goModule)
		if json.Unmarshal(out, m) == nil && (m.Main || m.Replace != nil && m.Replace.Version == "") && isTree(m.Dir) {
			return m.Dir, nil
		}
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	for dir := filepath.Dir(self); err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if isTree(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("this weir was built from a source tree, which is needed to build the job: name its folder with --weir-source, or add `replace %s => FOLDER` to %s", weirModule, job.Module.GoMod)
}

func isTree(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && slices.ContainsFunc(strings.Split(string(b), "\n"), func(l string) bool { return strings.TrimSpace(l) == "module "+weirModule })
}

func samePath(a, b string) bool {
	ra, errA := filepath.EvalSymlinks(a)
	rb, errB := filepath.EvalSymlinks(b)
	return errA == nil && errB == nil && ra == rb
}

func (w *workspace) gen() string { return filepath.Join(w.dir, "gen") }

// generate writes the main module: its path ends in the hash of the content, for
// one process refuses two plugins of one path and must not confuse two versions.
// It lies below the job's path as deep as internal folders ask.
func (w *workspace) generate(hash, source string) error {
	base := w.job.Module.Path
	if i := strings.LastIndex("/"+w.job.ImportPath+"/", "/internal/"); i > len(base) {
		base = w.job.ImportPath[:i-1]
	}
	mod := fmt.Sprintf("module %s/weirjob_%s\n\ngo %s\n", base, hash, strings.TrimPrefix(w.tools.version, "go"))
	if w.tree == "" {
		mod += fmt.Sprintf("\nrequire %s %s\n", weirModule, releaseOf(w.tools.info))
	}
	for _, e := range w.exclu {
		mod += "\nexclude " + strings.Replace(e, "@", " ", 1) + "\n"
	}
	work := fmt.Sprintf("go %s\n\nuse %q\n", strings.TrimPrefix(w.tools.version, "go"), w.gen())
	for _, dir := range w.uses {
		work += fmt.Sprintf("use %q\n", dir)
	}
	for _, r := range w.replaces {
		work += r.String() + "\n"
	}
	return errors.Join(
		os.WriteFile(filepath.Join(w.gen(), "go.mod"), []byte(mod), 0o644),
		os.WriteFile(filepath.Join(w.gen(), "main.go"), []byte(source), 0o644),
		os.WriteFile(filepath.Join(w.dir, "go.work"), []byte(work), 0o644))
}

// run runs the go command in the workspace.
func (w *workspace) run(ctx context.Context, args ...string) ([]byte, error) {
	if _, err := os.Stat(w.overlay()); err == nil {
		args = slices.Insert(args, 1, "-overlay", w.overlay())
	}
	return w.tools.runIn(ctx, w.gen(), []string{"GOWORK=" + filepath.Join(w.dir, "go.work")}, args...)
}

func (w *workspace) overlay() string { return filepath.Join(w.dir, "overlay.json") }

// list returns every package that a main of the given source links, after version
// selection, and the hash of what is not of the standard library.
func (w *workspace) list(ctx context.Context, source string) (deps []goPackage, hash string, err error) {
	if err := w.generate("unhashed", source); err != nil {
		return nil, "", err
	}
	out, err := w.run(ctx, slices.Concat([]string{"list", "-deps"}, w.tools.flags, []string{listFields, "."})...)
	if err != nil {
		return nil, "", err
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, "", fmt.Errorf("go list: %w", err)
		}
		deps = append(deps, p)
	}
	deps = deps[:len(deps)-1] // the main package itself
	hash, err = contentHash(deps)
	return deps, hash, err
}

// pin rewrites, by overlay, the go.mod files of the job's side so that the modules
// of clashes have weir's versions. It reports whether there was one to pin.
func (w *workspace) pin(ctx context.Context, clashes []Clash) (bool, error) {
	replace := map[string]string{}
	edit := []string{"mod", "edit"}
	pinned := false
	for _, c := range clashes {
		if c.pin == "" {
			continue
		}
		pinned = true
		w.replaces = slices.DeleteFunc(w.replaces, func(r workReplace) bool { return r.Old.Path == c.Module })
		if c.selected != "" {
			if e := c.Module + "@" + c.selected; !slices.Contains(w.exclu, e) {
				w.exclu = append(w.exclu, e)
			}
		}
		edit = append(edit, "-dropreplace="+c.Module, "-require="+c.Module+"@"+c.pin)
	}
	if !pinned {
		return false, nil
	}
	for i, own := range w.own {
		copied := filepath.Join(w.dir, fmt.Sprintf("own%d.mod", i))
		if _, err := os.Stat(copied); err != nil {
			b, err := os.ReadFile(own)
			if err != nil {
				return false, err
			}
			if err := os.WriteFile(copied, b, 0o644); err != nil {
				return false, err
			}
		}
		if _, err := w.tools.run(ctx, w.dir, append(slices.Clone(edit), copied)...); err != nil {
			return false, err
		}
		replace[own] = copied
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return false, err
	}
	return true, os.WriteFile(w.overlay(), b, 0o644)
}

// contentHash covers every source file outside the standard library.
func contentHash(deps []goPackage) (string, error) {
	h := sha256.New()
	for _, p := range deps {
		if p.Standard {
			continue
		}
		fmt.Fprintln(h, p.ImportPath)
		for _, f := range slices.Concat(p.GoFiles, p.CgoFiles, p.CFiles, p.CXXFiles, p.HFiles, p.SFiles, p.SysoFiles, p.EmbedFiles) {
			fmt.Fprintln(h, f)
			if err := copyFile(h, filepath.Join(p.Dir, f)); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
