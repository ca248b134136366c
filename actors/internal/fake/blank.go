package fake

import (
	"context"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Pass hands batches on as they are, copying rows; with Swallow it drops them.
type Pass struct {
	Each

	Swallow bool
	Rows    int64
}

// Step copies as many rows as there is room for.
func (p *Pass) Step(_ int, in spi.Batch, from int) (int, error) {
	n := in.Len() - from
	if p.Swallow {
		p.Rows += int64(n)
		return n, nil
	}
	n = min(n, p.h.Room(0))
	if n > 0 {
		p.out.Append(in, from, from+n)
		p.out = p.h.Send(0, p.out).(*Batch[Row])
	}
	return n, nil
}

// Blank is a source of one split of zero rows.
type Blank struct {
	Rows int64

	at int64
}

// Check is of spi.SourceDriver.
func (s *Blank) Check(dataflow.Connector, map[string]string) error { return nil }

// Open returns the reader.
func (s *Blank) Open(context.Context, spi.Env, []dataflow.SplitState, spi.SourceRunner) (spi.Reader, error) {
	return &blank{s}, nil
}

type blank struct{ s *Blank }

func (r *blank) Splits() ([]string, int) { return []string{"0"}, 1 }

func (r *blank) Poll(b spi.Batch, max int, _ *[]spi.Rejected) (int, int, error) {
	n := int(min(int64(max), r.s.Rows-r.s.at))
	if n > 0 {
		rows := b.(*Batch[Row])
		at := len(rows.Values)
		rows.Values = rows.Values[:min(at+n, cap(rows.Values))]
		rows.head.Times = rows.head.Times[:len(rows.Values)]
		n = len(rows.Values) - at
		for i := at; i < at+n; i++ {
			rows.Values[i], rows.head.Times[i] = Row{}, r.s.at
		}
		r.s.at += int64(n)
	}
	return 0, n, nil
}

func (r *blank) Ended() bool { return r.s.at >= r.s.Rows }

func (r *blank) Snapshot() []dataflow.SplitState { return nil }

func (r *blank) Completed(dataflow.Epoch, []dataflow.SplitState) {}

func (r *blank) Lag() int64 { return -1 }

func (r *blank) Close() error { return nil }
