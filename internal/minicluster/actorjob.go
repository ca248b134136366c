package minicluster

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/stream"
	"github.com/weirstream/weir/stream/spi"
)

// tally is the keyed actor of runs that count with the real kernel: it begins
// anew after every lap, and its timers change state without a word.
type tally struct {
	N     int64
	Fired int64
}

const lap = 7

// Receive counts.
func (t *tally) Receive(ctx stream.Context[row], r row) {
	t.N++
	r.N = t.N
	ctx.Emit(r)
	if t.N == lap {
		ctx.Clear()
		return
	}
	ctx.SetTimer("later", rowTime(r).Add(5*time.Microsecond))
}

// OnTimer counts timers.
func (t *tally) OnTimer(stream.Context[row], string, time.Time) { t.Fired++ }

func rowTime(r row) time.Time { return time.UnixMicro(int64(uint32(r.ID))).UTC() }

// buildActors is the job as a user would write it.
func buildActors() (spi.Job, error) {
	return stream.Build(nil, func(g *stream.Graph) error {
		in := stream.Read(g, "in", stream.Source[row]{Kind: "in"}, stream.EventTime(rowTime, 2*time.Microsecond))
		byKey := stream.KeyBy(in, func(r row) uint64 { return r.Key })
		counted := stream.Actors(byKey, "count", func() *tally { return new(tally) })
		stream.Write(counted, "table", stream.Sink{Kind: "table"})
		stream.Write(counted, "topic", stream.Sink{Kind: "topic"})
		return nil
	})
}

// stateCodec is what the kernel asks of Host.State.
type stateCodec struct {
	info       dataflow.StateInfo
	key, value spi.Codec
}

// compileStates makes the codecs of the job's states and fills in their schemas.
func compileStates(job spi.Job, infos []dataflow.StateInfo) (out []stateCodec, err error) {
	for _, st := range job.States("count") {
		i := slices.IndexFunc(infos, func(s dataflow.StateInfo) bool { return s.Operator == "count" && s.Name == st.Name })
		if i < 0 {
			return nil, fmt.Errorf("state %q has no number", st.Name)
		}
		c := stateCodec{info: infos[i]}
		if st.Key != nil {
			k, err := codec.Of(st.Key)
			if err != nil {
				return nil, err
			}
			c.info.Key, c.key = k.Schema(), k
		}
		if st.Value != nil {
			if c.value, c.info.Schemas, err = codec.NewStateCodec(st.Value, c.info.Schemas); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func (a *attempt) state(name string) (dataflow.StateID, spi.Codec, spi.Codec, error) {
	for _, c := range a.states {
		if c.info.Name == name {
			return c.info.ID, c.key, c.value, nil
		}
	}
	return 0, nil, nil, fmt.Errorf("minicluster: no state %q", name)
}

// rowsOf returns the rows of a batch, whoever made it.
func rowsOf(b spi.Batch) []row {
	if b.Len() == 0 {
		return nil
	}
	return unsafe.Slice((*row)(b.Base()), b.Len())
}

// nth returns what the i-th row of a key carries, from 1.
func (sh *shape) nth(i int64) int64 {
	if sh.job != nil {
		return (i-1)%lap + 1
	}
	return i
}

// position encodes where a reader stands.
func position(at int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(at)) }
