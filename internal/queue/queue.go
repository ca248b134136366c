// Package queue is an unbounded mailbox between goroutines.
//
// It is for control traffic, which is a few messages per epoch: putting never
// blocks, so two parties that put to each other cannot deadlock. Rows never
// travel through it.
//
// Concurrency: Put from any goroutine; Take, Ready and Each from one.
package queue

import (
	"context"
	"sync"
)

// A Queue holds values in the order they were put. The zero value is not usable.
type Queue[T any] struct {
	mu    sync.Mutex
	items []T
	ready chan struct{} // holds a token while items is not empty
}

// New returns an empty queue.
func New[T any]() *Queue[T] { return &Queue[T]{ready: make(chan struct{}, 1)} }

// Put appends v. It never blocks.
func (q *Queue[T]) Put(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// Ready delivers a token when there is something to take; it may be a false alarm.
func (q *Queue[T]) Ready() <-chan struct{} { return q.ready }

// Take removes and returns everything; nil when empty.
func (q *Queue[T]) Take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

// Each calls f with each value until ctx is done.
func (q *Queue[T]) Each(ctx context.Context, f func(T)) {
	for {
		for _, v := range q.Take() {
			if ctx.Err() != nil {
				return
			}
			f(v)
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return
		}
	}
}
