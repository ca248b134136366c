package deltalake

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var errPage = errors.New("deltalake: damaged Parquet page")

const (
	maxPageBytes  = 1 << 30 // unpacked
	maxPageValues = 1 << 26
)

// unpack decompresses a page whose header claims `raw` bytes. Memory grows with
// what really comes out, not with the claim.
func unpack(codec int, src []byte, raw int64, dst []byte) ([]byte, error) {
	if raw > maxPageBytes {
		return nil, fmt.Errorf("%w: it claims %d bytes", errPage, raw)
	}
	if raw == 0 {
		return dst[:0], nil
	}
	switch codec {
	case 0:
		if int64(len(src)) < raw {
			return nil, errPage
		}
		return src[:raw], nil
	case 1:
		n, err := snappy.DecodedLen(src)
		if err != nil || int64(n) != raw || n > 64*len(src)+64 {
			return nil, fmt.Errorf("%w: it claims %d bytes from %d", errPage, raw, len(src))
		}
		return snappy.Decode(dst[:cap(dst)], src)
	case 2:
		z, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPage, err)
		}
		return readExactly(z, raw, dst)
	case 4:
		return readExactly(brotli.NewReader(bytes.NewReader(src)), raw, dst)
	case 6:
		z, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPageBytes), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPage, err)
		}
		defer z.Close()
		return readExactly(z, raw, dst)
	case 7:
		if raw > 256*int64(len(src))+64 {
			return nil, fmt.Errorf("%w: it claims %d bytes from %d", errPage, raw, len(src))
		}
		out := make([]byte, raw)
		n, err := lz4.UncompressBlock(src, out)
		if err != nil || int64(n) != raw {
			return nil, fmt.Errorf("%w: lz4", errPage)
		}
		return out, nil
	}
	return nil, &UnsupportedError{"read", fmt.Sprintf("Parquet compression codec %d", codec)}
}

func readExactly(r io.Reader, n int64, dst []byte) ([]byte, error) {
	buf := bytes.NewBuffer(dst[:0])
	got, err := buf.ReadFrom(io.LimitReader(r, n+1))
	if err != nil || got != n {
		return nil, fmt.Errorf("%w: unpacks to %d bytes instead of %d", errPage, got, n)
	}
	return buf.Bytes(), nil
}

// hybrid decodes n values of the RLE / bit-packing hybrid into dst.
func hybrid[T uint8 | int32](dst []T, src []byte, width, n int) ([]T, error) {
	if width == 0 {
		return append(dst, make([]T, n)...), nil
	}
	if width > 32 {
		return dst, errPage
	}
	for n > 0 {
		h, k := binary.Uvarint(src)
		if k <= 0 {
			return dst, errPage
		}
		src = src[k:]
		if h&1 == 0 {
			size := (width + 7) / 8
			if len(src) < size {
				return dst, errPage
			}
			var v uint64
			for i := range size {
				v |= uint64(src[i]) << (8 * i)
			}
			src = src[size:]
			run := int(min(h>>1, uint64(n)))
			if run == 0 {
				return dst, errPage
			}
			at := len(dst)
			dst = append(dst, make([]T, run)...)
			if x := T(v); x != 0 {
				for i := at; i < len(dst); i++ {
					dst[i] = x
				}
			}
			n -= run
			continue
		}
		groups := h >> 1
		if groups == 0 || groups > uint64(len(src)/width)+1 {
			return dst, errPage
		}
		size := int(groups) * width
		count := min(int(groups)*8, n)
		if len(src) < size { // some writers cut the last group
			if len(src) < (count*width+7)/8 {
				return dst, errPage
			}
			size = len(src)
		}
		dst = unpackBits(dst, src[:size], width, count)
		src = src[size:]
		n -= count
	}
	return dst, nil
}

// unpackBits appends count values of width bits each.
func unpackBits[T uint8 | int32](dst []T, src []byte, width, count int) []T {
	at := len(dst)
	dst = append(dst, make([]T, count)...)
	out := dst[at:]
	mask := uint64(1)<<width - 1
	i := 0
	for bit := 0; i < count && bit/8+8 <= len(src); i, bit = i+1, bit+width {
		out[i] = T(binary.LittleEndian.Uint64(src[bit/8:]) >> (bit % 8) & mask)
	}
	for ; i < count; i++ {
		bit := i * width
		var v uint64
		for k := 0; k < 8 && bit/8+k < len(src); k++ {
			v |= uint64(src[bit/8+k]) << (8 * k)
		}
		out[i] = T(v >> (bit % 8) & mask)
	}
	return dst
}

// deltaInts decodes DELTA_BINARY_PACKED; limit is the most values there may be.
func deltaInts(src []byte, limit int) (out []int64, rest []byte, err error) {
	next := func() uint64 {
		v, k := binary.Uvarint(src)
		if k <= 0 {
			err = errPage
			src = nil
			return 0
		}
		src = src[k:]
		return v
	}
	zig := func(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
	block, minis, total, first := next(), next(), next(), zig(next())
	if err != nil || total > uint64(limit) || minis == 0 || block%128 != 0 || block == 0 || block > 1<<20 || minis > 512 || block%minis != 0 || block/minis%32 != 0 {
		return nil, nil, errPage
	}
	per := int(block / minis)
	if total == 0 {
		return nil, src, nil
	}
	out = append(make([]int64, 0, min(total, 1<<16)), first)
	for uint64(len(out)) < total {
		low := zig(next())
		if err != nil || len(src) < int(minis) {
			return nil, nil, errPage
		}
		widths := src[:minis]
		src = src[minis:]
		for _, w := range widths {
			if uint64(len(out)) >= total {
				break
			}
			size := per * int(w) / 8
			if w > 64 || len(src) < size {
				return nil, nil, errPage
			}
			count := min(per, int(total)-len(out))
			prev := out[len(out)-1]
			for i := range count {
				prev += low + int64(bitsAt(src, i*int(w), int(w)))
				out = append(out, prev)
			}
			src = src[size:]
		}
	}
	return out, src, nil
}

// bitsAt reads width bits, up to 64, at a bit position.
func bitsAt(src []byte, bit, width int) uint64 {
	if width == 0 {
		return 0
	}
	var v uint64
	at, shift := bit/8, bit%8
	for k := 0; k < 8 && at+k < len(src); k++ {
		v |= uint64(src[at+k]) << (8 * k)
	}
	v >>= shift
	if shift+width > 64 && at+8 < len(src) {
		v |= uint64(src[at+8]) << (64 - shift)
	}
	if width < 64 {
		v &= 1<<width - 1
	}
	return v
}

// byteValues are decoded byte arrays.
type byteValues struct {
	data    []byte
	offsets []int32
}

func (b *byteValues) add(v []byte) error {
	if len(b.data)+len(v) > maxPageBytes {
		return fmt.Errorf("%w: more than %d bytes of values", errPage, maxPageBytes)
	}
	b.data = append(b.data, v...)
	b.offsets = append(b.offsets, int32(len(b.data)))
	return nil
}

// plainBytes decodes n PLAIN byte arrays.
func plainBytes(src []byte, n int) (byteValues, error) {
	out := byteValues{data: make([]byte, 0, len(src)), offsets: make([]int32, 1, min(n, len(src)/4+1)+1)}
	for range n {
		if len(src) < 4 {
			return out, errPage
		}
		size := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if uint64(size) > uint64(len(src)) {
			return out, errPage
		}
		out.data = append(out.data, src[:size]...)
		out.offsets = append(out.offsets, int32(len(out.data)))
		src = src[size:]
	}
	return out, nil
}

// deltaLengthBytes decodes DELTA_LENGTH_BYTE_ARRAY.
func deltaLengthBytes(src []byte, n int) (byteValues, error) {
	out := byteValues{offsets: []int32{0}}
	sizes, rest, err := deltaInts(src, n)
	if err != nil {
		return out, err
	}
	for _, size := range sizes {
		if size < 0 || size > int64(len(rest)) {
			return out, errPage
		}
		if err := out.add(rest[:size]); err != nil {
			return out, err
		}
		rest = rest[size:]
	}
	return out, nil
}

// deltaBytes decodes DELTA_BYTE_ARRAY: shared prefixes and suffixes.
func deltaBytes(src []byte, n int) (byteValues, error) {
	out := byteValues{offsets: []int32{0}}
	prefixes, rest, err := deltaInts(src, n)
	if err != nil {
		return out, err
	}
	suffixes, err := deltaLengthBytes(rest, n)
	if err != nil || len(suffixes.offsets)-1 != len(prefixes) {
		return out, errPage
	}
	var prev []byte
	for i, p := range prefixes {
		if p < 0 || p > int64(len(prev)) {
			return out, errPage
		}
		prev = append(prev[:p], suffixes.data[suffixes.offsets[i]:suffixes.offsets[i+1]]...)
		if err := out.add(prev); err != nil {
			return out, err
		}
	}
	return out, nil
}

// unsplit undoes BYTE_STREAM_SPLIT for n values of size bytes.
func unsplit(src []byte, n, size int) ([]byte, error) {
	if size <= 0 || len(src) < n*size {
		return nil, errPage
	}
	out := make([]byte, n*size)
	for k := range size {
		for i := range n {
			out[i*size+k] = src[k*n+i]
		}
	}
	return out, nil
}

// levelWidth is the bits of levels up to top.
func levelWidth(top uint8) int { return bits.Len8(top) }
