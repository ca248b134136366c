// Package job is the job under test: it counts and sums the numbers of each key,
// and writes one row per number to a Delta table and to a topic.
//
// What every row must hold follows from its id alone, so a judge needs nothing
// from the job: see package faults.
//
// Concurrency, durability: those of a job; the package itself has no state.
package job

import (
	"strconv"
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/stream"
)

// A Number is an input record.
type Number struct {
	ID  int64 `json:"id"`
	Key int64 `json:"key"`
}

// A Row says what the key's state was after the number was added to it.
type Row struct {
	ID    int64 `json:"id"`
	Key   int64 `json:"key"`
	Count int64 `json:"count"`
	Sum   int64 `json:"sum"` // of ids
}

// A Total is the state of one key.
type Total struct{ Count, Sum int64 }

// Receive adds one number.
func (t *Total) Receive(ctx stream.Context[Row], n Number) {
	t.Count++
	t.Sum += n.ID
	ctx.Emit(Row{ID: n.ID, Key: n.Key, Count: t.Count, Sum: t.Sum})
}

// Build is the job. The parameter slow makes each number of every fourth key take
// so long, so that the barriers of two sources arrive apart.
func Build(g *stream.Graph) error {
	slow := stream.Param(g, "slow", time.Duration(0))
	numbers := stream.Read(g, "numbers", kafka.Topic("in", stream.JSON[Number]()))
	even := stream.Map(numbers, "pace", func(n Number) Number {
		if slow > 0 && n.Key%4 == 0 {
			time.Sleep(slow)
		}
		return n
	})
	byKey := stream.KeyBy(even, func(n Number) int64 { return n.Key })
	rows := stream.Actors(byKey, "totals", func() *Total { return new(Total) })
	stream.Write(rows, "table", delta.Table("gold/out"))
	stream.Write(rows, "topic", kafka.To("out", kafka.Key(func(r Row) string { return strconv.FormatInt(r.Key, 10) })))
	return nil
}
