package deltalake

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxStatRunes is the length that string bounds are cut to.
const maxStatRunes = 32

// maxRune ends a cut upper bound, so that it stays above every string that was cut.
const maxRune = "\U0010FFFF"

// statsJSON returns the file's statistics in Delta's format. collect says for
// each leaf path (physical names joined by a dot) whether bounds are wanted.
func statsJSON(rows int64, roots []*pqNode, names []string, collect func(logical string) bool) string {
	var mins, maxs, nulls bytes.Buffer
	writeStats(roots, names, collect, &mins, &maxs, &nulls)
	var b bytes.Buffer
	b.WriteString(`{"numRecords":` + strconv.FormatInt(rows, 10) + `,"minValues":{`)
	b.Write(mins.Bytes())
	b.WriteString(`},"maxValues":{`)
	b.Write(maxs.Bytes())
	b.WriteString(`},"nullCount":{`)
	b.Write(nulls.Bytes())
	b.WriteString(`},"tightBounds":true}`)
	return b.String()
}

func writeStats(nodes []*pqNode, names []string, collect func(string) bool, mins, maxs, nulls *bytes.Buffer) {
	put := func(b *bytes.Buffer, name string, value []byte) {
		if len(value) == 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		key, _ := marshalPlain(name) // a string always encodes
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	for i, n := range nodes {
		switch {
		case n.typ.Kind == KindStruct:
			var cmin, cmax, cnull bytes.Buffer
			var childNames []string
			for _, c := range n.children {
				childNames = append(childNames, c.physicalName)
			}
			writeStats(n.children, childNames, collect, &cmin, &cmax, &cnull)
			for _, pair := range []struct{ to, from *bytes.Buffer }{{mins, &cmin}, {maxs, &cmax}, {nulls, &cnull}} {
				if pair.from.Len() > 0 {
					put(pair.to, names[i], []byte("{"+pair.from.String()+"}"))
				}
			}
		case n.leaf == nil:
			if collect(n.name) {
				put(nulls, names[i], strconv.AppendInt(nil, n.nulls, 10))
			}
		default:
			if !collect(n.name) {
				continue
			}
			s := &n.leaf.fileStats
			put(nulls, names[i], strconv.AppendInt(nil, s.nulls, 10))
			lo, hi := statBounds(n.typ, s)
			put(mins, names[i], lo)
			put(maxs, names[i], hi)
		}
	}
}

// statBounds returns JSON values that enclose the column; nil where Delta keeps
// no bounds or they cannot be written.
func statBounds(t *Type, s *leafStats) (lo, hi []byte) {
	if !s.set {
		return nil, nil
	}
	quote := func(text string) []byte {
		b, err := marshalPlain(text)
		if err != nil {
			return nil
		}
		return b
	}
	switch t.Kind {
	case KindByte, KindShort, KindInteger, KindLong:
		return strconv.AppendInt(nil, s.minInt, 10), strconv.AppendInt(nil, s.maxInt, 10)
	case KindFloat, KindDouble:
		bits := 64
		if t.Kind == KindFloat {
			bits = 32
		}
		if !math.IsInf(s.minF, 0) {
			lo = appendFloat(nil, s.minF, bits)
		}
		if !s.nan && !math.IsInf(s.maxF, 0) { // NaN is above every number
			hi = appendFloat(nil, s.maxF, bits)
		}
		return lo, hi
	case KindDecimal:
		return []byte(s.minDec.Text(t.Scale)), []byte(s.maxDec.Text(t.Scale))
	case KindDate:
		lo, hi := formatDate(s.minInt), formatDate(s.maxInt)
		if len(lo) != 10 || len(hi) != 10 {
			return nil, nil // outside years 0000 to 9999
		}
		return quote(lo), quote(hi)
	case KindTimestamp, KindTimestampNTZ:
		lo, hi := statTime(s.minInt, t.Kind, false), statTime(s.maxInt, t.Kind, true)
		if lo == "" || hi == "" {
			return nil, nil
		}
		return quote(lo), quote(hi)
	case KindString:
		if !utf8.Valid(s.minByte) || !utf8.Valid(s.maxByte) {
			return nil, nil
		}
		return quote(cutString(string(s.minByte), false)), quote(cutString(string(s.maxByte), true))
	}
	return nil, nil // booleans and binary have no bounds
}

// appendFloat writes a number that JSON readers take as a floating one.
func appendFloat(b []byte, x float64, bits int) []byte {
	format := byte('f')
	if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e15) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, x, format, -1, bits)
	if format == 'f' && bytes.IndexByte(b, '.') < 0 {
		b = append(b, ".0"...)
	}
	return b
}

// statTime writes microseconds as Delta's statistics do: in milliseconds, the
// upper bound rounded up.
func statTime(micros int64, k Kind, up bool) string {
	ms := floorDiv(micros, 1000)
	if up && ms*1000 != micros {
		ms++
	}
	tm := time.UnixMilli(ms).UTC()
	if tm.Year() < 0 || tm.Year() > 9999 {
		return ""
	}
	if k == KindTimestampNTZ {
		return tm.Format("2006-01-02T15:04:05.000")
	}
	return tm.Format("2006-01-02T15:04:05.000Z")
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// formatDate writes days since 1970-01-01.
func formatDate(days int64) string {
	return time.Unix(days*86400, 0).UTC().Format("2006-01-02")
}

// cutString shortens a bound to a prefix; an upper bound gets a last character
// that keeps it above what was cut.
func cutString(s string, up bool) string {
	runes := 0
	for i, r := range s {
		if runes >= maxStatRunes && (!up || r != utf8.MaxRune) {
			if up {
				return s[:i] + maxRune
			}
			return s[:i]
		}
		runes++
	}
	return s
}

// fileStatistics is the decoded form of AddFile.Stats; bounds stay JSON until
// their column's type is known.
type fileStatistics struct {
	NumRecords  *int64                     `json:"numRecords"`
	MinValues   map[string]json.RawMessage `json:"minValues"`
	MaxValues   map[string]json.RawMessage `json:"maxValues"`
	NullCount   map[string]json.RawMessage `json:"nullCount"`
	TightBounds *bool                      `json:"tightBounds"`

	walked bool      // the maps are not filled; parts has their texts, TightBounds is not read
	parts  [3]string // by statKeys
}
