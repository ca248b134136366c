package driver

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/stream/spi"
)

// A chunk is a run of fetched records of one partition.
type chunk struct {
	split *split
	index int // the split's number
	recs  []*kgo.Record
	at    int   // records before it are handed out
	bytes int64 // still counted in reader.buffered
}

// fetch moves what the client fetched into the queue until the reader closes.
func (r *reader) fetch() {
	defer r.wg.Done()
	for {
		r.mu.Lock()
		for r.buffered >= r.cfg.buffer && r.ctx.Err() == nil {
			r.space.Wait()
		}
		r.mu.Unlock()
		fs := r.client.PollFetches(r.ctx)
		if r.ctx.Err() != nil || fs.IsClientClosed() {
			return
		}
		if !r.take(fs) {
			return
		}
	}
}

// take queues fetched records; false after a fatal error.
func (r *reader) take(fs kgo.Fetches) (more bool) {
	var fatal error
	var chunks []chunk
	total := int64(0)
	fs.EachPartition(func(p kgo.FetchTopicPartition) {
		if p.Err != nil && fatal == nil {
			fatal = r.fetchError(p.Topic, p.Partition, p.Err)
		}
		if len(p.Records) == 0 {
			return
		}
		bytes := int64(0)
		for _, rec := range p.Records {
			bytes += int64(len(rec.Value) + len(rec.Key) + 64)
		}
		total += bytes
		id := splitID(p.Topic, p.Partition)
		r.mu.Lock()
		if i, ok := r.numbers[id]; ok {
			s := r.splits[i]
			s.high = p.HighWatermark
			if r.cfg.committed && p.LastStableOffset >= 0 {
				s.high = p.LastStableOffset
			}
			chunks = append(chunks, chunk{split: s, index: i, recs: p.Records, bytes: bytes})
		}
		r.mu.Unlock()
	})
	r.mu.Lock()
	wake := len(r.queue) == 0 && len(chunks) > 0 || fatal != nil
	r.queue = append(r.queue, chunks...)
	r.buffered += total
	if fatal != nil && r.failure == nil {
		r.failure = fatal
	}
	r.mu.Unlock()
	if wake {
		r.env.Wake()
	}
	return fatal == nil
}

// fetchError makes a sentence of what kept the client from fetching, nil if the
// client goes on trying.
func (r *reader) fetchError(topic string, partition int32, err error) error {
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(err, &loss):
		return fmt.Errorf("kafka source: topic %q partition %d was cut back from offset %d to %d: records already read are gone from the log: %w", topic, partition, loss.ConsumedTo, loss.ResetTo, err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		at := int64(-1)
		r.mu.Lock()
		if i, ok := r.numbers[splitID(topic, partition)]; ok {
			at = r.splits[i].next
		}
		r.mu.Unlock()
		return fmt.Errorf("kafka source: topic %q partition %d no longer has offset %d (retention, or the topic was made anew): set auto.offset.reset to earliest or latest to go on without what is missing", topic, partition, at)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("kafka source: the broker does not let us read topic %q: grant READ to the connection's user", topic)
	case errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("kafka source: topic %q partition %d is gone: it was deleted, or made anew, while the job reads it", topic, partition)
	case kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err) || topic == "":
		r.env.Log.Warn("kafka source: fetching is delayed", "topic", topic, "partition", partition, "error", err)
		return nil
	}
	return fmt.Errorf("kafka source: topic %q partition %d: %w", topic, partition, err)
}

// next makes the oldest queued chunk the head.
func (r *reader) nextChunk() (ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return false, r.failure
	}
	r.head = r.queue[0]
	r.queue[0] = chunk{}
	r.queue = r.queue[1:]
	return true, nil
}

// dropHead gives the head's bytes back.
func (r *reader) dropHead() {
	r.mu.Lock()
	before := r.buffered
	r.buffered -= r.head.bytes
	if before >= r.cfg.buffer && r.buffered < r.cfg.buffer {
		r.space.Signal()
	}
	if r.head.split.ended() {
		r.mu.Unlock()
		r.client.PauseFetchPartitions(map[string][]int32{r.head.split.topic: {r.head.split.partition}})
		r.mu.Lock()
	}
	r.mu.Unlock()
	r.head = chunk{}
}

// Poll decodes records of the oldest chunk into b.
func (r *reader) Poll(b spi.Batch, max int, bad *[]spi.Rejected) (split, n int, err error) {
	for range 8 {
		if r.head.recs == nil {
			ok, err := r.nextChunk()
			if !ok || err != nil {
				return 0, 0, err
			}
		}
		split = r.head.index
		rejected := len(*bad)
		n, err = r.decode(b, max, bad)
		if err != nil {
			return split, n, err
		}
		if r.head.at == len(r.head.recs) {
			r.dropHead()
		}
		if n > 0 {
			return split, n, nil
		}
		if len(*bad) > rejected {
			break
		}
	}
	r.env.Wake() // nothing came of these records, but there are more
	return split, 0, nil
}

// decode appends up to max rows of the head to b.
func (r *reader) decode(b spi.Batch, max int, bad *[]spi.Rejected) (n int, err error) {
	c := &r.head
	recs := c.recs[c.at:]
	if len(recs) > max {
		recs = recs[:max]
	}
	first := b.Len()
	base := b.Extend(len(recs))
	times := b.Head().Times[first:]
	size := r.row.size
	next := c.split.next
	done := 0
	for _, rec := range recs {
		if c.split.end >= 0 && rec.Offset >= c.split.end {
			next = c.split.end
			done = len(c.recs) - c.at // the rest is behind the end
			break
		}
		done++
		p := unsafe.Add(base, uintptr(n)*size)
		keep := true
		if rec.Value == nil || len(rec.Value) > r.cfg.maxRecord || rec.Key == nil && r.cfg.nullKeys == "bad" || rec.Attrs.IsControl() {
			keep, err = r.special(rec, bad)
		}
		if keep && err == nil {
			err = r.row.fill(rec, p, r.arena)
			if err != nil {
				r.row.zero(p)
				keep = false
				err = r.reject(rec, fmt.Errorf("cannot decode the value as %s: %w", r.row.elem, err), bad)
			}
		}
		if err != nil {
			break
		}
		if keep {
			times[n] = rec.Timestamp.UnixMicro()
			n++
		}
		next = rec.Offset + 1
		rec.Recycle()
	}
	b.Truncate(first + n)
	if err != nil {
		return n, err
	}
	c.at += done
	r.mu.Lock()
	c.split.next = next
	r.mu.Unlock()
	return n, nil
}

// special decides on records that are not plain values: control records,
// tombstones, oversized ones, missing keys.
func (r *reader) special(rec *kgo.Record, bad *[]spi.Rejected) (keep bool, err error) {
	switch {
	case rec.Attrs.IsControl():
		return false, nil
	case rec.Value == nil && r.cfg.tombstones == "drop":
		r.env.Count("tombstones_total", 1)
		return false, nil
	case rec.Value == nil && r.cfg.tombstones == "bad":
		return false, r.reject(rec, errors.New("the value is null (option tombstones takes drop or emit)"), bad)
	case len(rec.Value) > r.cfg.maxRecord:
		return false, r.reject(rec, fmt.Errorf("the value has %d bytes, more than max_record_bytes %d", len(rec.Value), r.cfg.maxRecord), bad)
	case rec.Key == nil && r.cfg.nullKeys == "bad":
		return false, r.reject(rec, errors.New("the key is null"), bad)
	}
	return true, nil
}

// reject treats a record by the policy; its error fails the attempt.
func (r *reader) reject(rec *kgo.Record, why error, bad *[]spi.Rejected) error {
	switch r.cfg.bad {
	case spi.BadDrop:
		r.env.Count("bad_records_total", 1)
		return nil
	case spi.BadRoute:
		r.env.Count("bad_records_total", 1)
		*bad = append(*bad, spi.Rejected{
			Source: rec.Topic, Split: splitID(rec.Topic, rec.Partition), Offset: rec.Offset, Error: why.Error(),
			Key: append([]byte(nil), rec.Key...), Value: append([]byte(nil), rec.Value...),
		})
		return nil
	}
	return fmt.Errorf("kafka source: topic %q partition %d offset %d: %w: set bad_records to drop or dead-letter to go on", rec.Topic, rec.Partition, rec.Offset, why)
}

// pool recycles what the client decodes into; it is safe for concurrent use.
type pool struct {
	records sync.Pool
	bytes   sync.Pool
}

func (p *pool) GetRecords(n int) []kgo.Record {
	if s, ok := p.records.Get().(*[]kgo.Record); ok && cap(*s) >= n {
		return (*s)[:n]
	}
	return make([]kgo.Record, n)
}

func (p *pool) PutRecords(s []kgo.Record) { p.records.Put(&s) }

func (p *pool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	if s, ok := p.bytes.Get().(*[]byte); ok {
		return (*s)[:0]
	}
	return make([]byte, 0, 4*len(compressed))
}

func (p *pool) PutDecompressBytes(s []byte) { p.bytes.Put(&s) }
