package actors

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/frame"
	"github.com/weirstream/weir/dataflow"
)

// remote is the far end of a channel in another worker.
type remote struct {
	ch    dataflow.ChannelID
	link  Link
	codec frame.Codec
	out   []byte           // frames of this turn
	asm   *frame.Assembler // of an input
}

func (a *Attempt) dial(id dataflow.SubtaskID, ch dataflow.ChannelID) (*remote, error) {
	link, err := a.opts.Dialer.Dial(id)
	if err != nil {
		return nil, fmt.Errorf("channel %s: subtask %s: %w", ch, id, err)
	}
	c, err := a.opts.Rows(a.opts.Plan.Edges[ch.Edge].Edge)
	if err != nil {
		return nil, fmt.Errorf("channel %s: %w", ch, err)
	}
	return &remote{ch: ch, link: link, codec: c, asm: frame.NewAssembler(c, 0)}, nil
}

// wireBytes is how much of one channel waits for the end of the turn.
const wireBytes = 256 << 10

// sendAway encodes an item for another worker. Its container is free at once.
func (d *driver) sendAway(out int, r *remote, it channel.Item) {
	if len(r.out) == 0 {
		d.dirty = append(d.dirty, out)
	}
	b, err := frame.AppendItem(r.out, r.ch, it, r.codec)
	if err != nil {
		d.m.Kill(err)
		return
	}
	if r.out = b; it.Kind == channel.Rows {
		it.Batch.Reset()
		d.m.Reuse(out, it.Batch)
	}
	if len(r.out) >= wireBytes {
		r.link.Send(r.out)
		r.out = nil
		d.dirty = slices.DeleteFunc(d.dirty, func(i int) bool { return i == out })
	}
}

// unframe files an item from another worker.
func (d *driver) unframe(msg *framed) {
	it, ok, err := d.froms[msg.in].away.asm.Add(msg.f)
	if err != nil {
		d.m.Kill(err)
	} else if ok {
		d.m.Receive(msg.in, it)
	}
}

// Deliver takes whole frames that the link of another worker sent, in the order in
// which they were sent. It does not keep b. Frames of another attempt are
// dropped. After an error the connection is of no further use.
func (a *Attempt) Deliver(b []byte) error {
	for len(b) > 0 && a.ctx.Err() == nil { // once stopped, frames go nowhere
		f, n, err := frame.Parse(b)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("actors: %d bytes are left behind the last frame", len(b))
		}
		b = b[n:]
		if f.Attempt != a.opts.Attempt {
			continue
		}
		if err := a.deliver(f); err != nil {
			return err
		}
	}
	return nil
}

func (a *Attempt) deliver(f frame.Frame) error {
	if f.Channel.Edge >= len(a.opts.Plan.Edges) {
		return fmt.Errorf("actors: a frame of channel %s: the plan has %d edges", f.Channel, len(a.opts.Plan.Edges))
	}
	edge := a.opts.Plan.Edges[f.Channel.Edge]
	if f.Type == frame.Credit {
		d := a.byID[dataflow.SubtaskID{Chain: edge.From, Index: f.Channel.From}]
		c, err := frame.ParseCredit(f)
		if err != nil {
			return err
		}
		if i := d.channel(f.Channel, false); i >= 0 {
			a.send(d, &credit{out: i, Credit: c})
			return nil
		}
		return fmt.Errorf("actors: credit of channel %s, whose sender does not run here", f.Channel)
	}
	d := a.byID[dataflow.SubtaskID{Chain: edge.To, Index: f.Channel.To}]
	i := d.channel(f.Channel, true)
	if i < 0 {
		return fmt.Errorf("actors: a frame of channel %s, whose receiver does not run here", f.Channel)
	}
	f.Payload = bytes.Clone(f.Payload)
	a.send(d, &framed{in: i, f: f})
	return nil
}

// channel finds the number of a channel from or to another worker; -1 if it is not
// one of d, which may be nil.
func (d *driver) channel(ch dataflow.ChannelID, in bool) int {
	if d == nil {
		return -1
	}
	peers := d.peers
	if in {
		peers = d.froms
	}
	return slices.IndexFunc(peers, func(p peer) bool { return p.away != nil && p.away.ch == ch })
}

// Fail kills a subtask from outside, as when the link to another worker is lost.
func (a *Attempt) Fail(s dataflow.SubtaskID, err error) {
	if d := a.byID[s]; d != nil {
		a.send(d, died{err: err})
	}
}
