// Package bad is a job that is wrong in one way, which its parameter case names: what
// Weir says of it is tested in package faults.
//
// Concurrency, durability: those of a job; the package itself has no state.
package bad

import (
	"fmt"

	"github.com/weirstream/weir/connectors/delta"
	"github.com/weirstream/weir/connectors/kafka"
	"github.com/weirstream/weir/stream"
)

// A Number is an input record.
type Number struct {
	ID  int64 `json:"id"`
	Key int64 `json:"key"`
}

// A Tally is a state that is fine.
type Tally struct{ Count int64 }

// Receive counts.
func (t *Tally) Receive(ctx stream.Context[Number], n Number) {
	t.Count++
	ctx.Emit(n)
}

// A Leaky is a state whose field would be lost.
type Leaky struct {
	Count  int64
	hidden int64
}

// Receive counts.
func (l *Leaky) Receive(ctx stream.Context[Number], n Number) {
	l.Count, l.hidden = l.Count+1, l.hidden+1
	ctx.Emit(n)
}

// A Piped is a state that no codec can hold.
type Piped struct{ Done chan int }

// Receive passes on.
func (p *Piped) Receive(ctx stream.Context[Number], n Number) { ctx.Emit(n) }

// Build is the job.
func Build(g *stream.Graph) error {
	topic := stream.Param(g, "topic", "numbers")
	table := stream.Param(g, "table", "bad/numbers")
	which := stream.Param(g, "case", "")
	var options []kafka.SourceOption
	sink := delta.Table(table)
	switch which {
	case "connection":
		options = append(options, kafka.Connection("gone"), kafka.StartupTimeout(1e9))
	case "property":
		options = append(options, kafka.Properties(map[string]string{"fetch.max.byts": "1"}))
	case "option":
		sink.Options["partiton_by"] = "key"
	case "type":
		sink.Options["merge_schema"] = "perhaps"
	case "column":
		sink = delta.Table(table, delta.PartitionBy("country"))
	case "drop":
		options = append(options, kafka.BadRecords(stream.DropBad), kafka.RefuseNullKeys(), kafka.MaxRecordBytes(100))
	case "fail", "letters":
		options = append(options, kafka.RefuseNullKeys(), kafka.MaxRecordBytes(100))
	case "unread letters":
		options = append(options, kafka.BadRecords(stream.DeadLetterBad))
	}
	numbers := stream.Read(g, "numbers", kafka.Topic(topic, stream.JSON[Number](), options...))
	byKey := stream.KeyBy(numbers, func(n Number) int64 { return n.Key })
	var rows stream.Stream[Number]
	switch which {
	case "unexported":
		rows = stream.Actors(byKey, "tally", func() *Leaky { return new(Leaky) })
	case "channel":
		rows = stream.Actors(byKey, "tally", func() *Piped { return new(Piped) })
	default:
		rows = stream.Actors(byKey, "tally", func() *Tally { return new(Tally) })
	}
	switch which {
	case "refused":
		return fmt.Errorf("the job refuses itself")
	case "twice":
		stream.Write(rows, "table", delta.Table(table))
	case "letters":
		stream.Write(stream.Rejects(numbers), "letters", delta.Table(table+"_letters"))
	}
	stream.Write(rows, "table", sink)
	return nil
}
