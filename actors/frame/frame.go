package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Limits of a frame, in bytes.
const (
	// MaxFrame is the most a frame measures, header and checksum included.
	MaxFrame = 256 << 10
	// MaxRow is the default of max-row-bytes: no row is larger.
	MaxRow = 16 << 20

	headerBytes = 38
	crcBytes    = 4
	maxChunk    = MaxFrame - headerBytes - crcBytes
)

// Type says what a frame carries. Those of items are the kinds of package channel.
type Type uint8

// Credit travels against the items of its channel.
const Credit Type = 16

const flagMore = 1 // the item goes on in the next frame of the channel

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Frame is one frame of a connection. Payload is valid until the next call of
// the Reader it came from.
type Frame struct {
	Type    Type
	More    bool // continued by the next frame of the channel
	Channel dataflow.ChannelID
	Attempt dataflow.Attempt
	Seq     uint64 // of the item; 0 for credit
	Part    uint32 // 0, 1, ... within the item
	Payload []byte
}

// A CorruptError reports a frame that cannot have been sent. The connection is of
// no further use, and the attempt fails.
type CorruptError struct{ Reason string }

func (e *CorruptError) Error() string { return "frame: " + e.Reason }

func corrupt(format string, args ...any) error { return &CorruptError{fmt.Sprintf(format, args...)} }

// A Codec encodes the rows of one edge.
type Codec interface {
	// Append appends all rows of b with times, hashes and watermark.
	Append(dst []byte, b spi.Batch) ([]byte, error)
	// Decode returns the rows. src may be reused afterwards.
	Decode(src []byte) (spi.Batch, error)
}

// appendFrame appends one frame.
func appendFrame(dst []byte, f Frame) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(headerBytes+len(f.Payload)+crcBytes))
	flags := byte(0)
	if f.More {
		flags = flagMore
	}
	dst = append(dst, byte(f.Type), flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.Channel.Edge))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.Channel.From))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.Channel.To))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.Attempt))
	dst = binary.LittleEndian.AppendUint64(dst, f.Seq)
	dst = binary.LittleEndian.AppendUint32(dst, f.Part)
	dst = append(dst, f.Payload...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// Parse takes the first frame of b apart and returns the bytes it measures; 0 if b
// does not hold all of it yet. The payload aliases b.
func Parse(b []byte) (f Frame, n int, err error) {
	if len(b) < 4 {
		return Frame{}, 0, nil
	}
	size := int(binary.LittleEndian.Uint32(b))
	if size < headerBytes+crcBytes || size > MaxFrame {
		return Frame{}, 0, corrupt("a frame claims %d bytes, want %d to %d", size, headerBytes+crcBytes, MaxFrame)
	}
	if len(b) < size {
		return Frame{}, 0, nil
	}
	body := b[:size-crcBytes]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(b[size-crcBytes:]); got != want {
		return Frame{}, 0, corrupt("checksum %08x, want %08x", got, want)
	}
	if body[5]&^flagMore != 0 {
		return Frame{}, 0, corrupt("unknown flags %08b", body[5])
	}
	f = Frame{
		Type: Type(body[4]), More: body[5]&flagMore != 0,
		Channel: dataflow.ChannelID{
			Edge: int(int32(binary.LittleEndian.Uint32(body[6:]))),
			From: int(int32(binary.LittleEndian.Uint32(body[10:]))),
			To:   int(int32(binary.LittleEndian.Uint32(body[14:]))),
		},
		Attempt: dataflow.Attempt(binary.LittleEndian.Uint64(body[18:])),
		Seq:     binary.LittleEndian.Uint64(body[26:]),
		Part:    binary.LittleEndian.Uint32(body[34:]),
		Payload: body[headerBytes:],
	}
	if f.Channel.Edge < 0 || f.Channel.From < 0 || f.Channel.To < 0 {
		return Frame{}, 0, corrupt("channel %s", f.Channel)
	}
	return f, size, nil
}

// A Reader takes frames from a connection.
type Reader struct {
	r        io.Reader
	buf      []byte
	from, to int
}

// NewReader returns a reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, 2*MaxFrame)} }

// Next returns the next frame; io.EOF when the connection ended between two
// frames, io.ErrUnexpectedEOF within one.
func (r *Reader) Next() (Frame, error) {
	for {
		f, n, err := Parse(r.buf[r.from:r.to])
		if err != nil || n > 0 {
			r.from += n
			return f, err
		}
		if r.from > 0 {
			r.to = copy(r.buf, r.buf[r.from:r.to])
			r.from = 0
		}
		got, err := r.r.Read(r.buf[r.to:])
		r.to += got
		if got > 0 {
			continue
		}
		if errors.Is(err, io.EOF) && r.to > 0 {
			return Frame{}, io.ErrUnexpectedEOF
		}
		if err != nil {
			return Frame{}, err
		}
	}
}

// AppendItem appends an item as one frame, or as many as it takes.
func AppendItem(dst []byte, ch dataflow.ChannelID, it channel.Item, c Codec) ([]byte, error) {
	var p []byte
	switch it.Kind {
	case channel.Rows:
		p = binary.AppendUvarint(p, uint64(it.Bytes))
		var err error
		if p, err = c.Append(p, it.Batch); err != nil {
			return dst, fmt.Errorf("frame: channel %s: %w", ch, err)
		}
	case channel.Watermark:
		p = binary.LittleEndian.AppendUint64(p, uint64(it.Time))
	case channel.Barrier:
		p = binary.LittleEndian.AppendUint64(p, uint64(it.Epoch))
		p = binary.LittleEndian.AppendUint64(p, uint64(it.Complete))
	case channel.Idle, channel.End:
	default:
		panic(fmt.Sprintf("frame: item of %s", it.Kind))
	}
	for part := uint32(0); ; part++ {
		n := min(len(p), maxChunk)
		dst = appendFrame(dst, Frame{
			Type: Type(it.Kind), More: n < len(p), Channel: ch, Attempt: it.Attempt, Seq: it.Seq, Part: part, Payload: p[:n],
		})
		if p = p[n:]; len(p) == 0 {
			return dst, nil
		}
	}
}

// AppendCredit appends credit for the sender of ch.
func AppendCredit(dst []byte, ch dataflow.ChannelID, a dataflow.Attempt, c channel.Credit) []byte {
	var p [24]byte
	binary.LittleEndian.PutUint64(p[:], uint64(c.Rows))
	binary.LittleEndian.PutUint64(p[8:], uint64(c.Bytes))
	binary.LittleEndian.PutUint64(p[16:], uint64(c.Timer))
	return appendFrame(dst, Frame{Type: Credit, Channel: ch, Attempt: a, Payload: p[:]})
}

// ParseCredit reads a frame of type Credit.
func ParseCredit(f Frame) (channel.Credit, error) {
	if f.Type != Credit || f.More || len(f.Payload) != 24 {
		return channel.Credit{}, corrupt("credit of type %d with %d bytes", f.Type, len(f.Payload))
	}
	c := channel.Credit{
		Rows:  int64(binary.LittleEndian.Uint64(f.Payload)),
		Bytes: int64(binary.LittleEndian.Uint64(f.Payload[8:])),
		Timer: int64(binary.LittleEndian.Uint64(f.Payload[16:])),
	}
	if c.Rows < 0 || c.Bytes < 0 {
		return channel.Credit{}, corrupt("credit of %d rows and %d bytes", c.Rows, c.Bytes)
	}
	return c, nil
}

// An Assembler makes items of the frames of one channel. It checks that parts
// follow each other; that items do is the business of channel.Receiver.
type Assembler struct {
	max     int
	codec   Codec
	pending []byte
	kind    Type
	attempt dataflow.Attempt
	seq     uint64
	part    uint32 // expected next; 0: a new item
}

// NewAssembler returns the assembler of a channel whose items measure at most
// maxItem bytes (0: MaxRow and as much again for the rest of its batch).
func NewAssembler(c Codec, maxItem int) *Assembler {
	if maxItem == 0 {
		maxItem = 2 * MaxRow
	}
	return &Assembler{max: maxItem, codec: c}
}

// Add takes the next frame; ok tells that it completed an item. Rows are decoded
// here: call it on the receiver's turn.
func (a *Assembler) Add(f Frame) (it channel.Item, ok bool, err error) {
	if f.Part != a.part || a.part > 0 && (f.Seq != a.seq || f.Type != a.kind || f.Attempt != a.attempt) {
		return channel.Item{}, false, corrupt("channel %s: part %d of item %d came where part %d was due", f.Channel, f.Part, f.Seq, a.part)
	}
	payload := f.Payload
	if f.More || a.part > 0 {
		if len(a.pending)+len(f.Payload) > a.max {
			return channel.Item{}, false, corrupt("channel %s: item %d is larger than %d bytes: a row exceeds max-row-bytes", f.Channel, f.Seq, a.max)
		}
		a.pending = append(a.pending, f.Payload...)
		payload = a.pending
	}
	if f.More {
		if len(f.Payload) == 0 {
			return channel.Item{}, false, corrupt("channel %s: an empty part of item %d", f.Channel, f.Seq)
		}
		a.kind, a.attempt, a.seq, a.part = f.Type, f.Attempt, f.Seq, f.Part+1
		return channel.Item{}, false, nil
	}
	it, err = a.item(f, payload)
	if cap(a.pending) > 4*MaxFrame {
		a.pending = nil // one large row does not hold its memory for ever
	}
	a.pending, a.part = a.pending[:0], 0
	return it, err == nil, err
}

func (a *Assembler) item(f Frame, p []byte) (channel.Item, error) {
	it := channel.Item{Kind: channel.Kind(f.Type), Seq: f.Seq, Attempt: f.Attempt}
	want := 0
	switch it.Kind {
	case channel.Rows:
		n, k := binary.Uvarint(p)
		if k <= 0 || int64(n) < 0 {
			return it, corrupt("channel %s: item %d does not say what it spent", f.Channel, f.Seq)
		}
		it.Bytes = int64(n)
		var err error
		if it.Batch, err = a.codec.Decode(p[k:]); err != nil {
			return it, fmt.Errorf("frame: channel %s: item %d: %w", f.Channel, f.Seq, err)
		}
		return it, nil
	case channel.Watermark:
		want = 8
	case channel.Barrier:
		want = 16
	case channel.Idle, channel.End:
	default:
		return it, corrupt("channel %s: a frame of unknown type %d", f.Channel, f.Type)
	}
	if len(p) != want {
		return it, corrupt("channel %s: %s of %d bytes, want %d", f.Channel, it.Kind, len(p), want)
	}
	switch it.Kind {
	case channel.Watermark:
		it.Time = int64(binary.LittleEndian.Uint64(p))
	case channel.Barrier:
		it.Epoch = dataflow.Epoch(binary.LittleEndian.Uint64(p))
		it.Complete = dataflow.Epoch(binary.LittleEndian.Uint64(p[8:]))
	}
	return it, nil
}
