package nexmark

import "github.com/weirstream/weir/stream"

var dollarInEuro = stream.MustParseDecimal("0.908")

// Q1 converts prices from dollars to euros, exactly.
//
//	SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid
func Q1(g *stream.Graph) error {
	answer := stream.Map(Bids(Events(g)), "convert", func(b Bid) Q1Row {
		euros, err := dollarInEuro.Mul(stream.DecimalFromInt(b.Price))
		if err != nil {
			panic(err) // beyond 38 digits: no int64 is
		}
		return Q1Row{b.Auction, b.Bidder, euros, b.DateTime, b.Extra}
	})
	return Answer(g, answer)
}

// A Q1Row is a row of the answer to q1.
type Q1Row struct {
	Auction  int64          `json:"auction"`
	Bidder   int64          `json:"bidder"`
	Price    stream.Decimal `json:"price" weir:"price,decimal(23,3)"`
	DateTime int64          `json:"date_time"`
	Extra    string         `json:"extra"`
}
