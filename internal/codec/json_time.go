package codec

import (
	"encoding/binary"
	"time"
)

// nanosPer is the nanoseconds in a unit of the last of n digits of a fraction.
var nanosPer = [10]int{1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 10, 1}

// parseTime reads RFC 3339 as time.Time's own UnmarshalJSON does, and also with a
// space for the T and without a zone, which is UTC then. The time is in UTC.
func parseTime(b []byte) (t time.Time, ok bool) {
	if len(b) < 19 {
		return t, false
	}
	// Eight bytes at a time: "2006-01-", "02T15:04", ":05". Under the masks of the
	// separators there must be those, elsewhere digits.
	v, w := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	const separators = 0xff0000ff00000000 // bytes 4 and 7
	if v&separators != '-'<<56|'-'<<32 || w>>40&0xff != ':' || b[16] != ':' || b[10] != 'T' && b[10] != ' ' {
		return t, false
	}
	v = v&^separators ^ 0x0030300030303030
	w = w&^0x0000ff0000ff0000 ^ 0x3030003030003030
	sec := int(b[17]-'0')*10 + int(b[18]-'0')
	if notDigits(v)|notDigits(w) != 0 || b[17]-'0' > 5 || b[18]-'0' > 9 {
		return t, false
	}
	digit := func(w uint64, i int) int { return int(w >> (8 * i) & 15) }
	year := digit(v, 0)*1000 + digit(v, 1)*100 + digit(v, 2)*10 + digit(v, 3)
	month := digit(v, 5)*10 + digit(v, 6)
	day := digit(w, 0)*10 + digit(w, 1)
	hour, minute := digit(w, 3)*10+digit(w, 4), digit(w, 6)*10+digit(w, 7)
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 {
		return t, false
	}
	i, nanos := 19, 0
	if i < len(b) && b[i] == '.' {
		start := i + 1
		for i = start; i < len(b) && b[i]-'0' <= 9; i++ {
			if i-start < 9 {
				nanos = nanos*10 + int(b[i]-'0')
			}
		}
		if i == start {
			return t, false
		}
		nanos *= nanosPer[min(i-start, 9)]
	}
	offset := 0
	switch rest := b[i:]; {
	case len(rest) == 0:
		if b[10] != ' ' {
			return t, false // RFC 3339 demands a zone
		}
	case rest[0] == 'Z' && len(rest) == 1:
	case (rest[0] == '+' || rest[0] == '-') && len(rest) == 6 && rest[3] == ':':
		h1, h0, m1, m0 := rest[1]-'0', rest[2]-'0', rest[4]-'0', rest[5]-'0'
		h, m := int(h1)*10+int(h0), int(m1)*10+int(m0)
		if h1 > 9 || h0 > 9 || m1 > 9 || m0 > 9 || h > 23 || m > 59 {
			return t, false
		}
		offset = h*3600 + m*60
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return t, false
	}
	unix := daysSinceEpoch(year, month, day)*86400 + int64(hour*3600+minute*60+sec-offset)
	return time.Unix(unix, int64(nanos)).UTC(), true
}

// notDigits is not 0 if a byte of w is above 9.
func notDigits(w uint64) uint64 { return (w | (w + 0x76*ones)) & highs }

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts the days from 1970-01-01, by years that begin in March so
// that the leap day comes last.
func daysSinceEpoch(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	year += 400 // keeps year 0 positive
	days := 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1
	return int64(days) - 719468 - 146097
}
