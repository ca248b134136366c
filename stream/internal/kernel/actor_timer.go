package kernel

import (
	"fmt"

	"github.com/weirstream/weir/dataflow"
)

// popTimer looks at the entry that the queue names and fires its earliest timer
// if that is due. fired is false for stale elements.
func (x *actors[K, A, Out]) popTimer() (fired bool) {
	it := x.timer.pop()
	t := &x.table
	p := t.at(it.id)
	h, tm := (*head)(p), t.timersOf(p)
	if h.flags&flagUsed == 0 || tm.queued != it.at {
		return false
	}
	tm.queued = noTimer
	if tm.at > it.at {
		x.timer.enqueue(tm, it.id)
		return false
	}
	a := x.begin(it.id, tm.at)
	name := x.names[h.name]
	if tm.more == 0 {
		tm.at = noTimer
	} else {
		t.putTimers(p, t.allTimers(p)[1:])
	}
	x.spec.Timer(a, &x.Run, name, it.at)
	x.finish()
	return true
}

// popBatch is how many keys of the timer index are loaded in one Advance.
const popBatch = 4096

// dueKey is a key found in the timer index.
type dueKey struct {
	bucket int64
	hash   uint32
	key    []byte
}

// popStored brings the keys whose index row is due at wm into the cache. more is
// true when it should be called again.
func (x *actors[K, A, Out]) popStored(wm int64) (more bool, err error) {
	due := wm >> bucketBits
	x.index.floor = max(x.index.floor, due)
	if x.index.earliest() > due {
		return false, nil
	}
	n := 0
	for i, b := range x.index.next {
		if b > due {
			continue
		}
		if n >= popBatch {
			return true, nil
		}
		var found []dueKey
		if _, err := x.index.scan(x.host, i, due, func(k dataflow.RowKey, b int64) error {
			found = append(found, dueKey{b, k.Hash, append([]byte(nil), k.Key...)})
			return nil
		}); err != nil {
			return false, err
		}
		n += len(found)
		if err := x.recall(found); err != nil {
			return false, err
		}
	}
	return false, nil
}

// recall makes sure that the keys found in the timer index are in the cache and
// queued, and will have an index row again if their timers are later.
func (x *actors[K, A, Out]) recall(found []dueKey) error {
	t := &x.table
	x.miss.reset()
	var absent []int
	var keys []K
	for i, d := range found {
		k, ok := t.coder.decode(d.key)
		if !ok {
			return fmt.Errorf("stream: the timer index has key %x, which is not a %T", d.key, k)
		}
		id := t.find(d.hash, &k)
		if id == 0 {
			if !t.groups.known(d.hash) {
				absent, keys = append(absent, i), append(keys, k)
				x.miss.add(&t.table, d.hash, d.key)
			}
			continue
		}
		x.recheck(id, d.bucket)
	}
	return x.miss.load(x.host, func(j int, row []byte) error {
		d := found[absent[j]]
		id := t.find(d.hash, &keys[j]) // two buckets may name one key
		if row == nil {
			return nil
		}
		if id == 0 {
			id = t.add(d.hash, &keys[j])
			if err := t.load(t.at(id), row); err != nil {
				return err
			}
		}
		x.recheck(id, d.bucket)
		return nil
	})
}

func (x *actors[K, A, Out]) recheck(id uint32, bucket int64) {
	p := x.table.at(id)
	tm := x.table.timersOf(p)
	if tm.at == noTimer {
		return
	}
	if bucketOf(tm.at) > bucket {
		x.table.touch(p, id)
	}
	x.timer.enqueue(tm, id)
}
