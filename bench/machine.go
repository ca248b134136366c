package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirstream/weir/internal/clock"
)

// Machine is where a figure was taken.
type Machine struct {
	CPU     string  `json:"cpu"`
	Cores   int     `json:"cores"`
	Memory  int64   `json:"memory_bytes"`
	OS      string  `json:"os"`
	Go      string  `json:"go"`
	LoadAvg float64 `json:"load_average"` // of the last minute, at the start: above 1 others were running
}

// ThisMachine describes the machine; what cannot be found out is left zero.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		for s := bufio.NewScanner(f); s.Scan(); {
			if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
				m.CPU = strings.TrimSpace(v)
				break
			}
		}
		f.Close()
	}
	var si syscall.Sysinfo_t
	if syscall.Sysinfo(&si) == nil {
		m.Memory = int64(si.Totalram) * int64(si.Unit)
		m.LoadAvg = float64(si.Loads[0]) / (1 << 16)
	}
	return m
}

// Commit returns the commit that the program was built from, with a + if it was
// changed since; "" if nobody knows.
func Commit() string {
	rev, dirty := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				rev = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+"
			}
		}
	}
	if rev == "" {
		out, err := exec.Command("git", "rev-parse", "HEAD").Output()
		if err != nil {
			return ""
		}
		rev = strings.TrimSpace(string(out))
	}
	return rev[:min(len(rev), 12)] + dirty
}

// cpuTime returns the CPU time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("bench: getrusage: %v", err)) // cannot fail for one's own process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// CPU tells how much CPU time this process used while f ran, in ms per second, and
// what f returned.
func CPU(f func() error) (perSecond float64, err error) {
	wall := clock.Wall()
	began, used := wall.Monotonic(), cpuTime()
	err = f()
	return 1000 * rate(int64(cpuTime()-used), float64(wall.Monotonic()-began)), err
}

// peakRSS returns the most memory that this process has had resident, in bytes; 0
// where the kernel does not say. What getrusage says may be the parent's.
func peakRSS() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
