package failpoint

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// child is what the test binary does when it is started as a victim: it hits a
// point five times and says how far it came.
const child = "FAILPOINT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	if err := Check(); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	for i := range 5 {
		fmt.Println("before", i+1)
		Hit(PartWritten, Int("epoch", int64(i+10)), Str("job", "a b"), Str("sink", "gold"))
		Hit(PartUploaded)
	}
	fmt.Println("txn-check off:", Off(TxnCheck), "alignment off:", Off(Alignment))
}

func victim(env ...string) (out string, ws syscall.WaitStatus) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append([]string{child + "=1"}, env...)...)
	b, _ := cmd.CombinedOutput()
	return string(b), cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// A process dies by SIGKILL at exactly the hit it was armed for, and its last
// line is in the log.
func TestKill(t *testing.T) {
	for _, tt := range []struct {
		name, arm, last, log string
	}{
		{"third hit", "part-written:3", "before 3\n", "failpoint=part-written hit=3 pid=PID epoch=12 job=\"a b\" sink=gold\n"},
		{"first hit by default", "part-written", "before 1\n", "failpoint=part-written hit=1 pid=PID epoch=10 job=\"a b\" sink=gold\n"},
		{"whichever comes first", "part-written:5, part-uploaded:2", "before 2\n", "failpoint=part-uploaded hit=2 pid=PID\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			out, ws := victim(EnvPoints+"="+tt.arm, EnvLog+"="+log)
			if !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("status %v, want death by SIGKILL; output %q", ws, out)
			}
			if !strings.HasSuffix(out, tt.last) {
				t.Errorf("output %q, want it to end with %q", out, tt.last)
			}
			got, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			fields := strings.Split(string(got), " ")
			for i, f := range fields {
				if strings.HasPrefix(f, "pid=") {
					fields[i] = "pid=PID"
					if strings.HasSuffix(f, "\n") {
						fields[i] += "\n"
					}
				}
			}
			if got := strings.Join(fields, " "); got != tt.log {
				t.Errorf("log %q, want %q", got, tt.log)
			}
		})
	}
}

// The log can be a descriptor that the parent holds, a pipe for instance.
func TestKillToDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), child+"=1", EnvPoints+"=part-uploaded", EnvLog+"=fd:3")
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Run()
	w.Close()
	if err == nil {
		t.Fatal("the process lived")
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("failpoint=part-uploaded hit=1 pid=%d\n", cmd.ProcessState.Pid()); got.String() != want {
		t.Errorf("log %q, want %q", got.String(), want)
	}
}

// Without arms, with arms never reached, and with guards off, the process lives.
func TestLive(t *testing.T) {
	for _, tt := range []struct {
		name, env, want string
		code            int
	}{
		{"nothing armed", "X=", "txn-check off: false alignment off: false\n", 0},
		{"not reached", EnvPoints + "=part-written:6", "txn-check off: false alignment off: false\n", 0},
		{"guard off", EnvGuards + "=txn-check", "txn-check off: true alignment off: false\n", 0},
		{"misspelt", EnvPoints + "=part-writen", "no point \"part-writen\": want one of offsets-snapshotted", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, ws := victim(tt.env)
			if ws.ExitStatus() != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("exit %d, output %q; want %d and %q", ws.ExitStatus(), out, tt.code, tt.want)
			}
		})
	}
}

// A bad environment is told in full, each fault with its cure.
func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, points, guards string
		want                 []string
	}{
		{"empty is fine", " , ", "", nil},
		{"all names", list(Points()), list(Guards()), nil},
		{"all faults at once", "raft-before:0,raft-after:x,nope,part-frozen,part-frozen:2", "txn", []string{
			`"raft-before:0": the count`, `"raft-after:x": the count`, `no point "nope"`, `"part-frozen" is named twice`, `no guard "txn"`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.points, tt.guards)
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("err = %v, want %d faults", err, len(tt.want))
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("err = %v, want %q in it", err, w)
				}
			}
		})
	}
}

// Every name is listed once.
func TestNames(t *testing.T) {
	for _, names := range [][]string{strings.Split(list(Points()), ", "), strings.Split(list(Guards()), ", ")} {
		slices.Sort(names)
		if len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("a name is listed twice: %v", names)
		}
	}
	if len(Points()) != 14 {
		t.Errorf("%d points, want 14", len(Points()))
	}
}

// Guards can be taken away and given back inside one process.
func TestSwitchOff(t *testing.T) {
	if Off(AckChain) {
		t.Fatal("off at the start")
	}
	restore := SwitchOff(AckChain)
	if !Off(AckChain) || Off(TxnCheck) || !Armed() {
		t.Error("want ack-chain off and nothing else")
	}
	restore()
	if Off(AckChain) || Armed() {
		t.Error("still off after restore")
	}
}

// Hits are counted across goroutines without a race: here none is fatal.
func TestConcurrentHits(t *testing.T) {
	s, err := parse("raft-after:1000000", "")
	if err != nil {
		t.Fatal(err)
	}
	before := current()
	state.Store(s)
	defer state.Store(before)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				Hit(RaftAfter)
				Hit(RaftBefore)
			}
		})
	}
	wg.Wait()
	if got := s.points[RaftAfter].hits.Load(); got != 8000 {
		t.Errorf("counted %d hits, want 8000", got)
	}
}

func BenchmarkUnarmed(b *testing.B) {
	b.Run("Hit", func(b *testing.B) {
		for b.Loop() {
			Hit(PartFrozen)
		}
	})
	b.Run("HitFields", func(b *testing.B) {
		n := int64(0)
		for b.Loop() {
			n++
			Hit(PartFrozen, Int("epoch", n), Str("job", "j"))
		}
	})
	b.Run("Off", func(b *testing.B) {
		for b.Loop() {
			if Off(TxnCheck) {
				b.Fatal("off")
			}
		}
	})
}

// Epochs are spoiled by their number, in turn, and only if the environment says so.
func TestSpoil(t *testing.T) {
	s := &armed{spoil: 3}
	before := current()
	state.Store(s)
	defer state.Store(before)
	var got []Spoil
	for e := int64(1); e <= 15; e++ {
		got = append(got, SpoilOf(e))
	}
	want := []Spoil{0, 0, DeclineLate, 0, 0, LoseAck, 0, 0, DeclineLate, 0, 0, DeclineEarly, 0, 0, DeclineLate}
	if !slices.Equal(got, want) {
		t.Errorf("epochs 1 to 15 are spoiled as %v, want %v", got, want)
	}
	for _, text := range []string{"0", "-1", "x"} {
		if _, err := parseSpoil(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	if n, err := parseSpoil("7"); n != 7 || err != nil {
		t.Errorf("7 gives %d, %v", n, err)
	}
}
