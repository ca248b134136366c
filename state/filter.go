package state

import (
	"sync"
	"sync/atomic"
)

// A filter answers, without touching Pebble, that a row is surely absent. It is a
// row of blocked Bloom filters of 12 bits per key, each four times the one before;
// a key goes to the newest unless one of them claims it already, so that rewriting
// the same rows does not fill it. Nothing is ever removed: after enough drops the
// store builds a new one.
//
// has may be called concurrently with add; add is serialized by its mutex.
type filter struct {
	layers atomic.Pointer[[]*filterLayer]

	mu   sync.Mutex // held by add
	keys int64      // keys added
	size int64      // bytes
}

// A filterLayer is a blocked Bloom filter: a key sets 8 bits, one in each half of
// the 4 words of one block.
type filterLayer struct {
	words  []uint64
	blocks uint64
	left   int64 // keys it still has room for
}

const (
	filterBitsPerKey = 12
	filterBlockWords = 4
	filterFirst      = 16 << 10 // keys of the first layer
	filterGrowth     = 4
)

// filterSalts are odd multipliers, one per bit that a key sets.
var filterSalts = [8]uint32{
	0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1, 0xd3a2646d, 0xfd7046c5, 0xb55a4f09,
}

// newFilter returns a filter whose first layer has room for that many keys.
func newFilter(keys int64) *filter {
	f := &filter{}
	first := []*filterLayer{newFilterLayer(max(keys, filterFirst))}
	f.layers.Store(&first)
	f.size = first[0].bytes()
	return f
}

func newFilterLayer(keys int64) *filterLayer {
	blocks := (keys*filterBitsPerKey + 64*filterBlockWords - 1) / (64 * filterBlockWords)
	return &filterLayer{words: make([]uint64, blocks*filterBlockWords), blocks: uint64(blocks), left: keys}
}

func (l *filterLayer) bytes() int64 { return int64(len(l.words)) * 8 }

func (l *filterLayer) block(h uint64) *[filterBlockWords]uint64 {
	i := (h >> 32) * l.blocks >> 32 * filterBlockWords
	return (*[filterBlockWords]uint64)(l.words[i:])
}

func filterMask(low uint32, i int) uint64 {
	return 1<<(low*filterSalts[2*i]>>27) | 1<<(32+low*filterSalts[2*i+1]>>27)
}

func (l *filterLayer) has(h uint64) bool {
	b, low := l.block(h), uint32(h)
	for i := range b {
		if m := filterMask(low, i); atomic.LoadUint64(&b[i])&m != m {
			return false
		}
	}
	return true
}

func (l *filterLayer) add(h uint64) {
	b, low := l.block(h), uint32(h)
	for i := range b {
		if m := filterMask(low, i); b[i]&m != m {
			atomic.OrUint64(&b[i], m)
		}
	}
	l.left--
}

// has reports whether the key may have been added; false is certain.
func (f *filter) has(h uint64) bool {
	layers := *f.layers.Load()
	for i := len(layers) - 1; i >= 0; i-- {
		if layers[i].has(h) {
			return true
		}
	}
	return false
}

// add adds keys and returns by how many bytes the filter grew.
func (f *filter) add(hashes []uint64) (grown int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	layers := *f.layers.Load()
	top := layers[len(layers)-1]
	for _, h := range hashes {
		if f.has(h) {
			continue
		}
		if top.left <= 0 {
			keys := int64(len(top.words)) * 64 / filterBitsPerKey * filterGrowth
			top = newFilterLayer(keys)
			layers = append(layers[:len(layers):len(layers)], top)
			f.layers.Store(&layers)
			grown += top.bytes()
		}
		top.add(h)
		f.keys++
	}
	f.size += grown
	return grown
}

func (f *filter) stats() (keys, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys, f.size
}
