package nexmark

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"time"
)

// Of every 50 events the first is a person and the next three are auctions.
const (
	perEpoch      = 50
	personsPer    = 1
	auctionsPer   = 3
	bidsFrom      = personsPer + auctionsPer
	firstPerson   = 1000
	firstAuction  = 1000
	firstCategory = 10
	categories    = 5
)

// The shape of the model: one draw in so many is not hot; a hot id is the last
// multiple of hotEvery; ids may run ahead of what has been announced by a lead.
const (
	coldAuctions  = 2
	coldBidders   = 4
	coldSellers   = 4
	coldChannels  = 2
	hotEvery      = 100
	inFlight      = 100  // auctions that take bids
	activePersons = 1000 // persons who bid and sell
	auctionLead   = 10
	personLead    = 10
	personBytes   = 200
	auctionBytes  = 500
	bidBytes      = 100
)

// Config configures a Generator. A zero field means its default.
type Config struct {
	Seed    uint64    // any; 1
	Density int64     // events per second of event time; 100,000
	Start   time.Time // event time of event 0; 2015-07-15 00:00 UTC
}

// A Generator makes events by number. It is immutable and safe for concurrent use.
type Generator struct {
	seed     uint64
	density  int64
	start    int64 // microseconds
	pad      string
	names    []string
	channels []string
	urls     []string
	coarse   [priceSteps]float64 // powers of ten: price is coarse[i] × fine[j]
	fine     [priceSteps]float64
}

const (
	padBytes    = 1 << 16
	channelsAll = 10_000
	letters     = "abcdefghijklmnopqrstuvwxyz"

	priceDecades = 6 // from 1.00 to 1,000,000.00, each as likely as the others
	priceSteps   = 1 << 10
)

var (
	firstNames  = [...]string{"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"}
	lastNames   = [...]string{"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"}
	cities      = [...]string{"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"}
	states      = [...]string{"AZ", "CA", "ID", "OR", "WA", "WY"}
	hotChannels = [...]string{"Google", "Facebook", "Baidu", "Apple"}
)

// NewGenerator returns a generator. It takes about a millisecond: strings are
// drawn from tables that it makes.
func NewGenerator(c Config) *Generator {
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Density == 0 {
		c.Density = 100_000
	}
	if c.Start.IsZero() {
		c.Start = time.Date(2015, 7, 15, 0, 0, 0, 0, time.UTC)
	}
	g := &Generator{seed: c.Seed, density: c.Density, start: c.Start.UnixMicro()}
	r := newRandom(c.Seed, -1)
	pad := make([]byte, padBytes)
	for i := range pad {
		if pad[i] = ' '; r.below(13) > 0 {
			pad[i] = letters[r.below(26)]
		}
	}
	g.pad = string(pad)
	for i := range priceSteps {
		g.coarse[i] = math.Pow(10, priceDecades*float64(i)/priceSteps) * 100
		g.fine[i] = math.Pow(10, priceDecades*float64(i)/priceSteps/priceSteps)
	}
	for _, f := range firstNames {
		for _, l := range lastNames {
			g.names = append(g.names, f+" "+l)
		}
	}
	for i := range len(hotChannels) + channelsAll {
		url := "https://www.nexmark.com/" + g.text(&r, 5) + "/" + g.text(&r, 5) + "/" + g.text(&r, 5) + "/item.htm?query=1"
		if i < len(hotChannels) {
			g.channels, g.urls = append(g.channels, hotChannels[i]), append(g.urls, url)
			continue
		}
		n := i - len(hotChannels)
		g.channels = append(g.channels, "channel-"+strconv.Itoa(n))
		g.urls = append(g.urls, url+"&channel_id="+strconv.Itoa(int(bits.Reverse32(uint32(n))&math.MaxInt32)))
	}
	return g
}

// Validate reports what is wrong with the configuration.
func (c Config) Validate() error {
	if c.Density < 0 {
		return fmt.Errorf("nexmark: Density is %d: want at least 1 event per second of event time", c.Density)
	}
	return nil
}

// Fill sets *e, which is zero, to event i.
func (g *Generator) Fill(i int64, e *Event) {
	r := newRandom(g.seed, i)
	switch offset := i % perEpoch; {
	case offset < personsPer:
		e.Person = g.person(&r, i)
	case offset < bidsFrom:
		e.Auction = g.auction(&r, i)
	default:
		g.bid(&r, i, &e.Bid)
	}
}

// at returns the time of event i.
func (g *Generator) at(i int64) int64 {
	return g.start + i/g.density*1_000_000 + i%g.density*1_000_000/g.density
}

// lastPerson returns the number of the newest person as of event i.
func lastPerson(i int64) int64 { return i / perEpoch }

// lastAuction returns the number of the newest auction as of event i, -1 before
// the first.
func lastAuction(i int64) int64 {
	return i/perEpoch*auctionsPer + min(i%perEpoch-personsPer, auctionsPer-1)
}

// anyPerson draws one of the active persons, or one who will register soon.
func (r *random) anyPerson(i int64) int64 {
	n := lastPerson(i) + 1
	active := min(n, activePersons)
	return n - active + r.below(active+personLead)
}

// anyAuction draws one of the auctions in flight, or one that will open soon.
func (r *random) anyAuction(i int64) int64 {
	last := lastAuction(i)
	least := max(last-inFlight, 0)
	return least + r.below(last-least+1+auctionLead)
}

func (g *Generator) price(r *random) int64 {
	x := r.next()
	return int64(g.coarse[x%priceSteps]*g.fine[x/priceSteps%priceSteps] + 0.5)
}

func (g *Generator) person(r *random, i int64) *Person {
	p := &Person{ID: firstPerson + lastPerson(i), DateTime: g.at(i)}
	p.Name = g.names[r.below(int64(len(g.names)))]
	buf := make([]byte, 0, 40)
	buf = append(buf, g.text(r, 7)...)
	buf = append(buf, '@')
	buf = append(buf, g.text(r, 5)...)
	buf = append(buf, ".com"...)
	mail := len(buf)
	for k := range 4 {
		if k > 0 {
			buf = append(buf, ' ')
		}
		n := 10_000 + r.below(10_000)
		buf = append(buf, byte('0'+n/1000%10), byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
	}
	both := string(buf)
	p.EmailAddress, p.CreditCard = both[:mail], both[mail:]
	p.City = cities[r.below(int64(len(cities)))]
	p.State = states[r.below(int64(len(states)))]
	p.Extra = g.extra(r, 8+len(p.Name)+len(both)+len(p.City)+len(p.State), personBytes)
	return p
}

func (g *Generator) auction(r *random, i int64) *Auction {
	a := &Auction{ID: firstAuction + lastAuction(i), DateTime: g.at(i)}
	if r.below(coldSellers) > 0 {
		a.Seller = lastPerson(i) / hotEvery * hotEvery
	} else {
		a.Seller = r.anyPerson(i)
	}
	a.Seller += firstPerson
	a.Category = firstCategory + r.below(categories)
	a.ItemName = g.text(r, 20)
	a.Description = g.text(r, 100)
	a.InitialBid = g.price(r)
	a.Reserve = a.InitialBid + g.price(r)
	// It expires, on average, when as many auctions as are in flight have opened.
	horizon := (g.at(i+inFlight*perEpoch/auctionsPer) - a.DateTime) / 1000
	a.Expires = a.DateTime + 1000*(1+r.below(max(2*horizon, 1)))
	a.Extra = g.extra(r, 8+len(a.ItemName)+len(a.Description)+5*8, auctionBytes)
	return a
}

func (g *Generator) bid(r *random, i int64, b *Bid) {
	if r.below(coldAuctions) > 0 {
		b.Auction = lastAuction(i) / hotEvery * hotEvery
	} else {
		b.Auction = r.anyAuction(i)
	}
	b.Auction += firstAuction
	if r.below(coldBidders) > 0 {
		b.Bidder = lastPerson(i)/hotEvery*hotEvery + 1
	} else {
		b.Bidder = r.anyPerson(i)
	}
	b.Bidder += firstPerson
	b.Price = g.price(r)
	channel := r.below(int64(len(hotChannels)))
	if r.below(coldChannels) == 0 {
		channel = int64(len(hotChannels)) + r.below(channelsAll)
	}
	b.Channel, b.URL = g.channels[channel], g.urls[channel]
	b.DateTime = g.at(i)
	b.Extra = g.extra(r, 4*8, bidBytes)
}

// text returns 3 to max-1 characters.
func (g *Generator) text(r *random, max int64) string {
	n := 3 + r.below(max-3)
	at := r.below(padBytes - n)
	return g.pad[at : at+n]
}

// extra returns what a row that has size bytes lacks to want, give or take a
// fifth.
func (g *Generator) extra(r *random, size, want int) string {
	if size > want {
		return ""
	}
	lack := int64(want - size)
	delta := (lack + 2) / 5
	n := lack - delta
	if delta > 0 {
		n += r.below(2 * delta)
	}
	at := r.below(padBytes - n)
	return g.pad[at : at+n]
}

// A random is a splitmix64 sequence; each event has its own.
type random uint64

func newRandom(seed uint64, i int64) random {
	return random(seed*0x9e3779b97f4a7c15 ^ uint64(i)*0xd1342543de82ef95)
}

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n).
func (r *random) below(n int64) int64 {
	hi, _ := bits.Mul64(r.next(), uint64(n))
	return int64(hi)
}
