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

	published map[string][32]byte // manifests by key, as first written
	pipes     map[string]*seenPipeline
	order     []*seenPipeline // as they appeared
	jobs      map[string]*seenJob
	handles   map[txnKey]*seenManifest // which epoch named a prepared transaction
}

// txnKey is a prepared transaction.
type txnKey struct {
	id    string
	epoch int16
}

// seenPipeline is what happened to one pipeline.
type seenPipeline struct {
	name     string
	opened   uint64          // newest epoch handed out
	attempt  uint64          // newest attempt
	complete []*seenManifest // kept and complete, oldest first
	newest   *seenManifest   // completed last, kept or not
	finished map[uint64]bool
	disposed map[uint64]bool // savepoints that the user gave up
	lines    []*line
	line     *line    // whose rows flow, or flowed last
	job      *seenJob // submitted last
	top      uint64   // newest epoch in its table
}

// seenJob is one submission.
type seenJob struct {
	id      string
	p       *seenPipeline
	line    *line
	start   *seenManifest // what it starts from; nil: afresh
	at      *seenManifest // what its next attempt starts from; nil: afresh
	told    bool          // the user said where to start, or there was nothing to go on from
	copy    *seenManifest // of start, if another pipeline has that
	own     bool          // it has a complete epoch
	ran     bool          // its rows flow, or flowed
	drained bool          // now, or before what it starts from
	over    bool
}

// A line is a history of output: what follows from one start. A job that goes on from
// the newest epoch goes on in its line; one that was told to start elsewhere begins
// another, of what was before that point.
type line struct {
	base  []int         // positions before which the rows are another pipeline's
	from  *seenManifest // where it left another line of its pipeline; nil: it did not
	sinks map[string]*seenSink
}

// seenManifest is what the checker read in a manifest.
type seenManifest struct {
	p         *seenPipeline
	job       *seenJob
	line      *line
	epoch     uint64
	committed uint64 // the epoch that sinks are asked about
	kind      string
	drained   bool // sources may have been told to end before it
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

var sinkNames = []string{"table", "topic"}

// The parts of the formats that the checker reads.
type (
	seenRef struct {
		Epoch uint64 `json:"epoch"`
		Kind  string `json:"kind"`
		Key   string `json:"key"`
		Hash  string `json:"hash"`
	}
	seenEntry struct {
		Submit *struct {
			Job struct {
				Pipeline string   `json:"pipeline"`
				Restore  *seenRef `json:"restore"`
			} `json:"job"`
		} `json:"submit"`
		Phase *struct {
			Job    string `json:"job"`
			Phase  string `json:"phase"`
			Reason string `json:"reason"`
		} `json:"phase"`
		Attempt *struct {
			Job string `json:"job"`
		} `json:"attempt"`
		Open *struct {
			Job string `json:"job"`
		} `json:"open"`
		Complete *struct {
			Job string  `json:"job"`
			Ref seenRef `json:"ref"`
		} `json:"complete"`
		Adopt *struct {
			Job string  `json:"job"`
			Ref seenRef `json:"ref"`
		} `json:"adopt"`
		Finish *struct {
			Pipeline string `json:"pipeline"`
			Epoch    uint64 `json:"epoch"`
		} `json:"finish"`
		Drop *struct {
			Pipeline string   `json:"pipeline"`
			Epochs   []uint64 `json:"epochs"`
			All      bool     `json:"all"`
		} `json:"drop"`
		Drain *struct {
			Job string `json:"job"`
		} `json:"drain"`
	}
	manifestBody struct {
		Epoch  uint64     `json:"epoch"`
		Kind   string     `json:"kind"`
		Parts  []partBody `json:"parts"`
		Origin *struct {
			Epoch uint64 `json:"epoch"`
			Key   string `json:"key"`
		} `json:"origin"`
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
	return &checker{s: s, published: map[string][32]byte{}, pipes: map[string]*seenPipeline{}, jobs: map[string]*seenJob{}, handles: map[txnKey]*seenManifest{}}
}

func (c *checker) pipe(name string) *seenPipeline {
	p := c.pipes[name]
	if p == nil {
		p = &seenPipeline{name: name, finished: map[uint64]bool{}, disposed: map[uint64]bool{}}
		c.pipes[name] = p
		c.order = append(c.order, p)
	}
	return p
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
var judged = []string{`"submit":{`, `"attempt":{`, `"open":{`, `"complete":{`, `"adopt":{`, `"finish":{`, `"drop":{`, `"drain":{`,
	`"phase":"running"`, `"phase":"finished"`, `"phase":"canceled"`, `"phase":"failed"`}

// entry sees an entry of the log and whether it was accepted; n, attempt and job are
// what the answer carries.
func (c *checker) entry(b []byte, n, attempt uint64, job string, accepted bool) {
	if !accepted || !slices.ContainsFunc(judged, func(name string) bool { return bytes.Contains(b, []byte(name)) }) {
		return
	}
	var e seenEntry
	if err := json.Unmarshal(b, &e); err != nil {
		c.s.violate("log: %v", err)
		return
	}
	switch {
	case e.Submit != nil:
		c.submitted(job, e.Submit.Job.Pipeline, e.Submit.Job.Restore)
	case e.Phase != nil && e.Phase.Phase == "running":
		c.runs(c.jobs[e.Phase.Job])
	case e.Phase != nil:
		c.ended(c.jobs[e.Phase.Job], e.Phase.Phase, e.Phase.Reason)
	case e.Attempt != nil:
		p := c.jobs[e.Attempt.Job].p
		if attempt <= p.attempt {
			c.s.violate("attempt %d was handed out after %d", attempt, p.attempt)
		}
		p.attempt = attempt
		c.s.stats.Attempts++
	case e.Open != nil:
		p := c.jobs[e.Open.Job].p
		if n <= p.opened {
			c.s.violate("epoch %d was handed out after %d", n, p.opened)
		}
		p.opened = n
	case e.Complete != nil:
		c.completed(c.jobs[e.Complete.Job], e.Complete.Ref)
	case e.Adopt != nil:
		c.adopted(c.jobs[e.Adopt.Job], e.Adopt.Ref)
	case e.Finish != nil:
		c.finish(c.pipes[e.Finish.Pipeline], e.Finish.Epoch)
	case e.Drop != nil:
		c.dropped(c.pipes[e.Drop.Pipeline], e.Drop.Epochs, e.Drop.All)
	case e.Drain != nil:
		c.jobs[e.Drain.Job].drained = true
	}
}

// completed judges a manifest at the moment at which it counts.
func (c *checker) completed(j *seenJob, ref seenRef) {
	if seen := c.read(j, ref); seen != nil {
		c.count(j, seen)
	}
}

// count makes an epoch one of its pipeline's.
func (c *checker) count(j *seenJob, seen *seenManifest) {
	j.p.complete = append(j.p.complete, seen)
	j.p.newest, j.at, j.own = seen, seen, true
}

// read judges the manifest of an epoch.
func (c *checker) read(j *seenJob, ref seenRef) *seenManifest {
	p, epoch := j.p, ref.Epoch
	if p.newest != nil && p.newest.epoch == epoch {
		return nil // the entry came twice
	}
	if epoch > p.opened || p.newest != nil && epoch < p.newest.epoch || j.start != nil && epoch <= j.start.committed {
		c.s.violate("epoch %d is complete after %v, opened is %d", epoch, p.newest, p.opened)
		return nil
	}
	m, ok := c.manifest(ref)
	if !ok {
		return nil
	}
	seen := &seenManifest{p: p, job: j, line: j.line, epoch: epoch, committed: epoch, kind: m.Kind, drained: j.drained, key: ref.Key, positions: make([]int, len(c.s.input.splits)), objects: map[string]bool{}}
	if m.Origin != nil {
		seen.committed = m.Origin.Epoch
	}
	c.readPositions(m, seen)
	c.readState(m, seen)
	c.readCommits(m, seen)
	return seen
}

// manifest reads what ref names.
func (c *checker) manifest(ref seenRef) (*manifestBody, bool) {
	b := c.object(ref.Key)
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != ref.Hash {
		c.s.violate("the log says that epoch %d is complete, its manifest %s has another hash or is missing", ref.Epoch, ref.Key)
		return nil, false
	}
	m := new(manifestBody)
	if err := json.Unmarshal(b, m); err != nil || m.Epoch != ref.Epoch {
		c.s.violate("manifest %s: epoch %d, %v", ref.Key, m.Epoch, err)
		return nil, false
	}
	return m, true
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
	if seen.job.at == nil {
		return
	}
	for k, at := range seen.positions {
		if at < seen.job.at.positions[k] {
			c.s.violate("epoch %d: split %d went back from %d to %d", m.Epoch, k, seen.job.at.positions[k], at)
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

// readCommits takes down which rows the manifest names: with all manifests of its line
// before it, exactly those before its positions, each once.
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
				c.handles[txnKey{t.ID, t.Epoch}] = seen
				ids = c.prepared(t.ID, t.Epoch)
			}
			named := seen.line.sinks[h.Sink].named
			for _, id := range ids {
				if was := named[id]; was != 0 {
					c.s.violate("row %s of %s is named by epoch %d and again by epoch %d", rowName(id), h.Sink, was, m.Epoch)
					return
				}
				named[id] = m.Epoch
			}
		}
	}
	for _, sink := range sinkNames {
		c.covers(sink, seen)
	}
}

// covers demands that the rows named so far are those before the positions of m.
func (c *checker) covers(sink string, m *seenManifest) {
	total := 0
	named := m.line.sinks[sink].named
	for k, at := range m.positions {
		total += at - m.line.base[k]
		for i := m.line.base[k]; i < at; i++ {
			if named[rowID(k, i)] == 0 {
				c.s.violate("epoch %d is complete at positions %v, but no manifest names row %s of %s: it is lost", m.epoch, m.positions, rowName(rowID(k, i)), sink)
				return
			}
		}
	}
	if n := len(named); n != total {
		c.s.violate("epoch %d is complete at positions %v, %d rows, but %d of %s are named", m.epoch, m.positions, total, n, sink)
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
