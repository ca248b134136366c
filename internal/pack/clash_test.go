package pack

import (
	"runtime/debug"
	"strings"
	"testing"
)

// Every module that job and host would link differently is named with both
// versions and a cure; equal ones and those that only one side links are not.
func TestClashes(t *testing.T) {
	host := &debug.BuildInfo{Main: debug.Module{Path: weirModule, Version: "(devel)"}, Deps: []*debug.Module{
		{Path: "a.io/same", Version: "v1.0.0"}, {Path: "a.io/newer", Version: "v1.0.0"}, {Path: "a.io/forked", Version: "v1.0.0"},
		{Path: "a.io/hostfork", Version: "v1.0.0", Replace: &debug.Module{Path: "b.io/hostfork", Version: "v1.0.1"}},
		{Path: "a.io/mine", Version: "v1.0.0"}, {Path: "a.io/old", Version: "v1.10.0"},
	}}
	pkg := func(m goModule) goPackage { return goPackage{ImportPath: m.Path, Module: &m} }
	deps := []goPackage{
		{ImportPath: "fmt", Standard: true},
		pkg(goModule{Path: weirModule, Main: true}),
		pkg(goModule{Path: "a.io/same", Version: "v1.0.0"}),
		pkg(goModule{Path: "a.io/newer", Version: "v1.2.0"}),
		pkg(goModule{Path: "a.io/newer", Version: "v1.2.0"}), // a second package of it
		pkg(goModule{Path: "a.io/forked", Version: "v1.0.0", Replace: &goModule{Path: "../fork"}}),
		pkg(goModule{Path: "a.io/hostfork", Version: "v1.0.0"}),
		pkg(goModule{Path: "a.io/mine", Main: true}),
		pkg(goModule{Path: "a.io/old", Version: "v1.9.0"}),
		pkg(goModule{Path: "a.io/jobonly", Version: "v3.0.0"}),
	}
	want := []string{
		"a.io/forked: the job has => ../fork, this weir v1.0.0: drop the replacement in the job's go.mod, or weir build --fix",
		"a.io/hostfork: the job has v1.0.0, this weir => b.io/hostfork v1.0.1: weir build --static",
		"a.io/mine: the job has a source tree, this weir v1.0.0: take it out of the workspace and require v1.0.0, or weir build --static",
		"a.io/newer: the job has v1.2.0, this weir v1.0.0: go get a.io/newer@v1.0.0 in the job's module, or weir build --fix",
		"a.io/old: the job has v1.9.0, this weir v1.10.0: this weir is not built from /tree as it is now: build it again there",
	}
	if got := (&ClashError{Clashes: clashes(deps, host, "/tree")}).Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// Weir itself is the same if both are trees, or both the same version.
func TestWeirClash(t *testing.T) {
	tree := &debug.BuildInfo{Main: debug.Module{Path: weirModule, Version: "v0.4.1-0.20260101000000-abcdefabcdef"}, Settings: []debug.BuildSetting{{Key: "vcs", Value: "git"}}}
	release := &debug.BuildInfo{Main: debug.Module{Path: weirModule, Version: "v0.4.0"}}
	for _, tt := range []struct {
		name string
		host *debug.BuildInfo
		job  goModule
		want string // in the clash; "" for none
	}{
		{"two trees", tree, goModule{Main: true}, ""},
		{"one version", release, goModule{Version: "v0.4.0"}, ""},
		{"newer version", release, goModule{Version: "v0.5.0"}, "install weir v0.5.0"},
		{"tree for a version", release, goModule{Main: true}, "build weir from that tree"},
		{"version for a tree", tree, goModule{Version: "v0.4.0"}, "--weir-source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.job.Path = weirModule
			got := clashes([]goPackage{{Module: &tt.job}}, tt.host, "")
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].Cure, tt.want)) {
				t.Errorf("clashes %v, want %q", got, tt.want)
			}
		})
	}
}

// Versions are ordered by number, pre-releases before releases.
func TestOlder(t *testing.T) {
	order := []string{"v0.0.0-20230101000000-aaaaaaaaaaaa", "v0.0.0-20240101000000-000000000000", "v0.0.1", "v0.9.0", "v0.10.0-rc.1", "v0.10.0", "v2.0.0+incompatible", "v10.0.0"}
	for i, a := range order {
		for j, b := range order {
			if got := older(a, b); got != (i < j) {
				t.Errorf("older(%s, %s) = %v", a, b, got)
			}
		}
	}
}
