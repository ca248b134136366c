// Package gen declares sources whose rows a function of the job makes, for tests,
// demos and benchmarks. The implementation is linked into the worker (package
// driver); the function runs in the job.
//
// Row i is the same in every run and at every parallelism: split k of n makes rows
// k, k+n, k+2n and so on, and the number of splits does not depend on parallelism.
//
// Concurrency: functions run on many subtasks at once. Durability: none here;
// positions are in the checkpoint.
package gen

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/weirstream/weir/stream"
)

// Kind is the name under which the implementation is linked.
const Kind = "gen"

// Forever is the count of a sequence without an end.
const Forever = -1

// Sequence declares a source of rows f(0), f(1), ..., f(count-1). f must be a pure
// function of i. Option count (left out when Forever).
func Sequence[T any](count int64, f func(i int64) T, options ...Option) stream.Source[T] {
	if f == nil {
		return Fill[T](count, nil, options...)
	}
	return Fill(count, func(i int64, row *T) { *row = f(i) }, options...)
}

// Fill is Sequence for large rows: f sets the row, which is zero before.
func Fill[T any](count int64, f func(i int64, row *T), options ...Option) stream.Source[T] {
	d := &declaration{options: map[string]string{"splits": "8"}}
	if count != Forever {
		d.options["count"] = strconv.FormatInt(count, 10)
	}
	if count < Forever {
		d.errs = append(d.errs, fmt.Errorf("gen: the count is %d: use Forever, or at least 0", count))
	}
	if f == nil {
		d.errs = append(d.errs, errors.New("gen: the function is nil"))
	}
	for _, o := range options {
		o(d)
	}
	return stream.Source[T]{
		Kind: Kind, Options: d.options, Err: errors.Join(d.errs...),
		Fill: func(dst []T, first, step int64) {
			for i := range dst {
				f(first+int64(i)*step, &dst[i])
			}
		},
	}
}

type declaration struct {
	options map[string]string
	errs    []error
}

// An Option changes a sequence. Its name in the declaration is said with each.
type Option func(d *declaration)

// Splits sets the number of splits, the most subtasks that can share the work; 8
// by default. Part of the sequence's identity: a restored job must have the same.
// Option splits.
func Splits(n int) Option {
	return func(d *declaration) {
		if n < 1 {
			d.errs = append(d.errs, fmt.Errorf("gen: %d splits: want at least 1", n))
		}
		d.options["splits"] = strconv.Itoa(n)
	}
}

// Rate limits the rows per second, over all splits; by default there is no limit.
// Option rate.
func Rate(rowsPerSecond float64) Option {
	return func(d *declaration) {
		if !(rowsPerSecond > 0) {
			d.errs = append(d.errs, fmt.Errorf("gen: a rate of %v rows per second: want more than 0", rowsPerSecond))
		}
		d.options["rate"] = strconv.FormatFloat(rowsPerSecond, 'g', -1, 64)
	}
}
