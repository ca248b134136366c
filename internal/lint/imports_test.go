package lint

import (
	"fmt"
	"strings"
	"testing"
)

// A package imports only lower rows; folders of one row do not import each other.
func TestImports(t *testing.T) {
	var bad []string
	for _, p := range mustPackages(t) {
		bad = append(bad, importFaults(p)...)
	}
	report(t, "the import table (design, section 1; internal/lint/table_test.go). Cure: declare the small interface that you need and let a higher row pass it in", bad)
}

// importFaults compares the direct imports of p with the table.
func importFaults(p *pkg) []string {
	dir := p.dir()
	h, folder, ok := houseOf(dir)
	if !ok {
		return []string{fmt.Sprintf("%s: it is in no row: add a line to table_test.go (an RFC, if the design does not name it)", dir)}
	}
	var bad []string
	for _, imported := range p.Imports {
		inModule := imported == module || strings.HasPrefix(imported, module+"/")
		third := strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
		switch {
		case inModule && belongs(imported, folder):
			continue // its own house
		case matches(h.never, imported):
			bad = append(bad, fmt.Sprintf("%s imports %s: %s never does", dir, short(imported), h.path))
			continue
		case h.only != nil && third && !matches(exactly(h.only), imported):
			bad = append(bad, fmt.Sprintf("%s imports %s: outside std %s imports only %s", dir, short(imported), h.path, names(h.only)))
			continue
		case !inModule:
			continue
		}
		to := strings.TrimPrefix(imported, module+"/")
		other, otherFolder, ok := houseOf(to)
		switch {
		case !ok:
			bad = append(bad, fmt.Sprintf("%s imports %s, which is in no row", dir, to))
		case other.row < h.row || allowed(h.also, otherFolder):
		case other.row == h.row:
			bad = append(bad, fmt.Sprintf("%s imports %s: both are in row %d", dir, to, h.row))
		default:
			bad = append(bad, fmt.Sprintf("%s (row %d) imports %s (row %d)", dir, h.row, to, other.row))
		}
	}
	return bad
}

// belongs reports whether the imported package's house is folder.
func belongs(imported, folder string) bool {
	_, f, ok := houseOf(strings.TrimPrefix(imported, module+"/"))
	return ok && f == folder
}

func allowed(also []string, folder string) bool {
	for _, a := range also {
		if _, ok := covers(a, folder); ok {
			return true
		}
	}
	return false
}

// exactly makes "stream" mean that package alone, and not stream/streamtest; what
// may be imported is always named in full, connectors/internal excepted.
func exactly(only []string) []string {
	out := make([]string, len(only))
	for i, o := range only {
		out[i] = "=" + o
		if strings.HasSuffix(o, "/internal") {
			out[i] = o
		}
	}
	return out
}

func short(path string) string { return strings.TrimPrefix(path, module+"/") }

func names(paths []string) string {
	if len(paths) == 0 {
		return "nothing"
	}
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = short(p)
	}
	return strings.Join(out, ", ")
}

// What a job links from us is std, stream, spi, kernel and dataflow, and its
// connectors' declarations: everything else would have to be the identical build
// in job and worker.
func TestJobClosure(t *testing.T) {
	base := within("dataflow", "stream", "stream/spi", "stream/internal/kernel")
	var bad []string
	for _, p := range mustPackages(t) {
		dir := p.dir()
		h, folder, _ := houseOf(dir)
		if dir != "stream" && (h.path != "connectors/*" || dir != folder) {
			continue
		}
		deps, err := goList("-deps", "./"+dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range deps {
			if d.Standard || d.ImportPath == p.ImportPath || matches(exactly(base), d.ImportPath) || matches(within("connectors/internal"), d.ImportPath) {
				continue
			}
			bad = append(bad, fmt.Sprintf("%s depends on %s", dir, short(d.ImportPath)))
		}
	}
	report(t, "a job's closure is std, "+names(base)+" and declarations. Cure: move what needs more into connectors/X/driver, or out of stream", bad)
}

// The rules notice what they should.
func TestImportFaults(t *testing.T) {
	for _, tt := range []struct {
		dir, imports, want string
	}{
		{"dataflow", "fmt", ""},
		{"dataflow", "os", "never"},
		{"dataflow", module + "/internal/clock", "imports only nothing"},
		{"dataflow", "github.com/x/y", "imports only nothing"},
		{"state", module + "/dataflow", ""},
		{"state", module + "/checkpoint", "both are in row 3"},
		{"checkpoint", module + "/internal/objstore", ""},
		{"checkpoint", "github.com/cockroachdb/pebble/v2/sstable", "never"},
		{"actors", module + "/actors/subtask", ""},
		{"actors/subtask", module + "/stream/spi", ""},
		{"actors/subtask", module + "/stream", "never"},
		{"actors", "github.com/hashicorp/raft", "never"},
		{"stream", module + "/stream/internal/kernel", ""},
		{"stream", "github.com/x/y", "imports only dataflow"},
		{"stream", module + "/stream/streamtest", "imports only"},
		{"stream/internal/kernel", "os/exec", "never"},
		{"connectors/kafka", module + "/stream", ""},
		{"connectors/kafka", module + "/connectors/internal/option", ""},
		{"connectors/kafka", module + "/connectors/delta", "imports only"},
		{"connectors/kafka", "github.com/twmb/franz-go/pkg/kgo", "imports only"},
		{"connectors/kafka/driver", "github.com/twmb/franz-go/pkg/kgo", ""},
		{"connectors/kafka/driver", module + "/connectors/kafka", ""},
		{"connectors/kafka/driver", module + "/connectors/delta", ""},
		{"connectors/kafka/driver", module + "/state", "never"},
		{"jobmanager", module + "/checkpoint", ""},
		{"jobmanager", module + "/jobmanager/fsm", ""},
		{"jobmanager", module + "/actors", "never"},
		{"jobmanager", module + "/stream/spi", ""},
		{"jobmanager", module + "/taskmanager", "both are in row 4"},
		{"internal/objstore/s3", module + "/internal/objstore", ""},
		{"internal/objstore", module + "/internal/objstore/s3", "(row 0) imports internal/objstore/s3 (row 2)"},
		{"internal/objstore/objstoretest", module + "/internal/objstore", ""},
		{"deltalake", module + "/internal/clock", "never"},
		{"local", module + "/cmd/weir", "(row 6) imports cmd/weir (row 9)"},
		{"util", "fmt", "in no row"},
	} {
		got := strings.Join(importFaults(&pkg{ImportPath: module + "/" + tt.dir, Imports: []string{tt.imports}}), "; ")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s importing %s: %q, want %q", tt.dir, tt.imports, got, tt.want)
		}
	}
}
