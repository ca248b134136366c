package fake

import (
	"encoding/binary"
	"errors"

	"github.com/weirstream/weir/stream/spi"
)

// Codec encodes batches of Row.
type Codec struct{}

// Append appends all rows of b.
func (Codec) Append(dst []byte, b spi.Batch) ([]byte, error) {
	rows := b.(*Batch[Row])
	dst = binary.LittleEndian.AppendUint64(dst, uint64(rows.head.Watermark))
	for i, r := range rows.Values {
		dst = binary.LittleEndian.AppendUint64(dst, r.Key)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Val))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(rows.head.Times[i]))
	}
	return dst, nil
}

// Decode is the inverse of Append.
func (Codec) Decode(src []byte) (spi.Batch, error) {
	if len(src)%24 != 8 {
		return nil, errors.New("fake: truncated batch")
	}
	b := NewBatch[Row](len(src) / 24)
	b.head.Watermark = int64(binary.LittleEndian.Uint64(src))
	for src = src[8:]; len(src) > 0; src = src[24:] {
		b.Push(Row{binary.LittleEndian.Uint64(src), int64(binary.LittleEndian.Uint64(src[8:]))}, int64(binary.LittleEndian.Uint64(src[16:])))
	}
	return b, nil
}
