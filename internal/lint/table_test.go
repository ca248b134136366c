package lint

import (
	"path"
	"slices"
	"strings"
)

const module = "github.com/weirstream/weir"

// A house is a folder of the table in the design: a package belongs to the house
// whose path is its longest prefix. It may import lower rows and itself.
type house struct {
	row  int
	path string // below the module; the last segment may be *, one house per folder

	// also are houses of its own row or a higher one that it may import.
	also []string

	// never are packages it must not import directly, nor those below them. A
	// leading = means that package alone, without those below.
	never []string

	// only, if not nil, are all packages outside std that it may import.
	only []string
}

// io are the packages that reach outside the process.
var io = []string{"=os", "os/exec", "=net", "net/http", "syscall", "io/ioutil", "database/sql", "log/syslog"}

// engine is what connectors and jobs do not see.
var engine = within("state", "checkpoint", "cluster", "actors", "jobmanager", "taskmanager", "internal/control")

var houses = []house{
	{row: 0, path: "dataflow", only: []string{}, never: io},
	{row: 0, path: "internal/clock", only: []string{}},
	{row: 0, path: "internal/failpoint", only: []string{}},
	{row: 0, path: "internal/lint", only: []string{}},
	{row: 0, path: "internal/objstore"},
	{row: 0, path: "internal/queue", only: []string{}, never: io},
	{row: 1, path: "stream/spi", only: within("dataflow")},
	{row: 1, path: "deltalake", never: within("dataflow", "internal", "stream", "connectors")},
	{row: 1, path: "internal/control"},
	{row: 2, path: "stream/internal/kernel", only: within("dataflow", "stream/spi"), never: io},
	{row: 2, path: "internal/codec"},
	{row: 2, path: "internal/objstore/s3"},
	{row: 2, path: "internal/objstore/gcs"},
	{row: 2, path: "internal/objstore/azure"},
	{row: 3, path: "deltalake/cloud"},
	{row: 3, path: "stream", only: within("dataflow", "stream/spi", "stream/internal/kernel")},
	{row: 3, path: "state"},
	{row: 3, path: "checkpoint", never: []string{"github.com/cockroachdb/pebble/v2"}},
	{row: 3, path: "cluster"},
	{row: 3, path: "actors", never: append(within("=stream"), "github.com/hashicorp/raft", "github.com/hashicorp/memberlist", "github.com/cockroachdb/pebble/v2")},
	{row: 4, path: "connectors/internal", never: engine},
	{row: 4, path: "connectors/*", also: []string{"connectors/internal"}, only: within("dataflow", "stream", "stream/spi", "connectors/internal"), never: engine},
	{row: 4, path: "connectors/*/driver", also: []string{"connectors/*", "connectors/internal"}, never: append(within("=stream"), engine...)},
	{row: 4, path: "jobmanager", never: within("=stream", "actors")},
	{row: 4, path: "taskmanager", never: within("=stream")},
	{row: 5, path: "internal/pack"},
	{row: 5, path: "internal/builtin"},
	{row: 6, path: "local", also: []string{"internal/minicluster"}},
	{row: 6, path: "internal/minicluster"},
	{row: 7, path: "stream/streamtest"},
	{row: 7, path: "examples", never: engine},
	{row: 8, path: "bench"},
	{row: 8, path: "internal/faults", never: engine},
	{row: 9, path: "cmd"},
	{row: 9, path: "deploy"},
	{row: 9, path: "docs"},
}

// ignored are folders without code of the product.
var ignored = []string{"internal/deps"}

// tier1 are the packages that simulation runs a million times from a seed: no
// goroutine, clock, randomness or I/O, and no output in the order of a map.
var tier1 = []string{"stream/internal/kernel", "checkpoint", "actors/subtask", "actors/channel", "jobmanager/fsm", "cluster/lease"}

// tier1Drivers are files in tier-1 packages that are drivers all the same: they do
// the I/O that the deciders beside them ask for. Goroutines and clocks stay banned.
var tier1Drivers = map[string]string{}

// Sizes, in lines. What is over them has an exception here, with its reason.
const (
	maxFile     = 660 // 600 is the aim; a tenth over it is no reason to split
	maxTestFile = 900
	maxFunction = 120 // 70 is the aim; beyond this a review is due
)

// longFiles and longFunctions name what may be longer, and why.
var (
	longFiles     = map[string]string{}
	longFunctions = map[string]string{} // file:function
)

// clockUsers are folders or files that may call time.Now and its kin, and why.
var clockUsers = map[string]string{
	"internal/clock": "it is the clock",
	"deltalake":      "a public library that stands alone: its own options take the time, these are their defaults",
	"cmd":            "the binary runs in real time; nothing of it is simulated",
	"examples":       "jobs are users' code: one that wants the time of ingestion asks for it",
}

// initUsers are files that may have an init function, and why.
var initUsers = map[string]string{}

// within makes import paths of folders of this module, keeping a leading =.
func within(folders ...string) []string {
	out := make([]string, len(folders))
	for i, f := range folders {
		eq := ""
		if rest, ok := strings.CutPrefix(f, "="); ok {
			eq, f = "=", rest
		}
		out[i] = eq + module + "/" + f
	}
	return out
}

// houseOf returns the house of the package at dir (below the module), and the
// folder that the house is for it: connectors/kafka for connectors/*.
func houseOf(dir string) (h house, folder string, ok bool) {
	best := 0
	for _, c := range houses {
		if f, ok := covers(c.path, dir); ok && strings.Count(c.path, "/")+1 >= best {
			// A house named in full wins over one with a star.
			if strings.Count(c.path, "/")+1 == best && strings.Contains(c.path, "*") {
				continue
			}
			best, h, folder = strings.Count(c.path, "/")+1, c, f
		}
	}
	return h, folder, best > 0
}

// covers reports whether dir is at or below pattern, and the folder that pattern
// stands for.
func covers(pattern, dir string) (string, bool) {
	p, d := strings.Split(pattern, "/"), strings.Split(dir, "/")
	if len(d) < len(p) {
		return "", false
	}
	for i := range p {
		if p[i] != "*" && p[i] != d[i] {
			return "", false
		}
	}
	return path.Join(d[:len(p)]...), true
}

// matches reports whether the import path is one of the list, or below one.
func matches(list []string, imported string) bool {
	return slices.ContainsFunc(list, func(l string) bool {
		if exact, ok := strings.CutPrefix(l, "="); ok {
			return imported == exact
		}
		return imported == l || strings.HasPrefix(imported, l+"/")
	})
}
