package lint

import (
	"fmt"
	"go/ast"
	"go/token"
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

// Every exported name of a package says what it is.
func TestExportedDocs(t *testing.T) {
	var bad []string
	for _, f := range mustFiles(t) {
		if !f.test && f.ast.Name.Name != "main" {
			bad = append(bad, docFaults(f)...)
		}
	}
	report(t, "exported names have a doc comment: what it is, its owner, unit, zero value, errors. Cure: say it, or make the name unexported", bad)
}

// plain are methods that say no more than their name, by a convention of std.
var plain = map[string]bool{"Error": true, "String": true, "Unwrap": true, "Len": true, "Less": true, "Swap": true}

// docFaults finds exported declarations without a comment. A method may go
// without where its receiver is unexported, a constant or variable where its group
// or its line has a comment.
func docFaults(f *file) []string {
	var bad []string
	say := func(n ast.Node, name string) { bad = append(bad, f.at(n)+": "+name) }
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d)) && !plain[d.Name.Name]) {
				say(d, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						say(s, s.Name.Name)
					}
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
							say(s, name.Name)
						}
					}
				}
			}
		}
	}
	return bad
}

// receiver is the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	x := d.Recv.List[0].Type
	for {
		switch t := x.(type) {
		case *ast.StarExpr:
			x = t.X
		case *ast.IndexExpr:
			x = t.X
		case *ast.IndexListExpr:
			x = t.X
		case *ast.ParenExpr:
			x = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

// The rules notice what they should.
func TestDocFaults(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want int
	}{
		{"type T int", 1},
		{"// T is.\ntype T int", 0},
		{"type t int\nfunc (t) M() {}", 0},
		{"// T is.\ntype T[K any] struct{}\nfunc (*T[K]) M() {}\nfunc (T[K]) String() string { return \"\" }", 1},
		{"func F() {}\nfunc f() {}", 1},
		{"// These are.\nconst (\nA = 1\nB = 2\n)", 0},
		{"const (\nA = 1 // a\nB = 2\n)", 1},
		{"var A, b, C = 1, 2, 3", 2},
	} {
		f := parse(token.NewFileSet(), &pkg{ImportPath: module + "/x"}, "x/x.go", []byte("package x\n"+tt.src+"\n"), false)
		if f == nil {
			t.Fatalf("%q does not parse", tt.src)
		}
		if got := docFaults(f); len(got) != tt.want {
			t.Errorf("%q: %q, want %d", tt.src, got, tt.want)
		}
	}
	for _, tt := range []struct{ name, doc, want string }{
		{"x", "Package x is.\n", ""},
		{"x", "", "no package doc"},
		{"x", "This package is.\n", "want \"Package x ...\""},
		{"x", "Package x is.\nPackage x is.\n", "more than one file"},
		{"main", "Weir does.\n", ""},
	} {
		if got := docFault(tt.name, tt.doc); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("doc %q of %s: %q, want %q", tt.doc, tt.name, got, tt.want)
		}
	}
}
