package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What is banned, and what to use instead.
var (
	clockCalls = map[string]string{
		"Now": "clock.Clock.Now", "Since": "clock.Clock.Monotonic", "Until": "clock.Clock.Monotonic", "Sleep": "clock.Sleep", "Tick": "clock.Clock.NewTimer",
	}
	timerCalls = []string{"After", "AfterFunc", "NewTimer", "NewTicker"}
	// What math/rand and math/rand/v2 have that is not the shared generator.
	ownRand = []string{"New", "NewPCG", "NewChaCha8", "NewSource", "NewZipf", "Rand", "Source", "Source64", "PCG", "ChaCha8", "Zipf"}
	// What a tier-1 package may not import.
	tier1Imports = append([]string{"crypto/rand", "log/slog", "=log", "=testing"}, io...)
)

// Time and chance come from outside, so that a seed reproduces a run.
func TestBannedCalls(t *testing.T) {
	var bad []string
	usedClock, usedInit := map[string]bool{}, map[string]bool{}
	for _, f := range mustFiles(t) {
		bad = append(bad, callFaults(f, usedClock, usedInit)...)
	}
	bad = append(bad, stale(clockUsers, usedClock)...)
	bad = append(bad, stale(initUsers, usedInit)...)
	report(t, "time and randomness are injected, nothing registers itself. Cure: take a clock.Clock or a *rand.Rand in the options; in tests wait for the condition", bad)
}

// callFaults finds banned calls in one file.
func callFaults(f *file, usedClock, usedInit map[string]bool) []string {
	var bad []string
	imports := importNames(f.ast)
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && !f.test && fn.Recv == nil && fn.Name.Name == "init" && !exceptFor(initUsers, usedInit, f.path) {
			bad = append(bad, f.at(fn)+": func init: call it from a constructor")
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		switch name := sel.Sel.Name; imports[pkg.Name] {
		case "time":
			if f.test && name != "Sleep" {
				return true // a test may look at the real clock, to bound a wait
			}
			if use, banned := clockCalls[name]; banned && !exceptFor(clockUsers, usedClock, f.path) {
				bad = append(bad, fmt.Sprintf("%s: time.%s: use %s", f.at(sel), name, use))
			}
		case "math/rand", "math/rand/v2":
			if !slices.Contains(ownRand, name) {
				bad = append(bad, fmt.Sprintf("%s: rand.%s is the process's shared generator: use rand.New with a seed that is printed", f.at(sel), name))
			}
		}
		return true
	})
	return bad
}

// importNames maps the names that a file calls its imports by to their paths.
func importNames(tree *ast.File) map[string]string {
	names := map[string]string{}
	for _, imp := range tree.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			continue
		}
		name := p[strings.LastIndexByte(p, '/')+1:]
		if p == "math/rand/v2" {
			name = "rand"
		}
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = p
	}
	return names
}

// Packages that simulation runs from a seed start nothing and wait for nothing.
func TestTier1(t *testing.T) {
	var bad []string
	used := map[string]bool{}
	for _, f := range mustFiles(t) {
		if slices.Contains(tier1, f.pkg.dir()) && !f.test {
			bad = append(bad, tier1Faults(f, exceptFor(tier1Drivers, used, f.path))...)
		}
	}
	bad = append(bad, stale(tier1Drivers, used)...)
	report(t, "tier-1 packages ("+strings.Join(tier1, ", ")+") have no goroutine, clock, chance or I/O. Cure: return an effect and let the driver in the folder above do it", bad)
}

func tier1Faults(f *file, driver bool) []string {
	var bad []string
	imports := importNames(f.ast)
	for _, p := range imports {
		if matches(tier1Imports, p) && !driver {
			bad = append(bad, fmt.Sprintf("%s: imports %s", f.path, p))
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			bad = append(bad, f.at(n)+": go statement")
		case *ast.SelectStmt:
			bad = append(bad, f.at(n)+": select statement")
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && imports[pkg.Name] == "time" && slices.Contains(timerCalls, n.Sel.Name) {
				bad = append(bad, fmt.Sprintf("%s: time.%s", f.at(n), n.Sel.Name))
			}
		}
		return true
	})
	return bad
}

// The rules notice what they should.
func TestCallFaults(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		test      bool
		calls     int // of TestBannedCalls
		tier1     int // of TestTier1
	}{
		{"clean", `import "time"; func f(t time.Time) time.Time { return t.Add(time.Second) }`, false, 0, 0},
		{"clock", `import "time"; var t = time.Now(); func f() { time.Sleep(1); _ = time.Since(t) }`, false, 3, 0},
		{"clock by another name", `import clk "time"; var t = clk.Now()`, false, 1, 0},
		{"a value is no call of the package", `import "time"; var now = time.Now`, false, 1, 0},
		{"a test may bound a wait but not sleep", `import "time"; func f() { _ = time.Now(); time.Sleep(1) }`, true, 1, 0},
		{"timers", `import "time"; func f() { <-time.After(1) }`, false, 0, 1},
		{"shared rand", `import "math/rand/v2"; var x = rand.IntN(3)`, false, 1, 0},
		{"shared rand, old", `import "math/rand"; func f() { rand.Shuffle(1, nil) }`, true, 1, 0},
		{"own rand", `import "math/rand/v2"; var x = rand.New(rand.NewPCG(1, 2)).IntN(3)`, false, 0, 0},
		{"crypto rand", `import "crypto/rand"; var x = rand.Text()`, false, 0, 1},
		{"goroutine", `func f() { go f() }`, false, 0, 1},
		{"select", `func f(c chan int) { select { case <-c: default: } }`, false, 0, 1},
		{"I/O", `import "os"; var x = os.Args`, false, 0, 1},
		{"init", `func init() {}`, false, 1, 0},
		{"a method called init", `type T int; func (T) init() {}`, false, 0, 0},
	} {
		f := parse(token.NewFileSet(), &pkg{ImportPath: module + "/x"}, "x/x.go", []byte("package x; "+tt.src+"\n"), tt.test)
		if f == nil {
			t.Fatalf("%s: does not parse", tt.name)
		}
		if got := callFaults(f, map[string]bool{}, map[string]bool{}); len(got) != tt.calls {
			t.Errorf("%s: %q, want %d", tt.name, got, tt.calls)
		}
		if got := tier1Faults(f, false); len(got) != tt.tier1 {
			t.Errorf("%s: in tier 1 %q, want %d", tt.name, got, tt.tier1)
		}
	}
}
