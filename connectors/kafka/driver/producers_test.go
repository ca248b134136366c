package driver

import (
	"context"
	"slices"
	"testing"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Subtasks of one sink share a client where no transaction keeps them apart. One that
// leaves takes nothing of the others with it; the next attempt has a client of its own.
func TestSinkShares(t *testing.T) {
	for _, g := range []string{exactlyOnce, atLeastOnce, noGuarantee} {
		t.Run(g, func(t *testing.T) {
			c := cluster(t, map[string]int32{"out": 2})
			s := Sink{Producers: new(Producers)}
			open := func(index int, attempt dataflow.Attempt) (*world, *writer) {
				wd := newWorld()
				env := wd.env("snk", index, 2, sink("guarantee", g, "linger.ms", "50"), c.ListenAddrs())
				env.Attempt = attempt
				w, err := s.OpenWriter(context.Background(), env, nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { w.Close() })
				if err := w.Start(context.Background()); err != nil {
					t.Fatal(err)
				}
				return wd, w.(*writer)
			}
			world0, w0 := open(0, 1)
			world1, w1 := open(1, 1)
			_, next := open(0, 2)
			write(t, world0, w0, people(0, 100)...)
			write(t, world1, w1, people(100, 200)...)
			if shares := w0.open.client == w1.open.client; shares != (g != exactlyOnce) {
				t.Errorf("subtasks share a client: %v", shares)
			}
			if g == exactlyOnce {
				return
			}
			if next.open.client == w0.open.client {
				t.Error("two attempts share a client")
			}
			if err := w0.Close(); err != nil {
				t.Fatal(err)
			}
			write(t, world1, w1, people(200, 300)...)
			prepareLast(t, w1, 1)
			got, _ := visible(t, c.ListenAddrs(), true)
			mine := slices.DeleteFunc(ids(got), func(id int) bool { return id < 100 })
			if !slices.Equal(mine, upTo(100, 300)) {
				t.Errorf("the subtask that stayed wrote %v", mine)
			}
			w1.Close()
			next.Close()
			if n := len(s.Producers.shared); n != 0 {
				t.Errorf("%d clients are left", n)
			}
		})
	}
}

// Without a guarantee no epoch waits for rows. The last one does, and so does an
// orderly end without one.
func TestSinkWithoutGuaranteeEnds(t *testing.T) {
	for _, last := range []bool{true, false} {
		c := cluster(t, map[string]int32{"out": 2})
		wd := newWorld()
		w := openWriter(t, wd.env("snk", 0, 1, sink("guarantee", noGuarantee, "linger.ms", "500"), c.ListenAddrs()), nil)
		write(t, wd, w, people(0, 1000)...)
		prepare(t, w, 1)
		write(t, wd, w, people(1000, 2000)...)
		if last {
			prepareLast(t, w, 2)
		} else if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, _ := visible(t, c.ListenAddrs(), true); !slices.Equal(ids(got), upTo(0, 2000)) {
			t.Errorf("last epoch %v: %d rows of 2,000 are in the topic", last, len(got))
		}
	}
}

func prepareLast(t *testing.T, w spi.Writer, epoch dataflow.Epoch) {
	t.Helper()
	done := make(chan error, 1)
	w.Prepare(epoch, true, func(_ spi.Prepared, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
