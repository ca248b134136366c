package nexmark

import "github.com/weirstream/weir/stream"

// Q19 keeps the ten highest bids of each auction; of equal prices the earlier
// comes first, which the query leaves open.
//
//	SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid)
//	WHERE rank_number <= 10
func Q19(g *stream.Graph) error {
	byAuction := stream.KeyBy(Bids(Events(g)), func(b Bid) int64 { return b.Auction })
	top := stream.Actors(byAuction, "top ten", func() *topTen { return new(topTen) })
	return Answer(g, top)
}

// topTen is the ten highest bids of one auction, the highest first.
type topTen struct{ Bids []Bid }

// Receive ranks a bid and emits every rank that has changed.
func (t *topTen) Receive(ctx stream.Context[Q19Row], b Bid) {
	at := len(t.Bids)
	for at > 0 && before(&b, &t.Bids[at-1]) {
		at--
	}
	if at == 10 {
		return
	}
	if len(t.Bids) < 10 {
		t.Bids = append(t.Bids, Bid{})
	}
	copy(t.Bids[at+1:], t.Bids[at:])
	t.Bids[at] = b
	for i := at; i < len(t.Bids); i++ {
		ctx.Emit(Q19Row{t.Bids[i], int64(i + 1)})
	}
}

func before(a, b *Bid) bool {
	return a.Price > b.Price || a.Price == b.Price && a.DateTime < b.DateTime
}

// A Q19Row is the bid that holds a rank now.
type Q19Row struct {
	Bid
	RankNumber int64 `json:"rank_number" parquet:"rank_number"`
}
