package queue

import (
	"context"
	"sync"
	"testing"
)

// Whatever is put by whom arrives once and in the poster's order, and no wake-up is
// lost; what is put after the end is not handed out.
func TestEach(t *testing.T) {
	const posters, each = 8, 5_000
	type item struct{ poster, n int }
	q := New[item]()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, got, ended := [posters]int{}, 0, make(chan struct{})
	go func() {
		defer close(ended)
		q.Each(ctx, func(i item) {
			if i.n != next[i.poster] {
				t.Errorf("poster %d: %d came where %d was due", i.poster, i.n, next[i.poster])
			}
			next[i.poster] = i.n + 1
			if got++; got == posters*each {
				cancel()
			}
		})
	}()
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for n := range each {
				q.Put(item{p, n})
			}
		})
	}
	wg.Wait()
	<-ended
	if got != posters*each {
		t.Errorf("%d of %d came", got, posters*each)
	}
	q.Put(item{})
	q.Each(ctx, func(i item) { t.Errorf("%v came after the end", i) })
}

// Ready has a token whenever there is something to take.
func TestReady(t *testing.T) {
	q := New[int]()
	for round := range 100 {
		q.Put(round)
		q.Put(round)
		<-q.Ready()
		if items := q.Take(); len(items) != 2 || items[0] != round {
			t.Fatalf("round %d: took %v", round, items)
		}
		if items := q.Take(); items != nil {
			t.Fatalf("round %d: took %v again", round, items)
		}
	}
}
