package nexmark

import "github.com/weirstream/weir/stream"

// Q3 finds who sells in category 10 in three states.
//
//	SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
//	WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')
func Q3(g *stream.Graph) error {
	events := Events(g)
	auctions := stream.Map(Auctions(events, func(a *Auction) bool { return a.Category == 10 }), "auction columns",
		func(a Auction) sale { return sale{a.ID, a.Seller} })
	persons := stream.Map(Persons(events, func(p *Person) bool { return p.State == "OR" || p.State == "ID" || p.State == "CA" }), "person columns",
		func(p Person) seller { return seller{p.ID, p.Name, p.City, p.State} })
	answer := stream.Connect(
		stream.KeyBy(auctions, func(a sale) int64 { return a.Seller }),
		stream.KeyBy(persons, func(p seller) int64 { return p.ID }),
		"join", func() *salesOf { return new(salesOf) })
	return Answer(g, answer)
}

type sale struct{ ID, Seller int64 }

type seller struct {
	ID                int64
	Name, City, State string
}

// salesOf joins one id: both sides are kept, for more of either may come.
type salesOf struct {
	Sellers []seller
	Sales   []int64
}

// ReceiveLeft joins an auction with the persons seen.
func (s *salesOf) ReceiveLeft(ctx stream.Context[Q3Row], a sale) {
	s.Sales = append(s.Sales, a.ID)
	for _, p := range s.Sellers {
		ctx.Emit(Q3Row{p.Name, p.City, p.State, a.ID})
	}
}

// ReceiveRight joins a person with the auctions seen.
func (s *salesOf) ReceiveRight(ctx stream.Context[Q3Row], p seller) {
	s.Sellers = append(s.Sellers, p)
	for _, id := range s.Sales {
		ctx.Emit(Q3Row{p.Name, p.City, p.State, id})
	}
}

// A Q3Row is a row of the answer to q3.
type Q3Row struct {
	Name  string `json:"name" parquet:"name"`
	City  string `json:"city" parquet:"city"`
	State string `json:"state" parquet:"state"`
	ID    int64  `json:"id" parquet:"id"`
}
