package deltalake

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go/format"
)

// leafStats are the bounds of one leaf column's values that are not null.
type leafStats struct {
	set, nan         bool
	minInt, maxInt   int64
	minF, maxF       float64
	minDec, maxDec   Decimal
	minByte, maxByte []byte // owned
	nulls            int64
}

func (s *leafStats) int(x int64) {
	if !s.set {
		s.set, s.minInt, s.maxInt = true, x, x
		return
	}
	s.minInt, s.maxInt = min(s.minInt, x), max(s.maxInt, x)
}

func (s *leafStats) float(x float64) {
	if x != x {
		s.nan = true
		return
	}
	if !s.set {
		s.set, s.minF, s.maxF = true, x, x
		return
	}
	if x < s.minF {
		s.minF = x
	}
	if x > s.maxF {
		s.maxF = x
	}
}

func (s *leafStats) decimal(x Decimal) {
	if !s.set {
		s.set, s.minDec, s.maxDec = true, x, x
		return
	}
	if x.Cmp(s.minDec) < 0 {
		s.minDec = x
	}
	if x.Cmp(s.maxDec) > 0 {
		s.maxDec = x
	}
}

func (s *leafStats) bytes(b []byte) {
	if !s.set {
		s.set = true
		s.minByte, s.maxByte = append(s.minByte[:0], b...), append(s.maxByte[:0], b...)
		return
	}
	if bytes.Compare(b, s.minByte) < 0 {
		s.minByte = append(s.minByte[:0], b...)
	} else if bytes.Compare(b, s.maxByte) > 0 {
		s.maxByte = append(s.maxByte[:0], b...)
	}
}

// merge adds the bounds of t, of the same column.
func (s *leafStats) merge(t *leafStats) {
	s.nulls += t.nulls
	s.nan = s.nan || t.nan
	if !t.set {
		return
	}
	if !s.set {
		nulls, nan := s.nulls, s.nan
		*s = *t
		s.nulls, s.nan = nulls, nan
		s.minByte, s.maxByte = bytes.Clone(t.minByte), bytes.Clone(t.maxByte)
		return
	}
	s.minInt, s.maxInt = min(s.minInt, t.minInt), max(s.maxInt, t.maxInt)
	s.minF, s.maxF = min(s.minF, t.minF), max(s.maxF, t.maxF)
	if t.minDec.Cmp(s.minDec) < 0 {
		s.minDec = t.minDec
	}
	if t.maxDec.Cmp(s.maxDec) > 0 {
		s.maxDec = t.maxDec
	}
	if bytes.Compare(t.minByte, s.minByte) < 0 {
		s.minByte = bytes.Clone(t.minByte)
	}
	if bytes.Compare(t.maxByte, s.maxByte) > 0 {
		s.maxByte = bytes.Clone(t.maxByte)
	}
}

// maxStatBytes is the longest byte string whose bounds go into the Parquet footer.
const maxStatBytes = 256

// parquet returns the footer's statistics of a chunk.
func (s *leafStats) parquet(l *leafWriter) format.Statistics {
	st := format.Statistics{NullCount: l.chunkNulls}
	if !s.set {
		return st
	}
	i32 := func(x int64) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(x)) }
	i64 := func(x int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(x)) }
	switch l.typ.Kind {
	case KindByte, KindShort, KindInteger, KindDate:
		st.MinValue, st.MaxValue = i32(s.minInt), i32(s.maxInt)
	case KindLong, KindTimestamp, KindTimestampNTZ:
		st.MinValue, st.MaxValue = i64(s.minInt), i64(s.maxInt)
	case KindFloat, KindDouble:
		if s.nan {
			return st
		}
		mn, mx := s.minF, s.maxF
		if mn == 0 {
			mn = math.Copysign(0, -1)
		}
		if mx == 0 {
			mx = 0
		}
		if l.typ.Kind == KindFloat {
			st.MinValue = i32(int64(math.Float32bits(float32(mn))))
			st.MaxValue = i32(int64(math.Float32bits(float32(mx))))
		} else {
			st.MinValue, st.MaxValue = i64(int64(math.Float64bits(mn))), i64(int64(math.Float64bits(mx)))
		}
	case KindDecimal:
		switch l.phys {
		case format.Int32:
			st.MinValue, st.MaxValue = i32(int64(s.minDec.Lo)), i32(int64(s.maxDec.Lo))
		case format.Int64:
			st.MinValue, st.MaxValue = i64(int64(s.minDec.Lo)), i64(int64(s.maxDec.Lo))
		default:
			st.MinValue, st.MaxValue = appendDecimal(nil, s.minDec, l.width), appendDecimal(nil, s.maxDec, l.width)
		}
	case KindString, KindBinary:
		if len(s.minByte) <= maxStatBytes && len(s.maxByte) <= maxStatBytes {
			st.MinValue, st.MaxValue = append([]byte{}, s.minByte...), append([]byte{}, s.maxByte...) // not nil
		}
	}
	return st
}
