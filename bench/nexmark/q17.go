package nexmark

import (
	"time"

	"github.com/weirstream/weir/stream"
)

// Q17 keeps statistics of each auction's bids per day.
//
//	SELECT auction, strftime(date_time, '%Y-%m-%d') AS day, count(*) AS total_bids,
//	       count(*) FILTER (price < 10000) AS rank1_bids,
//	       count(*) FILTER (price >= 10000 AND price < 1000000) AS rank2_bids,
//	       count(*) FILTER (price >= 1000000) AS rank3_bids,
//	       min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
//	FROM bid GROUP BY auction, day
func Q17(g *stream.Graph) error {
	type auctionDay struct{ Auction, Day int64 }
	dates := newCalendar()
	byDay := stream.KeyBy(Bids(Events(g)), func(b Bid) auctionDay { return auctionDay{b.Auction, dayOf(b.DateTime)} })
	stats := stream.Actors(byDay, "statistics", func() *bidStats { return &bidStats{dates: dates} })
	return Answer(g, stats)
}

// bidStats are the statistics of one auction on one day.
type bidStats struct {
	Count, Low, Middle, High int64
	Min, Max, Sum            int64

	dates *calendar `state:"-"`
}

// Receive counts a bid and emits the statistics as they are now.
func (s *bidStats) Receive(ctx stream.Context[Q17Row], b Bid) {
	if s.Count == 0 {
		s.Min, s.Max = b.Price, b.Price
	}
	s.Count++
	switch {
	case b.Price < 10_000:
		s.Low++
	case b.Price < 1_000_000:
		s.Middle++
	default:
		s.High++
	}
	s.Min, s.Max = min(s.Min, b.Price), max(s.Max, b.Price)
	s.Sum += b.Price
	ctx.Emit(Q17Row{b.Auction, s.dates.date(dayOf(b.DateTime)), s.Count, s.Low, s.Middle, s.High, s.Min, s.Max, s.Sum / s.Count, s.Sum})
}

// A Q17Row is the newest statistics of an auction on a day.
type Q17Row struct {
	Auction   int64  `json:"auction" parquet:"auction"`
	Day       string `json:"day" parquet:"day"`
	TotalBids int64  `json:"total_bids" parquet:"total_bids"`
	Rank1Bids int64  `json:"rank1_bids" parquet:"rank1_bids"`
	Rank2Bids int64  `json:"rank2_bids" parquet:"rank2_bids"`
	Rank3Bids int64  `json:"rank3_bids" parquet:"rank3_bids"`
	MinPrice  int64  `json:"min_price" parquet:"min_price"`
	MaxPrice  int64  `json:"max_price" parquet:"max_price"`
	AvgPrice  int64  `json:"avg_price" parquet:"avg_price"`
	SumPrice  int64  `json:"sum_price" parquet:"sum_price"`
}

// dayOf returns the day of a time, in days since 1970.
func dayOf(micros int64) int64 { return micros / (24 * 3600 * 1_000_000) }

// A calendar spells days; it is immutable. Those of the usual years are slices of
// one string.
type calendar struct {
	first int64
	text  string
}

const dateLen = len("2006-01-02")

func newCalendar() *calendar {
	from, to := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	var b []byte
	for t := from; t.Before(to); t = t.AddDate(0, 0, 1) {
		b = t.AppendFormat(b, time.DateOnly)
	}
	return &calendar{dayOf(from.UnixMicro()), string(b)}
}

func (c *calendar) date(day int64) string {
	if i := int(day-c.first) * dateLen; i >= 0 && i < len(c.text) {
		return c.text[i : i+dateLen]
	}
	return time.Unix(day*24*3600, 0).UTC().Format(time.DateOnly)
}
