package local

import (
	"fmt"
	"strconv"
	"strings"
)

// A ByteSize is a number of bytes as a flag's value: 1048576, 512MiB, 1GiB.
type ByteSize int64

var byteUnits = []struct {
	suffix string
	shift  int
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"", 0}}

// Set implements flag.Value. A size is at least 1.
func (b *ByteSize) Set(text string) error {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 1 || n > (1<<62)>>u.shift {
			break
		}
		*b = ByteSize(n << u.shift)
		return nil
	}
	return fmt.Errorf("want a size such as 512MiB or 1GiB")
}

// String returns the size in the largest unit that divides it.
func (b *ByteSize) String() string {
	for _, u := range byteUnits {
		if n := int64(*b); n != 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.suffix
		}
	}
	return "0"
}

// Type names the value in the help of command lines.
func (b *ByteSize) Type() string { return "size" }
