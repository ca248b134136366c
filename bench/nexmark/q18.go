package nexmark

import "github.com/weirstream/weir/stream"

// Q18 finds the last bid of each bidder on each auction. Bids of the same time
// count in the order in which they arrive.
//
//	SELECT auction, bidder, price, channel, url, date_time, extra
//	FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC) AS n FROM bid)
//	WHERE n <= 1
func Q18(g *stream.Graph) error {
	type pair struct{ Bidder, Auction int64 }
	byPair := stream.KeyBy(Bids(Events(g)), func(b Bid) pair { return pair{b.Bidder, b.Auction} })
	last := stream.Actors(byPair, "last bid", func() *lastBid { return new(lastBid) })
	return Answer(g, last)
}

// lastBid is the last bid of one bidder on one auction.
type lastBid struct{ Bid Bid }

// Receive keeps and emits the bid if it is not older.
func (l *lastBid) Receive(ctx stream.Context[Bid], b Bid) {
	if b.DateTime >= l.Bid.DateTime {
		l.Bid = b
		ctx.Emit(b)
	}
}
