package pack

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
)

// A Clash is a module that job and worker would link in different versions: Go
// refuses such a plugin.
type Clash struct {
	Module string `json:"module"`
	Job    string `json:"job"`  // version after version selection, "=> other" where it is replaced
	Weir   string `json:"weir"` // version that weir is linked with
	Cure   string `json:"cure"`

	selected string // version to exclude when pinning; "" where that is no cure
	pin      string // version to pin to
}

func (c Clash) String() string {
	return fmt.Sprintf("%s: the job has %s, this weir %s: %s", c.Module, c.Job, c.Weir, c.Cure)
}

// A ClashError holds every clash of a job with the weir that would load it.
type ClashError struct{ Clashes []Clash }

func (e *ClashError) Error() string {
	lines := make([]string, len(e.Clashes))
	for i, c := range e.Clashes {
		lines[i] = c.String()
	}
	return strings.Join(lines, "\n")
}

// goModule is a module as `go list` tells it.
type goModule struct {
	Path, Version, Dir, GoMod, GoVersion string
	Main                                 bool
	Replace                              *goModule
}

// linked says what a module's code is: its version, or what stands in for it.
func (m *goModule) linked() string {
	switch {
	case m.Replace != nil:
		return strings.TrimSpace("=> " + m.Replace.Path + " " + m.Replace.Version)
	case m.Version == "":
		return "a source tree"
	}
	return m.Version
}

func linkedInHost(m *debug.Module) string {
	if m.Replace != nil {
		return strings.TrimSpace("=> " + m.Replace.Path + " " + m.Replace.Version)
	}
	return m.Version
}

// clashes compares the modules of a job's packages with those of the host. tree is
// the folder of weir's source tree that the job is built with, "" if weir comes
// by version.
func clashes(deps []goPackage, info *debug.BuildInfo, tree string) []Clash {
	host := map[string]*debug.Module{}
	for _, d := range info.Deps {
		host[d.Path] = d
	}
	var out []Clash
	seen := map[string]bool{}
	for _, p := range deps {
		m := p.Module
		if m == nil || seen[m.Path] {
			continue
		}
		seen[m.Path] = true
		if m.Path == weirModule {
			out = append(out, weirClash(m, info, tree)...)
			continue
		}
		h := host[m.Path]
		if h == nil || linkedInHost(h) == m.linked() {
			continue
		}
		out = append(out, clashOf(m, h, tree))
	}
	slices.SortFunc(out, func(a, b Clash) int { return cmp.Compare(a.Module, b.Module) })
	return out
}

func clashOf(m *goModule, h *debug.Module, tree string) Clash {
	c := Clash{Module: m.Path, Job: m.linked(), Weir: linkedInHost(h)}
	switch {
	case h.Replace != nil:
		c.Cure = "weir build --static"
	case m.Main:
		c.Cure = "take it out of the workspace and require " + h.Version + ", or weir build --static"
	case m.Replace != nil:
		c.pin = h.Version
		c.Cure = "drop the replacement in the job's go.mod, or weir build --fix"
	case tree != "" && older(m.Version, h.Version):
		c.Cure = "this weir is not built from " + tree + " as it is now: build it again there"
	default:
		c.pin, c.selected = h.Version, m.Version
		c.Cure = fmt.Sprintf("go get %s@%s in the job's module, or weir build --fix", m.Path, h.Version)
	}
	return c
}

// weirClash compares weir itself: a tree with a tree, a version with a version.
func weirClash(m *goModule, info *debug.BuildInfo, tree string) []Clash {
	version := releaseOf(info)
	switch {
	case version == "" && m.Version == "", version != "" && m.Version == version && m.Replace == nil:
		return nil // the scratch process judges whether a tree is the same tree
	case version == "":
		return []Clash{{Module: weirModule, Job: m.linked(), Weir: "a source tree", Cure: "name the tree with --weir-source, or weir build --static"}}
	case m.Version == "" || m.Replace != nil:
		return []Clash{{Module: weirModule, Job: m.linked(), Weir: version, Cure: "build weir from that tree, or weir build --static"}}
	}
	c := Clash{Module: weirModule, Job: m.Version, Weir: version, pin: version, selected: m.Version}
	c.Cure = fmt.Sprintf("go get %s@%s in the job's module, or install weir %s", weirModule, version, m.Version)
	return []Clash{c}
}

// releaseOf returns the version of weir that the host was installed as with `go
// install MODULE/cmd/weir@VERSION`, "" if it was built from a source tree: then its
// packages bear no version, whatever the tree's tag says.
func releaseOf(info *debug.BuildInfo) string {
	if info.Main.Path != weirModule || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs" {
			return ""
		}
	}
	return info.Main.Version
}

// older compares two versions by their numbers; pre-releases and builds come
// before the release. Equal or unreadable ones are not older.
func older(a, b string) bool {
	na, pa := numbers(a)
	nb, pb := numbers(b)
	if c := slices.Compare(na, nb); c != 0 {
		return c < 0
	}
	switch {
	case pa == "" || pb == "":
		return pa != "" && pb == ""
	}
	return pa < pb // enough for pseudo-versions: they begin with their time
}

func numbers(v string) (n []int, pre string) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
	v, pre, _ = strings.Cut(v, "-")
	for _, part := range strings.Split(v, ".") {
		k := 0
		if _, err := fmt.Sscanf(part, "%d", &k); err != nil {
			return nil, ""
		}
		n = append(n, k)
	}
	return n, pre
}
