package subtask

import (
	"iter"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A Store is what a Machine reads state from; writing is an effect.
type Store interface {
	Load(probes []uint64, keys [][]byte, got func(i int, row []byte) error) error
	Scan(from, to []byte) iter.Seq2[[]byte, []byte]
	ScanErr() error
	Empty(id dataflow.StateID, group int) bool
	Files() []dataflow.FileRef
	Completed(epoch dataflow.Epoch)
}

// Effects is what a Machine asks of its driver. Methods record or hand over; they
// never block and never call the Machine. Except Prepared, they are called within
// a call of the Machine.
type Effects interface {
	// Send hands an item to an output channel, by index in Config.Outs order.
	Send(out int, it channel.Item)
	// Grant sends credit to the sender of an input channel.
	Grant(in int, c channel.Credit)
	// Write starts Store.WriteEpoch in the background; Machine.Written answers. One
	// at a time.
	Write(epoch dataflow.Epoch, seq int, frozen []spi.Frozen)
	// Acked hands over the part of an epoch; fresh are its files without an object.
	Acked(epoch dataflow.Epoch, part dataflow.Part, fresh []dataflow.FileRef)
	// Declined refuses an epoch.
	Declined(epoch dataflow.Epoch, err error)
	// Ended tells that nothing is left to do.
	Ended()
	// WakeAt asks for a turn at processing time us, at the latest. An earlier wish
	// stands.
	WakeAt(us int64)
	// Prepared brings the answer of a sink to Machine.Prepared. Any goroutine.
	Prepared(op int, epoch dataflow.Epoch, p spi.Prepared, err error)
	// Count adds to a counter of an operator.
	Count(op int, metric string, n int64)
}

// An Op is one operator of the chain.
type Op struct {
	Name        dataflow.OperatorID
	Parallelism int
	Parent      int // index in Config.Ops; -1 for the head
	ParentPort  int // output port of the parent
	Port        int // input port fed by the parent
	Outs        int // number of output ports

	// Exactly one of the three; Source comes with Reader.
	Runner spi.Runner
	Source spi.SourceRunner
	Writer spi.Writer

	Reader spi.Reader // nil if the subtask was restored finished
	// Bad makes batches of spi.Rejected for port 1 of a source; nil if nothing is
	// connected there.
	Bad func(capacity int) spi.Batch

	// State answers Host.State; nil if the operator has none.
	State func(name string) (id dataflow.StateID, key, value spi.Codec, err error)

	// Restored state of the operator.
	Watermark int64 // dataflow.MinTime on a fresh start
	Target    int64 // what to reach before the first row, if it is more; 0: none
	Extra     []byte
	WriterWas []byte                // state of the writer
	Marks     map[string]int64      // of a source: watermark per split
	Splits    []dataflow.SplitState // of a source without Reader: positions to keep
}

// An In is one input channel.
type In struct {
	Channel dataflow.ChannelID
	Port    int // input port of the head
}

// An Out is one outgoing edge: channels to every subtask of another chain, or to
// one.
type Out struct {
	Edge     int // index into Plan.Edges, for statistics
	Op       int // index in Config.Ops of the operator it leaves
	Port     int
	Exchange dataflow.Exchange
	Router   spi.Router // for Hash: copies rows to their receivers
	Owner    []int32    // for Hash: receiver of each key group
	Channels []dataflow.ChannelID
}

// Config is what a Machine is made of. All of it is restored and opened.
type Config struct {
	Subtask   dataflow.SubtaskID
	Attempt   dataflow.Attempt
	Groups    dataflow.KeyGroups
	KeyGroups int  // of the pipeline
	Ops       []Op // the head first, parents before children
	Ins       []In
	Outs      []Out
	Store     Store // nil: the chain has no keyed state
	Effects   Effects

	LastEpoch dataflow.Epoch // newest epoch that may have files
	Finished  bool           // restored from a part whose input had ended

	BatchRows    int   // a batch is full at; 1024
	MemoryBudget int64 // bytes that runners may hold; 64 MiB
	FlushMicros  int64 // rows wait at most so long in an open batch; 1,500
	MarkMicros   int64 // watermarks of a channel leave at most so often; 5,000
	Overflow     int64 // bytes that one user call may overshoot; 8 MiB

	// Monotonic returns nanoseconds, for figures only; nil: they stay 0.
	Monotonic func() int64

	// Window is the first window of every channel, the same in all subtasks;
	// channel.Initial.
	Window channel.Window
}

func (c *Config) defaults() {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Monotonic == nil {
		c.Monotonic = func() int64 { return 0 }
	}
	if c.BatchRows == 0 {
		c.BatchRows = 1024
	}
	if c.Window == (channel.Window{}) {
		c.Window = channel.Initial()
	}
	set(&c.MemoryBudget, 64<<20)
	set(&c.FlushMicros, 1_500) // measured from turn to turn, thus 2 ms in all
	set(&c.MarkMicros, 5_000)
	set(&c.Overflow, 8<<20)
}
