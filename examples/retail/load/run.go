package load

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/examples/retail"
)

// Options configures Run. A zero field means its default.
type Options struct {
	Brokers    []string // required
	Partitions int      // of each topic; 4
	Limit      int      // purchase lines at the most; all
}

// Counts are the records per topic. It may be read while Run writes it.
type Counts struct{ Checkouts, Carts atomic.Int64 }

// Topics returns the counts by topic.
func (c *Counts) Topics() map[string]int64 {
	return map[string]int64{retail.CheckoutEvents: c.Checkouts.Load(), retail.CartUpdates: c.Carts.Load()}
}

// CreateTopics makes the example's topics where they are missing.
func CreateTopics(ctx context.Context, opts Options) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(opts.Brokers...))
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer cl.Close()
	partitions := opts.Partitions
	if partitions == 0 {
		partitions = 4
	}
	made, err := kadm.NewClient(cl).CreateTopics(ctx, int32(partitions), 1, nil, retail.CheckoutEvents, retail.CartUpdates, retail.ClosedBaskets)
	if err != nil {
		return fmt.Errorf("load: create topics: %w", err)
	}
	for _, t := range made.Sorted() {
		if t.Err != nil && !errors.Is(t.Err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("load: create topic %s: %w", t.Topic, t.Err)
		}
	}
	return nil
}

// Run produces lines as checkout events and cart updates, keyed by household:
// each line is put into the cart some seconds before its basket is checked out,
// and each basket ends with one checkout.
func Run(ctx context.Context, opts Options, lines iter.Seq2[retail.CheckoutLine, error], counts *Counts) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(opts.Brokers...), kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(100_000),
		kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer cl.Close()
	p := &producer{ctx: ctx, client: cl, counts: counts}
	var basket []retail.CheckoutLine
	n := 0
	for l, err := range lines {
		if err != nil {
			return err
		}
		if len(basket) > 0 && basket[0].Basket != l.Basket {
			p.basket(basket)
			basket = basket[:0]
		}
		basket = append(basket, l)
		if n++; opts.Limit > 0 && n >= opts.Limit || p.failed.Load() != nil {
			break
		}
	}
	p.basket(basket)
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("load: flush: %w", err)
	}
	if err := p.failed.Load(); err != nil {
		return fmt.Errorf("load: produce: %w", *err)
	}
	return nil
}

type producer struct {
	ctx    context.Context
	client *kgo.Client
	counts *Counts
	failed atomic.Pointer[error]
}

// basket writes the lines of one basket: all carts before the checkout.
func (p *producer) basket(lines []retail.CheckoutLine) {
	if len(lines) == 0 {
		return
	}
	for i, l := range lines {
		at := l.At.Add(-time.Duration(len(lines)-i) * time.Second)
		p.put(retail.CartUpdates, l.Household, appendCart(nil, retail.AddToCart, l, at), &p.counts.Carts)
	}
	for _, l := range lines {
		p.put(retail.CheckoutEvents, l.Household, appendLine(nil, l), &p.counts.Checkouts)
	}
	last := lines[len(lines)-1]
	last.Product, last.Quantity, last.Amount = 0, 0, total(lines)
	p.put(retail.CartUpdates, last.Household, appendCart(nil, retail.Checkout, last, last.At), &p.counts.Carts)
}

func (p *producer) put(topic string, household int64, value []byte, count *atomic.Int64) {
	p.client.Produce(p.ctx, &kgo.Record{Topic: topic, Key: strconv.AppendInt(nil, household, 10), Value: value}, func(_ *kgo.Record, err error) {
		if err != nil {
			p.failed.CompareAndSwap(nil, &err)
			return
		}
		count.Add(1)
	})
}

// Held returns how many records the topics hold already.
func Held(ctx context.Context, opts Options) (*Counts, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(opts.Brokers...))
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, retail.CheckoutEvents, retail.CartUpdates)
	if err != nil {
		return nil, fmt.Errorf("load: end offsets: %w", err)
	}
	c := new(Counts)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Topic == retail.CheckoutEvents {
			c.Checkouts.Add(o.Offset)
		} else {
			c.Carts.Add(o.Offset)
		}
	})
	return c, nil
}

// Lines returns the real purchase lines, fetched into dir, or generated ones
// where they cannot be had; label says which, and why.
func Lines(ctx context.Context, dir string) (lines iter.Seq2[retail.CheckoutLine, error], label string, err error) {
	path, err := Fetch(ctx, dir)
	if err != nil {
		return Generate(1, JourneyLines), fmt.Sprintf("generated records, because %v", err), nil
	}
	lines, err = Journey(path)
	return lines, JourneyLabel, err
}
