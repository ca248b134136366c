package kernel

import "slices"

// radixMin is the length below which comparing beats counting.
const radixMin = 256

// radixSort sorts words by their upper 32 bits, stably, and returns the sorted
// slice, which is words or scratch; scratch must be as long.
func radixSort(words, scratch []uint64) []uint64 {
	if len(words) < radixMin {
		slices.Sort(words) // the lower half is the position: stable all the same
		return words
	}
	var counts [3][2048]uint32
	for _, w := range words {
		counts[0][w>>32&2047]++
		counts[1][w>>43&2047]++
		counts[2][w>>54]++
	}
	for pass, shift := range [3]uint{32, 43, 54} {
		c := &counts[pass]
		if skewed(c, words, shift) {
			continue
		}
		var at uint32
		for i, n := range c {
			c[i] = at
			at += n
		}
		for _, w := range words {
			d := w >> shift & 2047
			scratch[c[d]] = w
			c[d]++
		}
		words, scratch = scratch, words
	}
	return words
}

// skewed reports whether all words share the digit, so that the pass would only
// copy.
func skewed(c *[2048]uint32, words []uint64, shift uint) bool {
	return int(c[words[0]>>shift&2047]) == len(words)
}
