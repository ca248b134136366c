package nexmark

import "github.com/weirstream/weir/stream"

// Q2 finds the bids on some auctions.
//
//	SELECT auction, price FROM bid WHERE auction % 123 = 0
func Q2(g *stream.Graph) error {
	some := stream.Filter(Bids(Events(g)), "where", func(b Bid) bool { return b.Auction%123 == 0 })
	answer := stream.Map(some, "select", func(b Bid) Q2Row { return Q2Row{b.Auction, b.Price} })
	return Answer(g, answer)
}

// A Q2Row is a row of the answer to q2.
type Q2Row struct {
	Auction int64 `json:"auction" parquet:"auction"`
	Price   int64 `json:"price" parquet:"price"`
}
