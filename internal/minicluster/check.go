package minicluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// checker judges from outside. It sees the bytes that reach the log and the
// object store and the rows that become visible, and shares no code with what
// made them.
type checker struct {
	s *sim

	opened    uint64         // newest epoch handed out
	attempt   uint64         // newest attempt
	complete  []seenManifest // kept and complete, oldest first
	newest    *seenManifest
	finished  map[uint64]bool
	published map[string][32]byte // manifests by key, as first written

	sinks map[string]*seenSink
}

// seenManifest is what the checker read in a manifest.
type seenManifest struct {
	epoch     uint64
	key       string
	positions []int // by split
	objects   map[string]bool
}

// seenSink is what happened to the rows of one sink.
type seenSink struct {
	named   map[uint64]uint64 // row id to the epoch whose manifest named it
	visible map[uint64]bool
	last    map[uint64]int64 // newest visible count by key
}

// The parts of the formats that the checker reads.
type (
	seenEntry struct {
		Attempt  *struct{} `json:"attempt"`
		Open     *struct{} `json:"open"`
		Complete *struct {
			Ref struct {
				Epoch uint64 `json:"epoch"`
				Key   string `json:"key"`
				Hash  string `json:"hash"`
			} `json:"ref"`
		} `json:"complete"`
		Finish *struct {
			Epoch uint64 `json:"epoch"`
		} `json:"finish"`
		Drop *struct {
			Epochs []uint64 `json:"epochs"`
		} `json:"drop"`
	}
	manifestBody struct {
		Epoch uint64     `json:"epoch"`
		Parts []partBody `json:"parts"`
	}
	partBody struct {
		Groups struct {
			From int `json:"from"`
			To   int `json:"to"`
		} `json:"groups"`
		Files []struct {
			Object string `json:"object"`
			Offset int    `json:"offset"`
			Length int    `json:"length"`
			CRC    uint32 `json:"crc32c"`
			Groups struct {
				From int `json:"from"`
				To   int `json:"to"`
			} `json:"groups"`
		} `json:"files"`
		Operators map[string]struct {
			Splits []struct {
				Split    string `json:"split"`
				Position []byte `json:"position"`
			} `json:"splits"`
		} `json:"operators"`
		Commits []struct {
			Sink string `json:"sink"`
			Data []byte `json:"data"`
		} `json:"commits"`
	}
)

func newChecker(s *sim) *checker {
	c := &checker{s: s, finished: map[uint64]bool{}, published: map[string][32]byte{}, sinks: map[string]*seenSink{}}
	for _, name := range []string{"table", "topic"} {
		c.sinks[name] = &seenSink{named: map[uint64]uint64{}, visible: map[uint64]bool{}, last: map[uint64]int64{}}
	}
	return c
}

// object returns the bytes of an object as they lie there.
func (c *checker) object(key string) []byte {
	r, _, err := c.s.mem.Get(c.s.ctx, key)
	if err != nil {
		return nil
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		return nil
	}
	return b.Bytes()
}

// judged are the kinds of entries that the checker reads.
var judged = []string{`"attempt":{`, `"open":{`, `"complete":{`, `"finish":{`, `"drop":{`}

// entry sees an entry of the log and whether it was accepted; n and attempt are
// the numbers that the answer carries.
func (c *checker) entry(b []byte, n, attempt uint64, accepted bool) {
	if !accepted || !slices.ContainsFunc(judged, func(name string) bool { return bytes.Contains(b, []byte(name)) }) {
		return
	}
	var e seenEntry
	if err := json.Unmarshal(b, &e); err != nil {
		c.s.violate("log: %v", err)
		return
	}
	switch {
	case e.Attempt != nil:
		if attempt <= c.attempt {
			c.s.violate("attempt %d was handed out after %d", attempt, c.attempt)
		}
		c.attempt = attempt
		c.s.stats.Attempts++
	case e.Open != nil:
		if n <= c.opened {
			c.s.violate("epoch %d was handed out after %d", n, c.opened)
		}
		c.opened = n
	case e.Complete != nil:
		c.completed(e.Complete.Ref.Epoch, e.Complete.Ref.Key, e.Complete.Ref.Hash)
	case e.Finish != nil:
		c.finish(e.Finish.Epoch)
	case e.Drop != nil:
		c.complete = slices.DeleteFunc(c.complete, func(m seenManifest) bool { return slices.Contains(e.Drop.Epochs, m.epoch) })
		if c.newest != nil && slices.Contains(e.Drop.Epochs, c.newest.epoch) {
			c.s.violate("the newest complete epoch %d was given up", c.newest.epoch)
		}
	}
}

// completed judges a manifest at the moment at which it counts.
func (c *checker) completed(epoch uint64, key, hash string) {
	if c.newest != nil && c.newest.epoch == epoch {
		return // the entry came twice
	}
	if epoch > c.opened || c.newest != nil && epoch < c.newest.epoch {
		c.s.violate("epoch %d is complete after %v, opened is %d", epoch, c.newest, c.opened)
		return
	}
	b := c.object(key)
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != hash {
		c.s.violate("the log says that epoch %d is complete, its manifest %s has another hash or is missing", epoch, key)
		return
	}
	var m manifestBody
	if err := json.Unmarshal(b, &m); err != nil || m.Epoch != epoch {
		c.s.violate("manifest %s: epoch %d, %v", key, m.Epoch, err)
		return
	}
	seen := seenManifest{epoch: epoch, key: key, positions: make([]int, len(c.s.input.splits)), objects: map[string]bool{}}
	c.readPositions(&m, &seen)
	c.readState(&m, &seen)
	c.readCommits(&m, &seen)
	c.complete = append(c.complete, seen)
	c.newest = &seen
}

func (c *checker) readPositions(m *manifestBody, seen *seenManifest) {
	for _, p := range m.Parts {
		for _, f := range p.Files {
			seen.objects[f.Object] = true
		}
		for _, sp := range slices.Concat(p.Operators["in"].Splits, p.Operators["more"].Splits) {
			var k int
			if _, err := fmt.Sscanf(sp.Split, "in-%d", &k); err != nil || k >= len(seen.positions) {
				c.s.violate("epoch %d: split %q", m.Epoch, sp.Split)
				return
			}
			seen.positions[k] = int(binary.BigEndian.Uint64(sp.Position))
		}
	}
	if c.newest == nil {
		return
	}
	for k, at := range seen.positions {
		if at < c.newest.positions[k] {
			c.s.violate("epoch %d: split %d went back from %d to %d", m.Epoch, k, c.newest.positions[k], at)
		}
	}
}

// readState rebuilds the counts from the files that the manifest names and
// compares them with the input before its positions.
func (c *checker) readState(m *manifestBody, seen *seenManifest) {
	want := map[uint64]int64{}
	for k, at := range seen.positions {
		for _, key := range c.s.input.splits[k][:at] {
			want[key]++
		}
	}
	got := map[uint64]int64{}
	for _, p := range m.Parts {
		for _, f := range p.Files {
			b := c.object(f.Object)
			if f.Offset+f.Length > len(b) {
				c.s.violate("epoch %d names bytes %d+%d of %s, which has %d", m.Epoch, f.Offset, f.Length, f.Object, len(b))
				return
			}
			b = b[f.Offset : f.Offset+f.Length]
			if crc32.Checksum(b, castagnoli) != f.CRC {
				c.s.violate("epoch %d: %s@%d+%d has another checksum", m.Epoch, f.Object, f.Offset, f.Length)
				return
			}
			for len(b) > 0 && c.s.shape.job == nil { // lengths, key (group, state, hash, key), count
				row, val := b[2:2+b[0]], b[2+b[0]:2+b[0]+b[1]]
				b = b[2+int(b[0])+int(b[1]):]
				group := int(row[0])<<8 | int(row[1])
				if group >= max(p.Groups.From, f.Groups.From) && group < min(p.Groups.To, f.Groups.To) {
					got[binary.BigEndian.Uint64(row[len(row)-8:])] = int64(binary.BigEndian.Uint64(val))
				}
			}
		}
	}
	for key := range uint64(c.s.shape.keys) {
		if c.s.shape.job != nil {
			break // the rows are the kernel's: their effect is seen in the sinks
		}
		if got[key] != want[key] {
			c.s.violate("epoch %d: the state of key %d is %d, there are %d rows before its positions %v", m.Epoch, key, got[key], want[key], seen.positions)
			return
		}
	}
}

// readCommits takes down which rows the manifest names: with all manifests before
// it, exactly those before its positions, each once.
func (c *checker) readCommits(m *manifestBody, seen *seenManifest) {
	for _, p := range m.Parts {
		for _, h := range p.Commits {
			var ids []uint64
			if h.Sink == "table" {
				for b := h.Data; len(b) >= rowBytes; b = b[rowBytes:] {
					ids = append(ids, binary.BigEndian.Uint64(b))
				}
			} else {
				var t struct {
					ID    string `json:"id"`
					Epoch int16  `json:"epoch"`
				}
				if err := json.Unmarshal(h.Data, &t); err != nil {
					c.s.violate("handle %s: %v", h.Data, err)
					return
				}
				ids = c.prepared(t.ID, t.Epoch)
			}
			for _, id := range ids {
				if was := c.sinks[h.Sink].named[id]; was != 0 {
					c.s.violate("row %s of %s is named by epoch %d and again by epoch %d", rowName(id), h.Sink, was, m.Epoch)
					return
				}
				c.sinks[h.Sink].named[id] = m.Epoch
			}
		}
	}
	for _, sink := range []string{"table", "topic"} {
		c.covers(sink, m.Epoch, seen.positions)
	}
}

// covers demands that the rows named so far are those before positions.
func (c *checker) covers(sink string, epoch uint64, positions []int) {
	total := 0
	for k, at := range positions {
		total += at
		for i := range at {
			if c.sinks[sink].named[rowID(k, i)] == 0 {
				c.s.violate("epoch %d is complete at positions %v, but no manifest names row %s of %s: it is lost", epoch, positions, rowName(rowID(k, i)), sink)
				return
			}
		}
	}
	if n := len(c.sinks[sink].named); n != total {
		c.s.violate("epoch %d is complete at positions %v, %d rows, but %d of %s are named", epoch, positions, total, n, sink)
	}
}

// prepared returns the ids of the rows of a prepared transaction.
func (c *checker) prepared(id string, epoch int16) (ids []uint64) {
	for _, t := range c.s.broker.ids {
		if t.id == id && t.epoch == epoch && t.state == txnOngoing {
			for _, r := range t.rows {
				ids = append(ids, r.ID)
			}
			return ids
		}
	}
	c.s.violate("a manifest names transaction %s of producer epoch %d, which is not open", id, epoch)
	return nil
}

func rowName(id uint64) string { return fmt.Sprintf("%d@%d", id>>32, uint32(id)) }

// written sees an object being written: what lies there is never changed.
func (c *checker) written(key string, before, after []byte) {
	if before != nil && !bytes.Equal(before, after) {
		c.s.violate("object %s was overwritten with other bytes", key)
	}
	if !strings.HasSuffix(key, "manifest.json") {
		return
	}
	sum := sha256.Sum256(after)
	if was, ok := c.published[key]; ok && was != sum {
		c.s.violate("manifest %s was published twice, with other bytes", key)
	}
	c.published[key] = sum
}
