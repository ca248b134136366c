package streamtest_test

import (
	"os/exec"
	"strings"
	"testing"
)

// What a job imports is the standard library, stream and its seam: nothing else can
// clash with the worker that loads it.
func TestClosureOfDeclarations(t *testing.T) {
	const module = "github.com/weirstream/weir/"
	allowed := map[string]bool{"stream": true, "dataflow": true, "stream/spi": true, "stream/internal/kernel": true}
	for _, c := range []string{"kafka", "delta", "files", "gen"} {
		pkg := "connectors/" + c
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		t.Logf("%s imports, beside the standard library: %s", pkg, strings.Join(strings.Fields(string(out)), " "))
		for _, dep := range strings.Fields(string(out)) {
			if name := strings.TrimPrefix(dep, module); name != pkg && !allowed[name] {
				t.Errorf("%s imports %s", pkg, dep)
			}
		}
	}
}
