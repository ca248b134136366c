package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath, Dir, Name string
	Standard              bool
	Export                string // file with its types, where asked for
	Imports               []string
	GoFiles, CgoFiles     []string
	IgnoredGoFiles        []string
	TestGoFiles           []string
	XTestGoFiles          []string
	Incomplete            bool
}

// dir is the package's folder below the module: empty for its root.
func (p *pkg) dir() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// root is the folder of the module.
var root = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	return strings.TrimSpace(string(out)), err
})

// packages are those of the module that exist; those that do not build yet are
// listed with what is known of them.
var packages = sync.OnceValues(func() ([]*pkg, error) {
	if err := noteFolders(); err != nil {
		return nil, err
	}
	all, err := goList("./...")
	all = slices.DeleteFunc(all, func(p *pkg) bool {
		return slices.Contains(ignored, p.dir()) || len(p.GoFiles)+len(p.CgoFiles)+len(p.TestGoFiles)+len(p.XTestGoFiles) == 0
	})
	return all, err
})

// noteFolders reads every folder of the module, so that go test knows that these
// tests depend on them all and never answers from its cache after a file came or
// went: what go list reads it does not see.
func noteFolders() error {
	top, err := root()
	if err != nil {
		return err
	}
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != top && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "bin" || name == "demo-data") {
			return filepath.SkipDir
		}
		return nil
	})
}

func goList(args ...string) ([]*pkg, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Dir,Name,Standard,Export,Imports,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Incomplete"}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.Bytes())
	}
	var all []*pkg
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		p := new(pkg)
		if err := d.Decode(p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// file is one parsed file.
type file struct {
	pkg   *pkg
	path  string // below the module
	test  bool
	lines int
	fset  *token.FileSet // of the package
	ast   *ast.File
}

func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

// parsed are all files of the module. One that does not parse is left to the
// compiler; one that vanished meanwhile is left out.
var parsed = sync.OnceValues(func() ([]*file, error) {
	pkgs, err := packages()
	if err != nil {
		return nil, err
	}
	top, err := root()
	if err != nil {
		return nil, err
	}
	var out []*file
	for _, p := range pkgs {
		fset := token.NewFileSet()
		for i, names := range [][]string{p.GoFiles, p.CgoFiles, p.TestGoFiles, p.XTestGoFiles} {
			for _, name := range names {
				full := filepath.Join(p.Dir, name)
				src, err := os.ReadFile(full)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return nil, err
				}
				rel, err := filepath.Rel(top, full)
				if err != nil {
					return nil, err
				}
				if f := parse(fset, p, filepath.ToSlash(rel), src, i >= 2); f != nil {
					out = append(out, f)
				}
			}
		}
	}
	return out, nil
})

func parse(fset *token.FileSet, p *pkg, path string, src []byte, test bool) *file {
	tree, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil
	}
	return &file{pkg: p, path: path, test: test, lines: bytes.Count(src, []byte("\n")), fset: fset, ast: tree}
}

func mustFiles(t *testing.T) []*file {
	t.Helper()
	fs, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func mustPackages(t *testing.T) []*pkg {
	t.Helper()
	ps, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// report fails t with every violation, sorted, under one rule and its cure.
func report(t *testing.T, rule string, violations []string) {
	t.Helper()
	if len(violations) == 0 {
		return
	}
	slices.Sort(violations)
	violations = slices.Compact(violations)
	t.Errorf("%d violations. Rule: %s\n\t%s", len(violations), rule, strings.Join(violations, "\n\t"))
}

// exceptFor reports whether where (a file, or file:function) or a folder above it has
// an exception, and notes that the exception is used.
func exceptFor(list map[string]string, used map[string]bool, where string) bool {
	for w := where; w != "." && w != "/"; w = path.Dir(w) {
		if list[w] != "" {
			used[w] = true
			return true
		}
	}
	return false
}

// stale reports exceptions that nothing needs any more.
func stale(list map[string]string, used map[string]bool) []string {
	var out []string
	for w := range list {
		if !used[w] {
			out = append(out, w+": its exception is not needed any more: take it out of table_test.go")
		}
	}
	return out
}
