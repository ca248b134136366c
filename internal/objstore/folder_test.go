package objstore_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
)

// Environment that turns the test binary into a second process.
const (
	childRole = "OBJSTORE_TEST_ROLE" // race or write
	childRoot = "OBJSTORE_TEST_ROOT"
	childName = "OBJSTORE_TEST_NAME"
	raceKeys  = 200
)

func TestMain(m *testing.M) {
	switch os.Getenv(childRole) {
	case "race":
		raceChild()
	case "write":
		writeChild()
	default:
		os.Exit(m.Run())
	}
}

func must(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func openChild() *objstore.Folder {
	s, err := objstore.OpenFolder(os.Getenv(childRoot), objstore.FolderOptions{NoSync: true})
	must(err)
	return s
}

// raceChild waits for its parent, then tries to win every key and prints those it
// won.
func raceChild() {
	s := openChild()
	fmt.Println("ready")
	_, err := io.ReadAll(os.Stdin)
	must(err)
	for i := range raceKeys {
		key := fmt.Sprintf("log/%06d", i)
		err := objstore.PutBytesIfAbsent(context.Background(), s, key, []byte(os.Getenv(childName)))
		switch {
		case err == nil:
			fmt.Println(key)
		case !errors.Is(err, objstore.ErrExists):
			must(err)
		}
	}
	fmt.Println("done")
}

// writeChild writes objects that name their own checksum until it is killed.
func writeChild() {
	s := openChild()
	for i := 0; ; i++ {
		body := bytes.Repeat([]byte(fmt.Sprintf("%s %d ", os.Getenv(childName), i)), 20_000)
		sum := fmt.Sprintf("%x", sha256.Sum256(body))
		must(objstore.PutBytesIfAbsent(context.Background(), s, "once/"+sum, body))
		must(objstore.PutBytes(context.Background(), s, fmt.Sprintf("again/%d", i%4), append([]byte(sum), body...)))
		fmt.Println("wrote", sum)
	}
}

func startChild(t *testing.T, role, root, name string) (*exec.Cmd, io.WriteCloser, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role, childRoot+"="+root, childName+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, in, bufio.NewScanner(out)
}

// Of racing processes exactly one wins each key, and the object is the winner's.
func TestFolderProcessesRace(t *testing.T) {
	root := t.TempDir()
	const processes = 4
	var cmds []*exec.Cmd
	var ins []io.WriteCloser
	var outs []*bufio.Scanner
	for p := range processes {
		cmd, in, out := startChild(t, "race", root, fmt.Sprint("process ", p))
		cmds, ins, outs = append(cmds, cmd), append(ins, in), append(outs, out)
	}
	for _, out := range outs {
		if !out.Scan() || out.Text() != "ready" {
			t.Fatalf("child said %q, want ready", out.Text())
		}
	}
	for _, in := range ins {
		in.Close() // go
	}
	winners := map[string]int{}
	for p, out := range outs {
		done := false
		for out.Scan() {
			switch key := out.Text(); {
			case key == "done":
				done = true
			case !strings.HasPrefix(key, "log/"):
				t.Fatalf("process %d: %s", p, key)
			default:
				if other, ok := winners[key]; ok {
					t.Errorf("%s was won by %d and %d", key, other, p)
				}
				winners[key] = p
			}
		}
		if err := cmds[p].Wait(); err != nil || !done {
			t.Errorf("process %d: %v, done %v", p, err, done)
		}
	}
	if len(winners) != raceKeys {
		t.Errorf("%d keys were won, want %d", len(winners), raceKeys)
	}
	s, err := objstore.OpenFolder(root, objstore.FolderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for key, p := range winners {
		if got, want := string(mustRead(t, s, key)), fmt.Sprint("process ", p); got != want {
			t.Errorf("%s holds %q, its winner is %q", key, got, want)
		}
	}
	share := map[int]int{}
	for _, p := range winners {
		share[p]++
	}
	t.Logf("won by process: %v", share)
}

func mustRead(t *testing.T, s objstore.Store, key string) []byte {
	t.Helper()
	b, err := objstore.ReadAll(t.Context(), s, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A process killed with SIGKILL leaves whole objects and what it was told is
// there; its unfinished files are swept by the next open.
func TestFolderKill(t *testing.T) {
	root := t.TempDir()
	told := map[string]bool{}
	for round := range 8 {
		cmd, _, out := startChild(t, "write", root, fmt.Sprint("round ", round))
		for range round + 1 {
			if !out.Scan() {
				t.Fatal("the child ended")
			}
			sum, ok := strings.CutPrefix(out.Text(), "wrote ")
			if !ok {
				t.Fatal(out.Text())
			}
			told[sum] = true
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		s, err := objstore.OpenFolder(root, objstore.FolderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if left := tempFiles(t, root); len(left) > 0 {
			t.Errorf("round %d: the sweep left %q", round, left)
		}
		for info, err := range objstore.All(t.Context(), s, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			body := mustRead(t, s, info.Key)
			sum := strings.TrimPrefix(info.Key, "once/")
			if sum == info.Key {
				sum, body = string(body[:64]), body[64:]
			}
			if fmt.Sprintf("%x", sha256.Sum256(body)) != sum {
				t.Errorf("round %d: %s is not whole", round, info.Key)
			}
		}
		for sum := range told {
			if _, err := s.Stat(t.Context(), "once/"+sum); err != nil {
				t.Errorf("round %d: a written object is gone: %v", round, err)
			}
		}
		s.Close()
	}
}

func tempFiles(t *testing.T, root string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(root, ".weir-tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// The sweep of one process spares the unfinished object of another that lives.
func TestFolderSweepSparesTheLiving(t *testing.T) {
	root := t.TempDir()
	s, err := objstore.OpenFolder(root, objstore.FolderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.MkdirAll(filepath.Join(root, ".weir-tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, ".weir-tmp", "dead-1"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- s.Put(t.Context(), "k", r, 6) }()
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	other, err := objstore.OpenFolder(root, objstore.FolderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if left := tempFiles(t, root); len(left) != 1 || strings.Contains(left[0], "dead") {
		t.Errorf("after the sweep %q are left, want the living one", left)
	}
	if page, err := other.List(t.Context(), "", "", 0); err != nil || len(page) > 0 {
		t.Errorf("List = %v, %v; an unfinished object must not be listed", page, err)
	}
	if _, err := w.Write([]byte("def")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := string(mustRead(t, other, "k")); got != "abcdef" {
		t.Errorf("read %q", got)
	}
	if left := tempFiles(t, root); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// No key reaches outside the root, not through links that someone left in it.
func TestFolderNoEscape(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": outside, "file": filepath.Join(outside, "secret"), "up": "../" + filepath.Base(outside)} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := objstore.OpenFolder(root, objstore.FolderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, key := range []string{"dir/secret", "file", "up/secret"} {
		if b, err := objstore.ReadAll(t.Context(), s, key); err == nil {
			t.Errorf("%s reads %q from outside", key, b)
		}
	}
	for _, key := range []string{"dir/new", "up/new"} {
		if err := objstore.PutBytes(t.Context(), s, key, []byte("y")); err == nil {
			t.Errorf("%s was written", key)
		}
		if err := s.Delete(t.Context(), strings.Replace(key, "new", "secret", 1)); err == nil {
			t.Errorf("%s: Delete through a link out of the root was taken", key)
		}
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside has %v, %v; want the secret alone", entries, err)
	}
}

// An object and a folder of one name cannot both be; the error says so.
func TestFolderNameClash(t *testing.T) {
	s, err := objstore.OpenFolder(t.TempDir(), objstore.FolderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(objstore.PutBytes(t.Context(), s, "a/b", nil))
	must(objstore.PutBytes(t.Context(), s, "c", nil))
	for _, tt := range []struct {
		key, want string
		put       func() error
	}{
		{"a", "other objects have this key as a folder", func() error { return objstore.PutBytes(t.Context(), s, "a", nil) }},
		{"a if absent", "other objects have this key as a folder", func() error { return objstore.PutBytesIfAbsent(t.Context(), s, "a", nil) }},
		{"c/d", "a part of the key before a '/' is itself an object", func() error { return objstore.PutBytes(t.Context(), s, "c/d", nil) }},
		{"c/d/e if absent", "a part of the key before a '/' is itself an object", func() error { return objstore.PutBytesIfAbsent(t.Context(), s, "c/d/e", nil) }},
	} {
		if err := tt.put(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.key, err, tt.want)
		}
	}
	var got []string
	for info, err := range objstore.All(t.Context(), s, "", "") {
		must(err)
		got = append(got, info.Key)
	}
	if !slices.Equal(got, []string{"a/b", "c"}) {
		t.Errorf("keys %q", got)
	}
}
