package nexmark

import (
	"reflect"
	"syscall"
	"testing"
	"time"
)

// What one event costs; cpu-ns/event is the figure where the machine is shared.
func BenchmarkGenerator(b *testing.B) {
	g := NewGenerator(Config{})
	b.ReportAllocs()
	rows := make([]Event, 1024)
	before := cpuTime(b)
	for i := range b.N {
		if i%len(rows) == 0 {
			clear(rows)
		}
		g.Fill(int64(i), &rows[i%len(rows)])
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/event")
}

func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The stream has the model's proportions, and its hot ids are hot.
func TestModel(t *testing.T) {
	const n = 500_000
	g := NewGenerator(Config{})
	var persons, auctions, bids, hotAuctions, hotBidders, hotSellers, extra int64
	last := int64(0)
	for i := range int64(n) {
		var e Event
		g.Fill(i, &e)
		at := e.Time().UnixMicro()
		if at-last != 10 && i > 0 {
			t.Fatalf("event %d is %d µs after the one before, want 10 at a density of 100,000", i, at-last)
		}
		last = at
		switch {
		case e.Person != nil:
			if persons++; e.Person.ID != firstPerson+persons-1 {
				t.Fatalf("person %d has id %d", persons, e.Person.ID)
			}
		case e.Auction != nil:
			if auctions++; e.Auction.ID != firstAuction+auctions-1 {
				t.Fatalf("auction %d has id %d", auctions, e.Auction.ID)
			}
			if e.Auction.Expires <= at || e.Auction.Category < 10 || e.Auction.Category > 14 {
				t.Fatalf("auction %+v opened at %d", *e.Auction, at)
			}
			if (e.Auction.Seller-firstPerson)%hotEvery == 0 {
				hotSellers++
			}
		default:
			bids++
			extra += int64(len(e.Bid.Extra))
			if e.Bid.Price < 100 || e.Bid.Price > 100_000_000 {
				t.Fatalf("bid %+v: the price is out of range", e.Bid)
			}
			if (e.Bid.Auction-firstAuction)%hotEvery == 0 {
				hotAuctions++
			}
			if (e.Bid.Bidder-firstPerson)%hotEvery == 1 {
				hotBidders++
			}
		}
	}
	if persons != n/50 || auctions != n/50*3 || bids != n/50*46 {
		t.Errorf("%d persons, %d auctions, %d bids of %d events: want 1:3:46", persons, auctions, bids, n)
	}
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"hot auctions", float64(hotAuctions) / float64(bids), 0.505},
		{"hot bidders", float64(hotBidders) / float64(bids), 0.7525},
		{"hot sellers", float64(hotSellers) / float64(auctions), 0.7525},
		{"bytes to pad a bid", float64(extra) / float64(bids), 68},
	} {
		if d := tt.got / tt.want; d < 0.98 || d > 1.02 {
			t.Errorf("%s: %.3f, want about %.3f", tt.name, tt.got, tt.want)
		}
	}
}

// Event i is the same whoever makes it and in whatever order, and differs by seed.
func TestSplits(t *testing.T) {
	a, b, c := NewGenerator(Config{Seed: 7}), NewGenerator(Config{Seed: 7}), NewGenerator(Config{Seed: 8})
	differ := 0
	for i := range int64(5000) {
		var x, y, z Event
		a.Fill(i, &x)
		b.Fill(4999-i, new(Event)) // another order
		b.Fill(i, &y)
		c.Fill(i, &z)
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("event %d is %+v and %+v", i, x, y)
		}
		if !reflect.DeepEqual(x, z) {
			differ++
		}
	}
	if differ < 4900 {
		t.Errorf("%d of 5000 events differ by seed", differ)
	}
}
