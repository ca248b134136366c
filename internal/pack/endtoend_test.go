package pack

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A weirCLI is the weir of this tree, built as make build does it.
type weirCLI struct {
	t   *testing.T
	bin string
	dir string // working folder
}

func buildWeir(t *testing.T) *weirCLI {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: it builds weir and plugins; run go test ./internal/pack without -short")
	}
	w := &weirCLI{t: t, dir: t.TempDir()}
	w.bin = filepath.Join(w.dir, "weir")
	cmd := exec.Command("go", "build", "-trimpath", "-o", w.bin, "./cmd/weir")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return w
}

// run runs weir and returns what it printed and said.
func (w *weirCLI) run(args ...string) (out, said string, err error) {
	cmd := exec.CommandContext(w.t.Context(), w.bin, args...)
	cmd.Dir = w.dir
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// lines returns the lines of all files that a files sink wrote, sorted.
func (w *weirCLI) lines(folder string) []string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, folder, "part-*"))
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	}
	slices.Sort(out)
	return out
}

// testdata unpacks a module of testdata: "-- NAME --" begins a file, $WEIR stands for
// this tree.
func testdata(t *testing.T, name string) string {
	t.Helper()
	archive, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, part := range strings.Split("\n"+string(archive), "\n-- ")[1:] {
		file, text, _ := strings.Cut(part, " --\n")
		files[file] = strings.ReplaceAll(text, "$WEIR", tree(t)) + "\n"
	}
	return writeFiles(t, files)
}

func tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A job in a module of its own is built against this weir, its clash is named in
// one line, pinned with --fix, and the plugin then runs; its own go.mod is left
// alone.
func TestOutsideModule(t *testing.T) {
	w := buildWeir(t)
	job := testdata(t, "outside")
	before, err := os.ReadFile(filepath.Join(job, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}

	out, said, err := w.run("build", job)
	const clash = "github.com/lithammer/shortuuid/v4: the job has v4.2.0, this weir v4.0.0: go get github.com/lithammer/shortuuid/v4@v4.0.0 in the job's module, or weir build --fix"
	if err == nil || out != "" || !strings.HasSuffix(said, "weir: "+clash+"\n") {
		t.Fatalf("error %v, printed %q, said %q", err, out, said)
	}
	out, _, err = w.run("build", job, "--json")
	var answer struct{ Clashes []Clash }
	if jerr := json.Unmarshal([]byte(out), &answer); err == nil || jerr != nil || len(answer.Clashes) != 1 || answer.Clashes[0].String() != clash {
		t.Fatalf("error %v, answer %s", err, out)
	}
	if packs, _ := filepath.Glob(filepath.Join(w.dir, "*"+Suffix)); len(packs) > 0 {
		t.Fatalf("%v were written", packs)
	}

	out, said, err = w.run("build", job, "--fix")
	if err != nil || out != "shop.wj\n" || !strings.Contains(said, "pinned github.com/lithammer/shortuuid/v4 to v4.0.0 (the job asks for v4.2.0)") {
		t.Fatalf("error %v, printed %q, said %s", err, out, said)
	}
	after, err := os.ReadFile(filepath.Join(job, "go.mod"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the job's go.mod was changed: %v\n%s", err, after)
	}
	m, err := Open(filepath.Join(w.dir, "shop.wj"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind != KindPlugin || m.Package != "example.com/shop" || !slices.Contains(m.Modules, "github.com/lithammer/shortuuid/v4@v4.0.0") {
		t.Errorf("manifest %+v", m)
	}
	if out, said, err := w.run("dev", "--dir", "data", "--listen", "", "--kafka", "127.0.0.1:9", "--until-done", "shop.wj"); err != nil {
		t.Fatalf("%v\n%s%s", err, out, said)
	}
	if rows := w.lines("counts"); len(rows) != 1000 {
		t.Errorf("%d rows, want 1000", len(rows))
	}
	w.refusals()
}

// refusals builds a job whose Build refuses, panics or exits.
func (w *weirCLI) refusals() {
	job := testdata(w.t, "refusing")
	for param, want := range map[string]string{
		"how=error": "the job compiles but does not load: stream: build: no shop is open",
		"how=panic": "the job compiles but does not load: stream: build: the build function panicked: assignment to entry in nil map",
		"how=exit":  "the job ended the scratch process: Build and init functions must not exit",
		"how=type":  `operator "in"`,
	} {
		_, said, err := w.run("build", job, "--param", param, "--weir-source", tree(w.t))
		if err == nil || !strings.Contains(said, want) || strings.Contains(said, "goroutine ") {
			w.t.Errorf("%s: error %v, said %q, want %q", param, err, said, want)
		}
	}
	if packs, _ := filepath.Glob(filepath.Join(w.dir, "refusing*")); len(packs) > 0 {
		w.t.Errorf("%v were written", packs)
	}
}

// A job that needs a newer module than weir has becomes a static pack, which says
// so and runs in a worker process beside plugins.
func TestStaticFallback(t *testing.T) {
	if os.Getenv("WEIR_PACK") != "full" && os.Getenv("WEIR_NO_SKIP") == "" {
		t.Skip("skipped: it compiles half of weir anew (a minute); run WEIR_PACK=full go test ./internal/pack")
	}
	w := buildWeir(t)
	job := testdata(t, "unpinnable")
	_, said, err := w.run("build", job)
	if err == nil || strings.Count(said, "or weir build --fix\n") != 2 || !strings.Contains(said, "github.com/fatih/color: the job has v1.18.0") ||
		!strings.Contains(said, "github.com/mattn/go-isatty: the job has v0.0.20") {
		t.Fatalf("error %v, said %s, want two clashes", err, said)
	}
	out, said, err := w.run("build", job, "--fix", "--json")
	var built Built
	if jerr := json.Unmarshal([]byte(out), &built); err != nil || jerr != nil || built.Kind != KindStatic || !strings.Contains(built.Fallback, "undefined: color.RGB") {
		t.Fatalf("error %v, answer %s, said %s", err, out, said)
	}
	if !strings.Contains(said, "paint.wj is a static pack, because no plugin can be made") {
		t.Errorf("said %s", said)
	}
	if out, said, err := w.run("dev", "--dir", "data", "--listen", "", "--kafka", "127.0.0.1:9", "--until-done", "paint.wj"); err != nil {
		t.Fatalf("%v\n%s%s", err, out, said)
	}
	if rows := w.lines("painted"); len(rows) != 100 {
		t.Errorf("%d rows, want 100", len(rows))
	}
	// The executable is a program of its own, too.
	exe, err := (&Loader{Dir: w.dir}).Executable(filepath.Join(w.dir, "paint.wj"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-dir", "alone", "-name", "alone")
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "alone runs as job-000001") || !strings.Contains(string(out), "job-000001 finished") {
		t.Errorf("%v\n%s", err, out)
	}
}
