package nexmark

import "time"

// A Person has registered. Times are microseconds since 1970 UTC.
type Person struct {
	ID           int64  `json:"id" parquet:"id"`
	Name         string `json:"name" parquet:"name"`
	EmailAddress string `json:"email_address" parquet:"email_address"`
	CreditCard   string `json:"credit_card" parquet:"credit_card"`
	City         string `json:"city" parquet:"city"`
	State        string `json:"state" parquet:"state"`
	DateTime     int64  `json:"date_time" parquet:"date_time,timestamp(microsecond:local)"`
	Extra        string `json:"extra" parquet:"extra"`
}

// An Auction has opened.
type Auction struct {
	ID          int64  `json:"id" parquet:"id"`
	ItemName    string `json:"item_name" parquet:"item_name"`
	Description string `json:"description" parquet:"description"`
	InitialBid  int64  `json:"initial_bid" parquet:"initial_bid"`
	Reserve     int64  `json:"reserve" parquet:"reserve"`
	DateTime    int64  `json:"date_time" parquet:"date_time,timestamp(microsecond:local)"`
	Expires     int64  `json:"expires" parquet:"expires,timestamp(microsecond:local)"`
	Seller      int64  `json:"seller" parquet:"seller"`
	Category    int64  `json:"category" parquet:"category"`
	Extra       string `json:"extra" parquet:"extra"`
}

// A Bid was placed. Prices are in cents.
type Bid struct {
	Auction  int64  `json:"auction" parquet:"auction"`
	Bidder   int64  `json:"bidder" parquet:"bidder"`
	Price    int64  `json:"price" parquet:"price"`
	Channel  string `json:"channel" parquet:"channel"`
	URL      string `json:"url" parquet:"url"`
	DateTime int64  `json:"date_time" parquet:"date_time,timestamp(microsecond:local)"`
	Extra    string `json:"extra" parquet:"extra"`
}

// An Event is one of the three: a Bid if the pointers are nil. Bids, 23 of 25
// events, are held by value so that they cost no allocation.
type Event struct {
	Person  *Person
	Auction *Auction
	Bid     Bid
}

// IsBid reports whether the event is a bid.
func (e *Event) IsBid() bool { return e.Person == nil && e.Auction == nil }

// Time returns the event time.
func (e *Event) Time() time.Time {
	switch {
	case e.Person != nil:
		return time.UnixMicro(e.Person.DateTime)
	case e.Auction != nil:
		return time.UnixMicro(e.Auction.DateTime)
	}
	return time.UnixMicro(e.Bid.DateTime)
}
