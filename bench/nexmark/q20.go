package nexmark

import "github.com/weirstream/weir/stream"

// Q20 adds to each bid its auction, if that is of category 10. Both sides are kept
// for ever, as a join must that knows nothing of its keys.
//
//	SELECT b.*, a.* FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10
func Q20(g *stream.Graph) error {
	events := Events(g)
	auctions := Auctions(events, func(a *Auction) bool { return a.Category == 10 })
	answer := stream.Connect(
		stream.KeyBy(Bids(events), func(b Bid) int64 { return b.Auction }),
		stream.KeyBy(auctions, func(a Auction) int64 { return a.ID }),
		"join", func() *bidsOn { return new(bidsOn) }, bidsSeen)
	return Answer(g, answer)
}

// bidsSeen is the bids on an id; a list, for there may be many.
var bidsSeen = stream.NewList[Bid]("bids")

// bidsOn joins one id. Its list of auctions is short.
type bidsOn struct{ Auctions []Auction }

// ReceiveLeft joins a bid with the auctions seen.
func (o *bidsOn) ReceiveLeft(ctx stream.Context[Q20Row], b Bid) {
	bidsSeen.Append(ctx, b)
	for i := range o.Auctions {
		ctx.Emit(join(&b, &o.Auctions[i]))
	}
}

// ReceiveRight joins an auction with the bids seen.
func (o *bidsOn) ReceiveRight(ctx stream.Context[Q20Row], a Auction) {
	o.Auctions = append(o.Auctions, a)
	for b := range bidsSeen.All(ctx) {
		ctx.Emit(join(&b, &a))
	}
}

func join(b *Bid, a *Auction) Q20Row {
	return Q20Row{
		b.Auction, b.Bidder, b.Price, b.Channel, b.URL, b.DateTime, b.Extra,
		a.ItemName, a.Description, a.InitialBid, a.Reserve, a.DateTime, a.Expires, a.Seller, a.Category, a.Extra,
	}
}

// A Q20Row is a bid with its auction.
type Q20Row struct {
	Auction         int64  `json:"auction" parquet:"auction"`
	Bidder          int64  `json:"bidder" parquet:"bidder"`
	Price           int64  `json:"price" parquet:"price"`
	Channel         string `json:"channel" parquet:"channel"`
	URL             string `json:"url" parquet:"url"`
	BidDateTime     int64  `json:"bid_date_time" parquet:"bid_date_time,timestamp(microsecond:local)"`
	BidExtra        string `json:"bid_extra" parquet:"bid_extra"`
	ItemName        string `json:"item_name" parquet:"item_name"`
	Description     string `json:"description" parquet:"description"`
	InitialBid      int64  `json:"initial_bid" parquet:"initial_bid"`
	Reserve         int64  `json:"reserve" parquet:"reserve"`
	AuctionDateTime int64  `json:"auction_date_time" parquet:"auction_date_time,timestamp(microsecond:local)"`
	Expires         int64  `json:"expires" parquet:"expires,timestamp(microsecond:local)"`
	Seller          int64  `json:"seller" parquet:"seller"`
	Category        int64  `json:"category" parquet:"category"`
	AuctionExtra    string `json:"auction_extra" parquet:"auction_extra"`
}
