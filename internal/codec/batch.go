package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/weirstream/weir/stream/spi"
)

// A batch travels as
//
//	| rows (uvarint) | flags (1) | watermark (8, little-endian) |
//	| times: rows × zigzag varint, each less the one before      |
//	| hashes: rows × 4, little-endian; if flags has bit 0        |
//	| rows × ( length (uvarint) | value by the codec )           |
//
// Nothing follows. The schema of the rows is not in it: both ends have the same
// job version.
const batchHashes = 1

// batchHeadMin is the fewest bytes of a batch, batchRowMin of one of its rows.
const (
	batchHeadMin = 10
	batchRowMin  = 2
)

// AppendBatch appends all rows of b with their times, hashes and watermark.
func AppendBatch(dst []byte, b spi.Batch, c spi.Codec) ([]byte, error) {
	return AppendRows(dst, b, 0, b.Len(), c)
}

// AppendRows is AppendBatch for rows [from, to) of b.
func AppendRows(dst []byte, b spi.Batch, from, to int, c spi.Codec) ([]byte, error) {
	h := b.Head()
	flags := byte(0)
	if len(h.Hashes) == b.Len() && b.Len() > 0 {
		flags = batchHashes
	}
	dst = binary.AppendUvarint(dst, uint64(to-from))
	dst = append(dst, flags)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Watermark))
	last := int64(0)
	for _, t := range h.Times[from:to] {
		dst = binary.AppendVarint(dst, t-last) // may wrap, and wraps back
		last = t
	}
	if flags&batchHashes != 0 {
		for _, x := range h.Hashes[from:to] {
			dst = binary.LittleEndian.AppendUint32(dst, x)
		}
	}
	if from == to {
		return dst, nil
	}
	base, size := b.Base(), b.Elem().Size()
	prefix := 1 // rows tend to be as long as the one before
	for i := from; i < to; i++ {
		at := len(dst)
		var pad [binary.MaxVarintLen64]byte
		dst = append(dst, pad[:prefix]...)
		d, err := c.Append(dst, unsafe.Add(base, uintptr(i)*size))
		if err != nil {
			return nil, fmt.Errorf("codec: row %d of the batch: %w", i, err)
		}
		dst = d
		n := len(dst) - at - prefix
		if need := uvarintLen(uint64(n)); need != prefix {
			dst = append(dst, pad[:max(0, need-prefix)]...)
			copy(dst[at+need:], dst[at+prefix:at+prefix+n])
			dst, prefix = dst[:at+need+n], need
		}
		binary.PutUvarint(dst[at:], uint64(n))
	}
	return dst, nil
}

func uvarintLen(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

var errShortBatch = errors.New("codec: the batch ends too early")

// DecodeBatch appends the rows of src to b and takes over the watermark. Hashes
// are kept if src has them, and b has them or is empty. On an error b is as
// before, but for its hashes.
func DecodeBatch(src []byte, b spi.Batch, c spi.Codec, a *spi.Arena) error {
	rows, n := binary.Uvarint(src)
	if n <= 0 || len(src)-n < batchHeadMin-1 {
		return errShortBatch
	}
	flags := src[n]
	watermark := int64(binary.LittleEndian.Uint64(src[n+1:]))
	src = src[n+9:]
	if flags&^batchHashes != 0 {
		return fmt.Errorf("codec: the batch has unknown flags %#x: was it written by a newer version?", flags)
	}
	if rows > uint64(len(src)/batchRowMin) {
		return fmt.Errorf("codec: a batch of %d rows cannot fit in %d bytes", rows, len(src))
	}
	before := b.Len()
	err := decodeRows(src, int(rows), flags&batchHashes != 0, b, c, a)
	if err != nil {
		b.Truncate(before)
		return err
	}
	b.Head().Watermark = watermark
	return nil
}

func decodeRows(src []byte, rows int, hashes bool, b spi.Batch, c spi.Codec, a *spi.Arena) error {
	h, before := b.Head(), b.Len()
	old := h.Hashes
	if rows > 0 {
		b.Extend(rows)
	}
	last := int64(0)
	for i := range rows {
		d, n := binary.Varint(src)
		if n <= 0 {
			return errShortBatch
		}
		last += d
		h.Times[before+i] = last
		src = src[n:]
	}
	if hashes {
		if len(src)/4 < rows {
			return errShortBatch
		}
		if len(old) == before && rows > 0 {
			h.Hashes = old
			for i := range rows {
				h.Hashes = append(h.Hashes, binary.LittleEndian.Uint32(src[4*i:]))
			}
		}
		src = src[4*rows:]
	}
	size := b.Elem().Size()
	for i := range rows {
		n, used := binary.Uvarint(src)
		if used <= 0 || n > uint64(len(src)-used) {
			return errShortBatch
		}
		end := used + int(n)
		if err := c.Decode(src[used:end], unsafe.Add(b.Base(), uintptr(before+i)*size), a); err != nil {
			return fmt.Errorf("codec: row %d of the batch: %w", i, err)
		}
		src = src[end:]
	}
	if len(src) != 0 {
		return fmt.Errorf("codec: %d bytes follow the batch", len(src))
	}
	return nil
}
