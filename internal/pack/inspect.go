package pack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/weirstream/weir/stream/spi"
)

func decodeOne(out []byte, v any) error {
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("pack: the go command answered nonsense: %w", err)
	}
	return nil
}

// findBuild refuses a job without func Build(*stream.Graph) error in words that do
// not speak of generated code. What it cannot judge it leaves to the compiler.
func findBuild(job goPackage) error {
	for _, name := range slices.Concat(job.GoFiles, job.CgoFiles) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(job.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil // the compiler says it better
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "Build" {
					return checkBuild(job, d)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok && slices.ContainsFunc(v.Names, func(n *ast.Ident) bool { return n.Name == "Build" }) {
						return nil
					}
				}
			}
		}
	}
	return fmt.Errorf("pack: %s has no function Build: a job exports func Build(g *stream.Graph) error", job.ImportPath)
}

func checkBuild(job goPackage, d *ast.FuncDecl) error {
	graph := false
	if p := d.Type.Params; p.NumFields() == 1 {
		if star, ok := p.List[0].Type.(*ast.StarExpr); ok {
			switch x := star.X.(type) {
			case *ast.SelectorExpr:
				graph = x.Sel.Name == "Graph"
			case *ast.Ident:
				graph = true // an alias or a dot import: for the compiler to judge
			}
		}
	}
	if graph && d.Type.TypeParams == nil && d.Type.Results.NumFields() == 1 {
		return nil
	}
	return fmt.Errorf("pack: Build of %s has the wrong shape: it must be func Build(g *stream.Graph) error", job.ImportPath)
}

// inspect loads what was built in a scratch process, which answers with a Manifest.
func (b *builder) inspect(ctx context.Context, file string) (*Manifest, error) {
	answer := filepath.Join(b.tmp, "answer.json")
	params, err := json.Marshal(b.opts.Params)
	if err != nil {
		return nil, err
	}
	argv := append(slices.Clone(b.opts.Weir), file, answer, string(params))
	if b.built.Kind == KindStatic {
		argv = []string{file, InspectArg, answer, string(params)}
	}
	out, said, err := capture(exec.CommandContext(ctx, argv[0], argv[1:]...))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		if said == "" {
			said = strings.TrimSpace(string(out) + " " + err.Error())
		}
		return nil, b.refusal(said)
	}
	raw, err := os.ReadFile(answer)
	if err != nil {
		return nil, errors.New("pack: the job ended the scratch process: Build and init functions must not exit")
	}
	m := new(Manifest)
	return m, decodeOne(raw, m)
}

var otherPackage = regexp.MustCompile(`plugin was built with a different version of package (\S+)`)

// refusal words what the scratch process said.
func (b *builder) refusal(said string) error {
	if m := otherPackage.FindStringSubmatch(said); m != nil {
		pkg := strings.TrimRight(m[1], ":;,")
		if strings.HasPrefix(pkg, weirModule) {
			return fmt.Errorf("pack: the source tree that the job is built with has another %s than this weir: build weir again from it (make build), or name this weir's with --weir-source", pkg)
		}
		return fmt.Errorf("pack: job and weir link different builds of %s though the versions are equal: build weir again with make build, or the job with --static", pkg)
	}
	if i := strings.Index(said, "\ngoroutine "); i >= 0 { // a panic in an init function
		said = said[:i]
	}
	said = strings.TrimSpace(strings.TrimPrefix(said, "weir: "))
	return fmt.Errorf("pack: the job compiles but does not load: %s", said)
}

// Inspect is what the scratch process does: load a plugin, build its job with
// params (a JSON object, "" for none) and write what is known of it to the file
// out. Standard output is the job's own.
func Inspect(so, out, params string) error {
	build, err := openPlugin(so)
	if err != nil {
		return err
	}
	return InspectJob(build, out, params)
}

// InspectJob is Inspect for a job that is linked into this process.
func InspectJob(build func(map[string]string) (spi.Job, error), out, params string) error {
	var p map[string]string
	if params != "" {
		if err := json.Unmarshal([]byte(params), &p); err != nil {
			return fmt.Errorf("parameters %s: %w", params, err)
		}
	}
	job, err := build(p)
	if err != nil {
		return err
	}
	g, err := Describe(job)
	if err != nil {
		return err
	}
	b, err := json.Marshal(&Manifest{Graph: g})
	if err != nil {
		return err
	}
	return os.WriteFile(out, b, 0o644)
}
