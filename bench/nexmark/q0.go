package nexmark

import "github.com/weirstream/weir/stream"

// Q0 passes bids through: what moving them costs.
//
//	SELECT auction, bidder, price, date_time, extra FROM bid
func Q0(g *stream.Graph) error {
	answer := stream.Map(Bids(Events(g)), "select", func(b Bid) Q0Row {
		return Q0Row{b.Auction, b.Bidder, b.Price, b.DateTime, b.Extra}
	})
	return Answer(g, answer)
}

// A Q0Row is a row of the answer to q0.
type Q0Row struct {
	Auction  int64  `json:"auction" parquet:"auction"`
	Bidder   int64  `json:"bidder" parquet:"bidder"`
	Price    int64  `json:"price" parquet:"price"`
	DateTime int64  `json:"date_time" parquet:"date_time,timestamp(microsecond:local)"`
	Extra    string `json:"extra" parquet:"extra"`
}
