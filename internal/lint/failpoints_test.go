package lint

import (
	"go/ast"
	"testing"
)

// Every fault point is hit somewhere and every guard is asked somewhere: a name
// that nothing calls would let a fault test wait for ever, or prove nothing.
func TestFailpointsAreUsed(t *testing.T) {
	const home = "internal/failpoint"
	defined := map[string]string{} // constant -> file:line
	used := map[string]bool{}
	for _, f := range mustFiles(t) {
		if f.test {
			continue
		}
		if f.pkg.dir() == home {
			for _, d := range f.ast.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok {
					continue
				}
				for _, s := range g.Specs {
					v, ok := s.(*ast.ValueSpec)
					if !ok {
						continue
					}
					if kind, ok := v.Type.(*ast.Ident); ok && (kind.Name == "Point" || kind.Name == "Guard") {
						defined[v.Names[0].Name] = f.at(v)
					}
				}
			}
			continue
		}
		imports := importNames(f.ast)
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			fn, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || fn.Sel.Name != "Hit" && fn.Sel.Name != "Off" {
				return true
			}
			arg, ok := call.Args[0].(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := arg.X.(*ast.Ident); ok && imports[pkg.Name] == module+"/"+home {
				used[arg.Sel.Name] = true
			}
			return true
		})
	}
	if len(defined) == 0 {
		t.Fatal("no constants of type Point or Guard were found in " + home)
	}
	var bad []string
	for name, at := range defined {
		if !used[name] {
			bad = append(bad, at+": "+name)
		}
	}
	report(t, "every fault point is hit and every guard is asked. Cure: call failpoint.Hit or failpoint.Off where its comment says, or take the name out", bad)
}
