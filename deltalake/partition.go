package deltalake

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// FormatPartitionValue writes row i of v as the log does; nil for null. Floating
// point, date and time values follow Delta's protocol.
func FormatPartitionValue(v *Vector, i int) *string {
	if v.Null(i) {
		return nil
	}
	var s string
	switch v.Type.Kind {
	case KindBoolean:
		s = strconv.FormatBool(v.Bools[i])
	case KindByte, KindShort, KindInteger:
		s = strconv.Itoa(int(v.Ints[i]))
	case KindDate:
		s = formatDate(int64(v.Ints[i]))
	case KindLong:
		s = strconv.FormatInt(v.Longs[i], 10)
	case KindTimestamp, KindTimestampNTZ:
		tm := time.UnixMicro(v.Longs[i]).UTC()
		if v.Type.Kind == KindTimestamp {
			s = tm.Format("2006-01-02T15:04:05.000000Z")
		} else {
			s = tm.Format("2006-01-02 15:04:05.000000")
		}
	case KindFloat:
		s = partitionFloat(float64(v.Floats[i]), 32)
	case KindDouble:
		s = partitionFloat(v.Doubles[i], 64)
	case KindDecimal:
		s = v.Decimals[i].Text(v.Type.Scale)
	default:
		s = v.StringAt(i)
	}
	return &s
}

func partitionFloat(x float64, bits int) string {
	switch {
	case math.IsNaN(x):
		return "NaN"
	case math.IsInf(x, 1):
		return "Infinity"
	case math.IsInf(x, -1):
		return "-Infinity"
	}
	return string(appendFloat(nil, x, bits))
}

// ParsePartitionValue adds the value that the log holds as text to v; nil and
// the empty string are null.
func ParsePartitionValue(v *Vector, text *string) error {
	if text == nil || *text == "" {
		v.AppendNull()
		return nil
	}
	s := *text
	var err error
	switch v.Type.Kind {
	case KindBoolean:
		var b bool
		if b, err = strconv.ParseBool(strings.ToLower(s)); err == nil {
			v.AppendBool(b)
		}
	case KindByte, KindShort, KindInteger:
		var n int64
		if n, err = strconv.ParseInt(s, 10, map[Kind]int{KindByte: 8, KindShort: 16, KindInteger: 32}[v.Type.Kind]); err == nil {
			v.AppendInt(int32(n))
		}
	case KindLong:
		var n int64
		if n, err = strconv.ParseInt(s, 10, 64); err == nil {
			v.AppendLong(n)
		}
	case KindFloat, KindDouble:
		var f float64
		if f, err = strconv.ParseFloat(s, 64); err == nil && v.Type.Kind == KindFloat {
			v.AppendFloat(float32(f))
		} else if err == nil {
			v.AppendDouble(f)
		}
	case KindDecimal:
		var d Decimal
		if d, err = ParseDecimal(s, v.Type.Precision, v.Type.Scale); err == nil {
			v.AppendDecimal(d)
		}
	case KindDate:
		var d int32
		if d, err = parseDate(s); err == nil {
			v.AppendInt(d)
		}
	case KindTimestamp, KindTimestampNTZ:
		var us int64
		if us, err = parseTimestamp(s); err == nil {
			v.AppendLong(us)
		}
	default:
		v.AppendString(s)
	}
	if err != nil {
		return fmt.Errorf("deltalake: partition value %q is not a %s", s, v.Type)
	}
	return nil
}

// parseDate reads yyyy-mm-dd as days since 1970-01-01; years may have a sign and
// more than four digits.
func parseDate(s string) (int32, error) {
	neg := strings.HasPrefix(s, "-")
	parts := strings.Split(strings.TrimLeft(s, "+-"), "-")
	if len(parts) != 3 {
		return 0, fmt.Errorf("deltalake: %q is not a date", s)
	}
	y, err1 := strconv.Atoi(parts[0])
	m, err2 := strconv.Atoi(parts[1])
	d, err3 := strconv.Atoi(parts[2])
	if err1 != nil || err2 != nil || err3 != nil || m < 1 || m > 12 || d < 1 || d > 31 || y > 5_000_000 {
		return 0, fmt.Errorf("deltalake: %q is not a date", s)
	}
	if neg {
		y = -y
	}
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	if t.Day() != d {
		return 0, fmt.Errorf("deltalake: %q is not a date", s)
	}
	return int32(floorDiv(t.Unix(), 86400)), nil
}

// parseTimestamp reads a timestamp as microseconds since 1970-01-01; without a
// zone it is UTC.
func parseTimestamp(s string) (int64, error) {
	text := strings.Replace(s, " ", "T", 1)
	for _, layout := range []string{"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00",
		"2006-01-02T15:04", "2006-01-02T15:04:05.999999999Z0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Unix()*1e6 + int64(t.Nanosecond())/1000, nil
		}
	}
	if d, err := parseDate(text); err == nil {
		return int64(d) * 86400e6, nil
	}
	return 0, fmt.Errorf("deltalake: %q is not a timestamp", s)
}

// PartitionKey tells the partitions of a table apart: files of the same partition
// values have the same key.
func (a *AddFile) PartitionKey() string { return partitionKey(a.PartitionValues) }
