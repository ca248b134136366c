package lint

import (
	"fmt"
	"go/ast"
	"strings"
	"testing"
)

// Every package says what it is.
func TestPackageDocs(t *testing.T) {
	type state struct {
		dir, name string
		files     int
		doc       string
	}
	pkgs := map[string]*state{}
	for _, f := range mustFiles(t) {
		if f.test {
			continue
		}
		s := pkgs[f.pkg.dir()]
		if s == nil {
			s = &state{dir: f.pkg.dir(), name: f.ast.Name.Name}
			pkgs[f.pkg.dir()] = s
		}
		s.files++
		if f.ast.Doc != nil {
			s.doc += f.ast.Doc.Text()
		}
	}
	var bad []string
	for _, s := range pkgs {
		if fault := docFault(s.name, s.doc); fault != "" {
			bad = append(bad, s.dir+": "+fault)
		}
	}
	report(t, "every package has a doc: what it is, its concurrency, its durability. Cure: a comment above one package clause that begins \"Package name\"", bad)
}

func docFault(name, doc string) string {
	switch {
	case doc == "":
		return "no package doc"
	case name == "main":
		return ""
	case strings.Count(doc, "Package "+name+" ") > 1:
		return "more than one file carries the package doc"
	case !strings.HasPrefix(doc, "Package "+name+" "):
		return fmt.Sprintf("the package doc begins %.30q, want \"Package %s ...\"", doc, name)
	}
	return ""
}

// Files and functions stay small enough to be read.
func TestSizes(t *testing.T) {
	var bad []string
	usedFiles, usedFuncs := map[string]bool{}, map[string]bool{}
	for _, f := range mustFiles(t) {
		limit := maxFile
		if f.test {
			limit = maxTestFile
		}
		if f.lines > limit && !ast.IsGenerated(f.ast) && !exceptFor(longFiles, usedFiles, f.path) {
			bad = append(bad, fmt.Sprintf("%s: %d lines, at most %d", f.path, f.lines, limit))
		}
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			if n > maxFunction && !exceptFor(longFunctions, usedFuncs, f.path+":"+fn.Name.Name) {
				bad = append(bad, fmt.Sprintf("%s: %s has %d lines, at most %d", f.at(fn), fn.Name.Name, n, maxFunction))
			}
		}
	}
	bad = append(bad, stale(longFiles, usedFiles)...)
	bad = append(bad, stale(longFunctions, usedFuncs)...)
	report(t, "files and functions stay near 600 and 70 lines. Cure: split by noun, or name the exception with its reason in table_test.go", bad)
}

// What is not done is an issue, not a note in the code.
func TestNoNotesToSelf(t *testing.T) {
	notes := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"}
	var bad []string
	for _, f := range mustFiles(t) {
		for _, g := range f.ast.Comments {
			for _, c := range g.List {
				for _, word := range strings.FieldsFunc(c.Text, func(r rune) bool { return r < 'A' || r > 'Z' }) {
					for _, note := range notes {
						if word == note {
							bad = append(bad, f.at(c)+": "+note)
						}
					}
				}
			}
		}
	}
	report(t, "no notes of unfinished work in comments. Cure: finish it, or open an issue", bad)
}
