// Package job is the job under test: it counts and sums the numbers of each key,
// and writes one row per number to a Delta table and to a topic.
//
// What every row must hold follows from its id alone, so a judge needs nothing
// from the job: see package faults.
//
// Concurrency, durability: those of a job; the package itself has no state.
package job

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/internal/clock"
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
type Total struct {
	Count int32
	Sum   int64
	Note  string
}

// Receive adds one number.
func (t *Total) Receive(ctx stream.Context[Row], n Number) {
	t.Count++
	t.Sum += n.ID
	t.Note = strconv.FormatInt(n.ID, 10)
	ctx.Emit(Row{ID: n.ID, Key: n.Key, Count: int64(t.Count), Sum: t.Sum})
}

// A WiderTotal is the next version of Total: a field wider, one more, one less.
type WiderTotal struct {
	Count   int64
	Sum     int64
	Largest int64
}

// Receive adds one number.
func (t *WiderTotal) Receive(ctx stream.Context[Row], n Number) {
	t.Count++
	t.Sum += n.ID
	t.Largest = max(t.Largest, n.ID)
	ctx.Emit(Row{ID: n.ID, Key: n.Key, Count: t.Count, Sum: t.Sum})
}

// A TextTotal cannot take over the state of the others: its count is a text.
type TextTotal struct {
	Count string
	Sum   int64
}

// Receive adds one number.
func (t *TextTotal) Receive(ctx stream.Context[Row], n Number) {
	t.Count, t.Sum = t.Count+"I", t.Sum+n.ID
	ctx.Emit(Row{ID: n.ID, Key: n.Key, Count: int64(len(t.Count)), Sum: t.Sum})
}

// Build is the job. The parameter slow makes each number of every fourth key take
// so long, so that the barriers of two sources arrive apart; version says which type
// holds the state: 1, 2 (WiderTotal), 3 (TextTotal), or 4 for one under another name.
func Build(g *stream.Graph) error {
	slow := stream.Param(g, "slow", time.Duration(0))
	numbers := stream.Read(g, "numbers", kafka.Topic("in", stream.JSON[Number]()))
	paced := stream.Map(numbers, "pace", func(n Number) Number {
		if slow > 0 && n.Key%4 == 0 {
			if err := clock.Sleep(context.Background(), clock.Wall(), slow); err != nil {
				panic(err) // nobody cancels it
			}
		}
		return n
	})
	byKey := stream.KeyBy(paced, func(n Number) int64 { return n.Key })
	var rows stream.Stream[Row]
	switch version := stream.Param(g, "version", 1); version {
	case 1:
		rows = stream.Actors(byKey, "totals", func() *Total { return new(Total) })
	case 2:
		rows = stream.Actors(byKey, "totals", func() *WiderTotal { return new(WiderTotal) })
	case 3:
		rows = stream.Actors(byKey, "totals", func() *TextTotal { return new(TextTotal) })
	case 4:
		rows = stream.Actors(byKey, "sums", func() *Total { return new(Total) })
	default:
		return fmt.Errorf("there is no version %d", version)
	}
	stream.Write(rows, "table", delta.Table("gold/out"))
	stream.Write(rows, "topic", kafka.To("out", kafka.Key(func(r Row) string { return strconv.FormatInt(r.Key, 10) })))
	return nil
}
