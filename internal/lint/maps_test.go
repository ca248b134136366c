package lint

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	stdio "io"
	"os"
	"slices"
	"strings"
	"testing"
)

// Nothing that a tier-1 package says depends on the order in which Go walks a map.
func TestMapOrder(t *testing.T) {
	var dirs []string
	for _, p := range mustPackages(t) {
		if slices.Contains(tier1, p.dir()) {
			dirs = append(dirs, "./"+p.dir())
		}
	}
	if len(dirs) == 0 {
		return
	}
	deps, err := goList(append([]string{"-export", "-deps"}, dirs...)...)
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	for _, d := range deps {
		exports[d.ImportPath] = d.Export
	}
	byDir := map[string][]*file{}
	for _, f := range mustFiles(t) {
		if !f.test && slices.Contains(tier1, f.pkg.dir()) {
			byDir[f.pkg.dir()] = append(byDir[f.pkg.dir()], f)
		}
	}
	var bad []string
	for _, files := range byDir {
		bad = append(bad, mapFaults(files, exports)...)
	}
	report(t, "tier-1 packages never let the order of a map reach their output. Cure: range over slices.Sorted(maps.Keys(m)), or sort what you appended before the function ends; if the order truly cannot be seen, say why after //weir:unordered above the loop", bad)
}

// mapFaults finds loops over maps whose order can be seen. Files are all
// those of one package; exports are the compiled packages they import. What does not type-check, because others are at work on it, counts as no
// map.
func mapFaults(files []*file, exports map[string]string) []string {
	fset := files[0].fset
	trees := make([]*ast.File, len(files))
	for i, f := range files {
		trees[i] = f.ast
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	conf := types.Config{
		Importer: importer.ForCompiler(fset, "gc", func(path string) (stdio.ReadCloser, error) {
			if exports[path] == "" {
				return nil, errors.New("no export data of " + path)
			}
			return os.Open(exports[path])
		}),
		Error: func(error) {}, // go on
	}
	_, _ = conf.Check("x", fset, trees, info)
	var bad []string
	for _, f := range files {
		excused := excusedLines(f)
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				loop, ok := n.(*ast.RangeStmt)
				if !ok || !unordered(info, loop.X) || excused[fset.Position(loop.Pos()).Line] {
					return true
				}
				if why := orderSeen(info, fn, loop); why != "" {
					bad = append(bad, fmt.Sprintf("%s: %s: the loop over a map %s", f.at(loop), fn.Name.Name, why))
				}
				return true
			})
		}
	}
	return bad
}

// unordered reports whether x yields in the order of a map: a map, or an iterator
// that maps.Keys and its like made.
func unordered(info *types.Info, x ast.Expr) bool {
	if t := info.Types[x].Type; t != nil {
		if _, ok := t.Underlying().(*types.Map); ok {
			return true
		}
	}
	call, ok := ast.Unparen(x).(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "maps" && slices.Contains([]string{"Keys", "Values", "All"}, sel.Sel.Name)
}

// speaking are beginnings of names of calls that let something out.
var speaking = []string{"emit", "write", "print", "fprint", "send", "push", "append", "put", "post", "encode", "add", "enqueue"}

// orderSeen tells how a loop over a map lets its order out, or returns "". Counting,
// deleting, filling another map and looking for the least or largest are fine; so
// is appending to a slice that the function sorts.
func orderSeen(info *types.Info, fn *ast.FuncDecl, loop *ast.RangeStmt) (why string) {
	ast.Inspect(loop.Body, func(n ast.Node) bool {
		if why != "" {
			return false
		}
		switch n := n.(type) {
		case *ast.SendStmt:
			why = "sends on a channel"
		case *ast.AssignStmt:
			if n.Tok == token.ADD_ASSIGN {
				if b, ok := basic(info, n.Lhs[0]); ok && b.Info()&types.IsString != 0 {
					why = "adds to a string"
				} else if ok && b.Info()&types.IsFloat != 0 {
					why = "adds floats, whose sum depends on the order"
				}
			}
			for i, rhs := range n.Rhs {
				if call, ok := rhs.(*ast.CallExpr); ok && builtin(info, call) == "append" && i < len(n.Lhs) && !sortedIn(fn, loop, n.Lhs[i]) {
					why = "appends to " + types.ExprString(n.Lhs[i]) + ", which is not sorted after it in this function"
				}
			}
		case *ast.CallExpr:
			name := calledName(n)
			if builtin(info, n) == "" && slices.ContainsFunc(speaking, func(s string) bool { return strings.HasPrefix(strings.ToLower(name), s) }) {
				why = "calls " + name
			}
		case *ast.ReturnStmt:
			for _, r := range n.Results {
				if mentions(r, loop.Key) || mentions(r, loop.Value) {
					why = "returns whatever comes first"
				}
			}
		}
		return why == ""
	})
	return why
}

func basic(info *types.Info, x ast.Expr) (*types.Basic, bool) {
	t := info.Types[x].Type
	if t == nil {
		return nil, false
	}
	b, ok := t.Underlying().(*types.Basic)
	return b, ok
}

func calledName(call *ast.CallExpr) string {
	switch f := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func builtin(info *types.Info, call *ast.CallExpr) string {
	if id, ok := ast.Unparen(call.Fun).(*ast.Ident); ok && info.Types[call.Fun].IsBuiltin() {
		return id.Name
	}
	return ""
}

func mentions(in ast.Expr, id ast.Expr) (found bool) {
	name, ok := id.(*ast.Ident)
	if !ok || name.Name == "_" {
		return false
	}
	ast.Inspect(in, func(n ast.Node) bool {
		if i, ok := n.(*ast.Ident); ok && i.Name == name.Name {
			found = true
		}
		return !found
	})
	return found
}

// sortedIn reports whether fn sorts the slice x somewhere after the loop.
func sortedIn(fn *ast.FuncDecl, loop *ast.RangeStmt, x ast.Expr) (found bool) {
	want := types.ExprString(x)
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || call.Pos() < loop.End() || len(call.Args) == 0 {
			return true
		}
		sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
		if !ok {
			if id, ok := ast.Unparen(call.Fun).(*ast.Ident); !ok || !strings.HasPrefix(strings.ToLower(id.Name), "sort") {
				return true
			}
		} else if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "sort" && !strings.HasPrefix(strings.ToLower(sel.Sel.Name), "sort") {
			return true
		}
		for _, a := range call.Args {
			if types.ExprString(a) == want {
				found = true
			}
		}
		return !found
	})
	return found
}

// excusedLines are the lines below a comment //weir:unordered with a reason.
func excusedLines(f *file) map[int]bool {
	out := map[int]bool{}
	for _, g := range f.ast.Comments {
		for _, c := range g.List {
			if reason, ok := strings.CutPrefix(c.Text, "//weir:unordered"); ok && strings.TrimSpace(reason) != "" {
				out[f.fset.Position(g.End()).Line+1] = true
				out[f.fset.Position(c.Pos()).Line] = true
			}
		}
	}
	return out
}

// The rule notices what it should.
func TestMapFaults(t *testing.T) {
	exports := stdExports(t)
	for _, tt := range []struct{ name, body, want string }{
		{"count", `n := 0; for range m { n++ }; _ = n`, ""},
		{"sum of integers", `n := 0; for _, v := range m { n += v }; _ = n`, ""},
		{"delete", `for k := range m { delete(m, k) }`, ""},
		{"another map", `o := map[string]int{}; for k, v := range m { o[k] = v }`, ""},
		{"found", `for _, v := range m { if v > 3 { return true } }`, ""},
		{"least", `best := 9; for _, v := range m { best = min(best, v) }; _ = best`, ""},
		{"appended", `var s []string; for k := range m { s = append(s, k) }; _ = s`, "appends to s"},
		{"appended and sorted", `var s []string; for k := range m { s = append(s, k) }; slices.Sort(s)`, ""},
		{"appended and sorted by", `var s []string; for k := range m { s = append(s, k) }; slices.SortFunc(s, strings.Compare)`, ""},
		{"another is sorted", `var s, o []string; for k := range m { s = append(s, k) }; slices.Sort(o); _ = s`, "appends to s"},
		{"keys", `var s []string; for k := range maps.Keys(m) { s = append(s, k) }; _ = s`, "appends to s"},
		{"sorted keys", `var s []string; for _, k := range slices.Sorted(maps.Keys(m)) { s = append(s, k) }; _ = s`, ""},
		{"a slice", `var s []int; for k := range []int{1} { s = append(s, k) }; _ = s`, ""},
		{"string", `s := ""; for k := range m { s += k }; _ = s`, "adds to a string"},
		{"float", `s := 0.5; for _, v := range m { s += float64(v) }; _ = s`, "adds floats"},
		{"sent", `c := make(chan string); for k := range m { c <- k }`, "sends"},
		{"emitted", `for k := range m { emit(k) }`, "calls emit"},
		{"printed", `for k := range m { fmt.Println(k) }`, "calls Println"},
		{"first", `for k := range m { return k == "" }`, "returns whatever comes first"},
		{"excused", "\n//weir:unordered emit only counts\nfor k := range m { emit(k) }", ""},
		{"excused without a reason", "\n//weir:unordered\nfor k := range m { emit(k) }", "calls emit"},
	} {
		src := `package x
import ("fmt"; "maps"; "slices"; "strings")
var _ = fmt.Sprint
var _ = maps.Keys[map[int]int]
var _ = slices.Sort[[]int]
var _ = strings.Compare
func emit(string) {}
func f(m map[string]int) bool { ` + tt.body + `
return false }
`
		f := parse(token.NewFileSet(), &pkg{ImportPath: module + "/x"}, "x/x.go", []byte(src), false)
		if f == nil {
			t.Fatalf("%s: does not parse", tt.name)
		}
		got := strings.Join(mapFaults([]*file{f}, exports), "; ")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func stdExports(t *testing.T) map[string]string {
	t.Helper()
	deps, err := goList("-export", "-deps", "fmt", "maps", "slices", "strings")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, d := range deps {
		out[d.ImportPath] = d.Export
	}
	return out
}
