package codec

import "time"

// parseTime reads RFC 3339 as time.Time's own UnmarshalJSON does, and also with a
// space for the T and without a zone, which is UTC then. The time is in UTC.
func parseTime(b []byte) (t time.Time, ok bool) {
	if len(b) < 19 || b[4] != '-' || b[7] != '-' || b[10] != 'T' && b[10] != ' ' || b[13] != ':' || b[16] != ':' {
		return t, false
	}
	// Anything but a digit makes d wrap to a large number.
	bad := byte(0)
	two := func(i int) int {
		hi, lo := b[i]-'0', b[i+1]-'0'
		if hi > 9 || lo > 9 {
			bad = 1
		}
		return int(hi)*10 + int(lo)
	}
	year, month, day := two(0)*100+two(2), two(5), two(8)
	hour, minute, sec := two(11), two(14), two(17)
	if bad != 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || sec > 59 {
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
		for k := i - start; k < 9; k++ {
			nanos *= 10
		}
	}
	offset := 0
	switch rest := b[i:]; {
	case len(rest) == 0:
		if b[10] != ' ' {
			return t, false // RFC 3339 demands a zone
		}
	case rest[0] == 'Z' && len(rest) == 1:
	case (rest[0] == '+' || rest[0] == '-') && len(rest) == 6 && rest[3] == ':':
		h, m := two(i+1), two(i+4)
		if bad != 0 || h > 23 || m > 59 {
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
