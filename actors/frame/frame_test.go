package frame

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/internal/fake"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Blob is a row of any size.
type blob struct{ B []byte }

// rowCodec encodes batches of blobs.
type rowCodec struct{}

func (rowCodec) Append(dst []byte, b spi.Batch) ([]byte, error) {
	rows := b.(*fake.Batch[blob])
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.Head().Watermark))
	for i, r := range rows.Values {
		dst = binary.AppendVarint(dst, b.Head().Times[i])
		dst = binary.AppendUvarint(dst, uint64(len(r.B)))
		dst = append(dst, r.B...)
	}
	return dst, nil
}

func (rowCodec) Decode(src []byte) (spi.Batch, error) {
	bad := errors.New("truncated")
	b := fake.NewBatch[blob](16)
	if len(src) < 8 {
		return nil, bad
	}
	b.Head().Watermark = int64(binary.LittleEndian.Uint64(src))
	for src = src[8:]; len(src) > 0; {
		t, n := binary.Varint(src)
		if n <= 0 {
			return nil, bad
		}
		src = src[n:]
		size, n := binary.Uvarint(src)
		if n <= 0 || size > uint64(len(src)-n) {
			return nil, bad
		}
		b.Push(blob{append([]byte{}, src[n:n+int(size)]...)}, t)
		src = src[n+int(size):]
	}
	return b, nil
}

func randomItem(r *rand.Rand) channel.Item {
	switch r.IntN(6) {
	case 0:
		return channel.Item{Kind: channel.Watermark, Time: r.Int64() - r.Int64()}
	case 1:
		return channel.Item{Kind: channel.Idle}
	case 2:
		return channel.Item{Kind: channel.Barrier, Epoch: dataflow.Epoch(r.Uint64()), Complete: dataflow.Epoch(r.Uint64())}
	}
	b := fake.NewBatch[blob](4)
	for range 1 + r.IntN(5) {
		size := r.IntN(100)
		if r.IntN(10) == 0 {
			size = r.IntN(3 * MaxFrame)
		}
		row := make([]byte, size)
		for i := range row {
			row[i] = byte(r.Uint32())
		}
		b.Push(blob{row}, r.Int64N(1000)-500)
	}
	b.Head().Watermark = r.Int64()
	return channel.Item{Kind: channel.Rows, Batch: b, Bytes: int64(r.IntN(1 << 20))}
}

// An item comes out as it went in, whatever its size, in frames of at most 256 KiB.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ch := dataflow.ChannelID{Edge: 3, From: 1, To: 70_000}
	a := NewAssembler(rowCodec{}, 0)
	for i := range 500 {
		it := randomItem(r)
		it.Seq, it.Attempt = uint64(i+1), 9
		b, err := AppendItem(nil, ch, it, rowCodec{})
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			f, n, err := Parse(b)
			if err != nil || n == 0 || n > MaxFrame || f.Channel != ch {
				t.Fatalf("item %d: frame %+v of %d bytes: %v", i, f, n, err)
			}
			b = b[n:]
			got, ok, err := a.Add(f)
			if err != nil || ok != (len(b) == 0) {
				t.Fatalf("item %d: ok %v with %d bytes left: %v", i, ok, len(b), err)
			}
			if ok && !reflect.DeepEqual(got, it) && got.Kind != channel.Rows {
				t.Fatalf("item %d: got %+v, want %+v", i, got, it)
			}
			if ok && got.Kind == channel.Rows {
				x, y := got.Batch.(*fake.Batch[blob]), it.Batch.(*fake.Batch[blob])
				if !reflect.DeepEqual(x.Values, y.Values) || !reflect.DeepEqual(x.Head().Times, y.Head().Times) || x.Head().Watermark != y.Head().Watermark || got.Bytes != it.Bytes {
					t.Fatalf("item %d: rows differ", i)
				}
			}
		}
	}
}

// A flipped bit, a lost part and a row beyond the limit are told, never delivered.
func TestDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b, _ := AppendItem(nil, dataflow.ChannelID{}, channel.Item{Kind: channel.Barrier, Epoch: 7, Seq: 1}, nil)
	for range 2000 {
		c := append([]byte{}, b...)
		c[r.IntN(len(c))] ^= 1 << r.IntN(8)
		if f, n, err := Parse(c); err == nil && n > 0 {
			t.Fatalf("a damaged frame was taken: %+v", f)
		}
	}
	big := fake.NewBatch[blob](1)
	big.Push(blob{make([]byte, 3*MaxFrame)}, 0)
	frames, _ := AppendItem(nil, dataflow.ChannelID{}, channel.Item{Kind: channel.Rows, Batch: big, Seq: 1}, rowCodec{})
	first, n, _ := Parse(frames)
	_, m, _ := Parse(frames[n:])
	third, _, _ := Parse(frames[n+m:])
	a := NewAssembler(rowCodec{}, 0)
	if _, ok, err := a.Add(first); ok || err != nil {
		t.Fatalf("first part: %v, %v", ok, err)
	}
	var gone *CorruptError
	if _, _, err := a.Add(third); !errors.As(err, &gone) {
		t.Errorf("a lost part gave %v", err)
	}
	small := NewAssembler(rowCodec{}, MaxFrame)
	var err error
	for rest := frames; len(rest) > 0 && err == nil; {
		f, n, _ := Parse(rest)
		rest = rest[n:]
		_, _, err = small.Add(f)
	}
	if !errors.As(err, &gone) {
		t.Errorf("a row beyond the limit gave %v", err)
	}
}

// A channel over a connection delivers every row in order, and never holds more
// than its window on the way: credit alone paces the sender.
func TestLoopBack(t *testing.T) {
	here, there := net.Pipe()
	ch := dataflow.ChannelID{Edge: 1}
	w := channel.Window{Rows: 50, Bytes: 4000}
	const rows = 20_000
	fail := make(chan error, 2)
	go func() { fail <- sendAll(here, ch, w, rows) }()
	recv := channel.NewReceiver(5, w)
	asm := NewAssembler(rowCodec{}, 0)
	in := NewReader(there)
	next := int64(0)
	for done := false; !done; {
		f, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		it, ok, err := asm.Add(f)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		if err := recv.Push(it); err != nil {
			t.Fatal(err)
		}
		if recv.Queued() > w.Rows {
			t.Fatalf("%d rows queued in a window of %d", recv.Queued(), w.Rows)
		}
		h := recv.Head()
		if done = h.Kind == channel.End; !done {
			for _, at := range h.Batch.Head().Times {
				if at != next {
					t.Fatalf("row %d came where %d was due", at, next)
				}
				next++
			}
		}
		recv.Pop(nil)
		if c, ok := recv.Due(0); ok {
			if _, err := there.Write(AppendCredit(nil, ch, 5, c)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if next != rows {
		t.Errorf("%d rows came, want %d", next, rows)
	}
	if err := <-fail; err != nil {
		t.Error(err)
	}
	there.Close()
	if _, err := in.Next(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("after the end: %v", err)
	}
}

// sendAll sends rows numbered by their time, as credit allows.
func sendAll(conn net.Conn, ch dataflow.ChannelID, w channel.Window, rows int64) error {
	credit := make(chan channel.Credit, 100)
	go func() {
		defer close(credit)
		for in := NewReader(conn); ; {
			f, err := in.Next()
			if err != nil {
				return
			}
			if c, err := ParseCredit(f); err == nil {
				credit <- c
			}
		}
	}()
	defer conn.Close()
	r := rand.New(rand.NewPCG(5, 6))
	s := channel.NewSender(5, w)
	for at := int64(0); at < rows; {
		room := s.Room(60)
		if room == 0 {
			c, ok := <-credit
			if !ok {
				return io.ErrUnexpectedEOF
			}
			s.Grant(c)
			continue
		}
		b := fake.NewBatch[blob](16)
		for range min(1+r.Int64N(room), rows-at) {
			b.Push(blob{make([]byte, r.IntN(60))}, at)
			at++
		}
		out, err := AppendItem(nil, ch, s.Stamp(channel.Item{Kind: channel.Rows, Batch: b, Bytes: int64(60 * b.Len())}), rowCodec{})
		if err != nil {
			return err
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
	}
	out, err := AppendItem(nil, ch, s.Stamp(channel.Item{Kind: channel.End}), nil)
	if err == nil {
		_, err = conn.Write(out)
	}
	return err
}

// Whatever arrives is an error or a frame that is written the same way again, in
// bounded memory.
func FuzzParse(f *testing.F) {
	seed, _ := AppendItem(nil, dataflow.ChannelID{Edge: 1, From: 2, To: 3}, channel.Item{Kind: channel.Barrier, Epoch: 7, Seq: 1, Attempt: 2}, nil)
	f.Add(seed)
	f.Add(AppendCredit(nil, dataflow.ChannelID{}, 1, channel.Credit{Rows: 5, Bytes: 6, Timer: 7}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, n, err := Parse(b)
		if err != nil || n == 0 {
			return
		}
		if again := appendFrame(nil, fr); string(again) != string(b[:n]) {
			t.Fatalf("frame %+v is written as %x, was %x", fr, again, b[:n])
		}
		_, _, _ = NewAssembler(rowCodec{}, 0).Add(fr)
		_, _ = ParseCredit(fr)
	})
}

// FuzzItem feeds payloads past the checksum.
func FuzzItem(f *testing.F) {
	f.Add(uint8(1), []byte{5, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		if len(payload) > maxChunk {
			return
		}
		_, _, _ = NewAssembler(rowCodec{}, 0).Add(Frame{Type: Type(kind), Payload: payload})
	})
}
