package deltalake

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// parsedStats returns the type of a Delta checkpoint's add.stats_parsed, which
// holds statistics as columns (delta.checkpoint.writeStatsAsStruct). It is nil
// where the file has none, or where every add has its statistics as JSON too.
func (f *pqFile) parsedStats() *Type {
	add := f.root.child("add")
	if add == nil {
		return nil
	}
	parsed, text, path := add.child("stats_parsed"), add.child("stats"), add.child("path")
	if parsed == nil || path == nil || path.leaf < 0 {
		return nil
	}
	whole := text != nil && text.leaf >= 0
	for i := 0; whole && i < len(f.meta.groups); i++ {
		chunks := f.meta.groups[i].chunks
		adds, stats := chunks[path.leaf].nulls, chunks[text.leaf].nulls
		whole = adds >= 0 && stats == adds
	}
	if whole {
		return nil
	}
	t, err := parsed.deltaType()
	if err != nil || t.Kind != KindStruct {
		return nil // statistics are a help, never a need
	}
	return t
}

func (c *pqCol) child(name string) *pqCol {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// parsedStatsJSON writes row i of a stats_parsed column as AddFile.Stats.
func parsedStatsJSON(v *Vector, i int) string {
	if v == nil || v.Null(i) {
		return ""
	}
	return string(appendStatsJSON(nil, v, i))
}

// appendStatsJSON writes a value of stats_parsed; nothing for what is null, has
// no JSON form or is a struct of such.
func appendStatsJSON(b []byte, v *Vector, i int) []byte {
	if v.Null(i) {
		return b
	}
	switch v.Type.Kind {
	case KindStruct:
		open := len(b)
		for k := range v.Type.Fields {
			name, _ := marshalPlain(v.Type.Fields[k].Name) // a string always encodes
			at := len(b)
			if b = append(b, ','); at == open {
				b[at] = '{'
			}
			b = append(append(b, name...), ':')
			filled := len(b)
			if b = appendStatsJSON(b, v.Children[k], i); len(b) == filled {
				b = b[:at]
			}
		}
		if len(b) > open {
			b = append(b, '}')
		}
		return b
	case KindBoolean:
		return strconv.AppendBool(b, v.Bools[i])
	case KindByte, KindShort, KindInteger:
		return strconv.AppendInt(b, int64(v.Ints[i]), 10)
	case KindLong:
		return strconv.AppendInt(b, v.Longs[i], 10)
	case KindFloat:
		return appendFinite(b, float64(v.Floats[i]), 32)
	case KindDouble:
		return appendFinite(b, v.Doubles[i], 64)
	case KindDecimal:
		return append(b, v.Decimals[i].Text(v.Type.Scale)...)
	case KindDate:
		if text := formatDate(int64(v.Ints[i])); len(text) == len("2006-01-02") {
			return append(append(append(b, '"'), text...), '"')
		}
	case KindTimestamp, KindTimestampNTZ:
		layout := `"2006-01-02T15:04:05.000000Z"`
		if v.Type.Kind == KindTimestampNTZ {
			layout = `"2006-01-02T15:04:05.000000"`
		}
		if at := time.UnixMicro(v.Longs[i]).UTC(); at.Year() >= 0 && at.Year() <= 9999 {
			return at.AppendFormat(b, layout)
		}
	case KindString:
		text, err := marshalPlain(v.StringAt(i))
		if err == nil {
			return append(b, bytes.TrimSpace(text)...)
		}
	}
	return b
}

func appendFinite(b []byte, x float64, bits int) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return b
	}
	return appendFloat(b, x, bits)
}
