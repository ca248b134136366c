package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Bad input gets one sentence that names the thing and the cure, and nothing
// half-done: these tests hold the sentences that a user reads.

// packBad builds the pack of package bad beside that of the job.
func (w *world) packBad() string {
	w.t.Helper()
	pack := filepath.Join(w.bin, "bad.wj")
	if _, err := os.Stat(pack); err == nil {
		return pack
	}
	if _, err := command("", filepath.Join(w.bin, "weir"), "build", "-o", pack, "./bad"); err != nil {
		w.t.Fatal(err)
	}
	return pack
}

// badWorld has a topic of three good numbers and of one record that is bad in each
// way: cut JSON, a text for a number, too long, and without a key.
func badWorld(t *testing.T) (*world, *run) {
	t.Helper()
	w := newWorld(t, 1)
	w.flags = []string{"--set", "connections.kafka.gone.bootstrap.servers=127.0.0.1:1"}
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.DefaultProduceTopic("in"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	key := []byte("k")
	for _, r := range []*kgo.Record{
		{Key: key, Value: []byte(`{"id":1,"key":1}`)},
		{Key: key, Value: []byte(`{"id":2,"key":`)},
		{Key: key, Value: []byte(`{"id":3,"key":"three"}`)},
		{Key: key, Value: []byte(`{"id":4,"key":4,"note":"` + strings.Repeat("x", 100) + `"}`)},
		{Key: nil, Value: []byte(`{"id":5,"key":5}`)},
		{Key: key, Value: []byte(`{"id":6,"key":6}`)},
		{Key: key, Value: []byte(`{"id":7,"key":7}`)},
	} {
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	w.packBad()
	return w, w.startWith(nil)
}

// bad runs the bad job in one way and returns its id or the refusal.
func (r *run) bad(which string, args ...string) (string, error) {
	name := regexp.MustCompile(`\W`).ReplaceAllString(which, "-")
	out, err := r.weir(append(append([]string{"run", "--name", name, "--checkpoint-interval", "200ms", "--max-restarts", "-1", "--param", "topic=in",
		"--param", "table=bad/" + name, "--param", "case=" + which}, args...), r.w.packBad())...)
	return strings.TrimSpace(out), err
}

// reason waits until a job failed and says why.
func (r *run) reason(id string) (reason string) {
	r.w.t.Helper()
	r.until("job "+id+" has failed", func() bool {
		var job struct{ Phase, Reason string }
		out, err := r.weir("info", "-o", "json", id)
		reason = job.Reason
		if err == nil && json.Unmarshal([]byte(out), &job) == nil {
			reason = job.Reason
		}
		return job.Phase == "failed"
	})
	return reason
}

func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in: %s", w, text)
		}
	}
	t.Log(text)
}

// What can be known without running is refused before anything runs.
func TestBadJobsAreRefused(t *testing.T) {
	w, r := badWorld(t)
	for _, tt := range []struct {
		which string
		words []string
	}{
		{"option", []string{`operator "table"`, `"partiton_by"`, `did you mean "partition_by"`}},
		{"property", []string{`operator "numbers"`, `"fetch.max.byts"`, `"fetch.max.bytes"`}},
		{"type", []string{`"merge_schema"`, `"perhaps"`, "true or false"}},
		{"unexported", []string{`"tally"`, "hidden", "unexported", "export it"}},
		{"channel", []string{`"tally"`, "Done", "chan"}},
		{"unread letters", []string{`"numbers"`, "dead letters", "Rejects"}},
		{"twice", []string{`"table"`}},
		{"refused", []string{"the job refuses itself"}},
	} {
		t.Run(tt.which, func(t *testing.T) {
			id, err := r.bad(tt.which)
			if err == nil {
				t.Fatalf("it runs as %s", id)
			}
			says(t, err.Error(), tt.words...)
			if strings.Contains(err.Error(), "goroutine ") {
				t.Error("it is a stack trace")
			}
		})
	}
	out, err := r.weir("list", "-o", "json")
	if err != nil || strings.TrimSpace(out) != "[]" {
		t.Errorf("a refused job is in the list: %s %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "lake", "bad")); err == nil {
		t.Error("a refused job left something in the lake")
	}
}

// What only running can tell fails the job, with a reason.
func TestBadPlacesFailTheJob(t *testing.T) {
	_, r := badWorld(t)
	for _, tt := range []struct {
		which string
		args  []string
		words []string
	}{
		{"connection", nil, []string{"127.0.0.1:1", "connections.kafka.gone.bootstrap.servers", "broker runs"}},
		{"topic", []string{"--param", "topic=nowhere"}, []string{`"nowhere"`, "topic"}},
		{"column", nil, []string{`"country"`, "partition"}},
		{"fail", nil, []string{`topic "in" partition 0 offset 1`, "bad_records"}},
	} {
		t.Run(tt.which, func(t *testing.T) {
			id, err := r.bad(tt.which, tt.args...)
			if err != nil {
				says(t, err.Error(), tt.words...)
				return
			}
			says(t, r.reason(id), tt.words...)
		})
	}
}

// Records that cannot be read are dropped and counted, or kept as dead letters, each
// once though weir is killed between; the others are all there.
func TestBadRecordsFollowTheirPolicy(t *testing.T) {
	py := python(t)
	w, r := badWorld(t)
	for _, which := range []string{"drop", "letters"} {
		if _, err := r.bad(which, "--max-restarts", "0"); err != nil {
			t.Fatal(err)
		}
	}
	r.until("an epoch of each is complete", func() bool {
		return strings.Contains(r.logged(), `msg="checkpoint complete" job=job-000001`) && strings.Contains(r.logged(), `msg="checkpoint complete" job=job-000002`)
	})
	out, err := r.weir("info", "-o", "json", "drop")
	if err != nil {
		t.Fatal(err)
	}
	r.until("the dropped records are counted", func() bool {
		out, err = r.weir("info", "-o", "json", "drop")
		return err == nil && regexp.MustCompile(`"bad_records(_total)?": 4\b`).MatchString(out)
	})
	r.kill()
	r = w.startWith(nil)
	for _, which := range []string{"drop", "letters"} {
		r.until(which+" runs again", func() bool {
			out, err := r.weir("info", "-o", "json", which)
			return err == nil && strings.Contains(out, `"phase": "running"`)
		})
		if _, err := r.weir("stop", "--drain", which); err != nil {
			t.Fatal(err)
		}
	}
	r.interrupt()
	lake := filepath.Join(w.dir, "lake", "bad")
	for table, want := range map[string]string{
		"drop": "[1, 6, 7]", "letters": "[1, 6, 7]", "letters_letters": "[1, 2, 3, 4]",
	} {
		column := "id"
		if table == "letters_letters" {
			column = "offset"
		}
		got, err := command("", py, "-c", fmt.Sprintf("import deltalake, os; print(sorted(deltalake.DeltaTable(%q).to_pyarrow_table()[%q].to_pylist()), flush=True); os._exit(0)", filepath.Join(lake, table), column))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("table %s holds %s, want %s", table, strings.TrimSpace(got), want)
		}
	}
}

// A second cluster that writes a table under the same name is told so.
func TestTwoWritersOfOneName(t *testing.T) {
	w := newWorld(t, 97)
	w.startFeed(500, 1000)
	first := w.start()
	first.until("the table is written", func() bool { return w.sink.distinct() > 100 })
	other := filepath.Join(filepath.Dir(w.dir), "other")
	second := &world{t: t, bin: w.bin, dir: other, keys: w.keys, brokers: w.brokers, flags: []string{"--lake", filepath.Join(w.dir, "lake")}}
	second.open()
	r := second.startWith(nil)
	_, err := r.run("-p", "2")
	if err == nil {
		t.Fatal("a second writer of the same name was accepted")
	}
	says(t, err.Error(), `"gold/out"`, "already holds epoch", "--name")
	n := w.finishFeed(false)
	first.until("all numbers are in the topic", func() bool { return w.sink.distinct() >= n })
	if v := w.sink.judge(n); !v.clean() {
		t.Errorf("%s; the second writer did harm", v)
	}
}

// A lake that cannot be written, or is full, fails the attempt with a reason; when
// there is room again, nothing is lost.
func TestFullDisk(t *testing.T) {
	python(t)
	w := newWorld(t, 97)
	disk := filepath.Join(filepath.Dir(w.dir), "disk")
	if err := os.MkdirAll(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a small disk cannot be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", disk).Run() })
	w.flags, w.at = []string{"--lake", disk}, filepath.Join(disk, "gold", "out")
	w.startFeed(2000, 0)
	r := w.start()
	r.until("the disk is full", func() bool { return strings.Contains(r.logged(), "no space left on device") })
	if out, err := exec.Command("mount", "-o", "remount,size=256m", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c, _, _ := r.epochs()
	r.until("an epoch is complete again", func() bool { now, _, _ := r.epochs(); return now > c })
	n := w.finishFeed(true)
	r.until("all numbers are in the topic", func() bool { return w.sink.distinct() >= n })
	r.drain()
	w.mustBeClean(n)
}

// A table whose commits fail for ever stops the job with its reason; put right, the
// job is run again, commits what it had prepared, and nothing is lost or doubled.
func TestCommitThatNeverSucceeds(t *testing.T) {
	python(t)
	w := newWorld(t, 97)
	w.flags = []string{"--commit-timeout", "10s"}
	w.startFeed(500, 0)
	r := w.start()
	r.until("the table is written", func() bool { return w.sink.distinct() > 100 })
	log, away := filepath.Join(w.at, "_delta_log"), filepath.Join(filepath.Dir(w.dir), "away")
	if err := errors.Join(os.Rename(log, away), os.WriteFile(log, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	r.until("the trouble is told", func() bool {
		out, err := r.weir("list")
		return err == nil && strings.Contains(out, "running") && strings.Contains(out, "could not commit epoch")
	})
	says(t, r.reason(pipeline), `sink "table"`, "could not commit epoch", "tries", "_delta_log", "commit timeout of 10s")
	if err := errors.Join(os.Remove(log), os.Rename(away, log)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run("-p", "2"); err != nil {
		t.Fatal(err)
	}
	n := w.finishFeed(true)
	r.until("all numbers are in the topic", func() bool { return w.sink.distinct() >= n })
	r.drain()
	w.mustBeClean(n)
}

// Folders that cannot be written and packs that are none are named.
func TestBadCommandLines(t *testing.T) {
	w := newWorld(t, 1)
	weir := filepath.Join(w.bin, "weir")
	notPack := filepath.Join(filepath.Dir(w.dir), "not.wj")
	if err := os.WriteFile(notPack, []byte("no pack"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"unknown flag", []string{"dev", "--kafak", "x"}, []string{"--kafak"}},
		{"unknown command", []string{"rum"}, []string{"rum", "run"}},
		{"dir", []string{"dev", "--kafka", w.brokers, "--dir", "/sys/weir"}, []string{"--dir", "/sys/weir"}},
		{"dir is a file", []string{"dev", "--kafka", w.brokers, "--dir", notPack + "/x"}, []string{"--dir", "not a directory"}},
		{"no pack", []string{"dev", "--kafka", w.brokers, "--dir", w.dir, "--listen", "", "gone.wj"}, []string{"gone.wj", "no such file", ".wj"}},
		{"broken pack", []string{"dev", "--kafka", w.brokers, "--dir", w.dir, "--listen", "", notPack}, []string{notPack, "pack"}},
		{"set", []string{"dev", "--kafka", w.brokers, "--dir", w.dir, "--listen", "", "--set", "novalue"}, []string{"--set", "novalue", "KEY=VALUE"}},
		{"listen", []string{"dev", "--kafka", w.brokers, "--dir", w.dir, "--listen", strings.Split(w.brokers, ",")[0]}, []string{"--listen", "in use", "choose another"}},
		{"checkpoints", []string{"dev", "--kafka", w.brokers, "--dir", w.dir, "--listen", "", "--checkpoints", "ftp://x"}, []string{"ftp"}},
		{"no cluster", []string{"list", "--job-manager", "127.0.0.1:1"}, []string{"127.0.0.1:1", "weir dev"}},
		{"interval", []string{"dev", "--kafka", w.brokers, "--dir", w.dir, "--checkpoint-interval", "soon"}, []string{"--checkpoint-interval", "soon"}},
		{"output", []string{"list", "-o", "xml"}, []string{"xml", "json"}},
		{"main package", []string{"build", "../../cmd/weir"}, []string{"package main", "Build"}},
		{"no package", []string{"build", w.dir}, []string{w.dir}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := command("", weir, tt.args...)
			if err == nil {
				t.Fatalf("it was accepted: %s", out)
			}
			says(t, strings.TrimSpace(out), tt.words...)
			if strings.Contains(out, "goroutine ") || strings.Contains(out, "panic") {
				t.Error("it is a stack trace")
			}
		})
	}
}
