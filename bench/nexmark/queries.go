package nexmark

import (
	"fmt"
	"strings"

	"github.com/weirstream/weir/stream"
)

// A Query is one of the benchmark's queries.
type Query struct {
	Name  string
	Build func(*stream.Graph) error
	// Convert makes a Parquet file of the lines that Answer wrote to a folder: of an
	// updating query, the last version of each row.
	Convert func(folder, file string) (rows int64, err error)
}

// Queries returns the queries in order.
func Queries() []Query {
	return []Query{
		{"q0", Q0, allRows[Q0Row]},
		{"q1", Q1, convertQ1},
		{"q2", Q2, allRows[Q2Row]},
		{"q3", Q3, allRows[Q3Row]},
		{"q17", Q17, lastRows(func(r Q17Row) any {
			return struct {
				auction int64
				day     string
			}{r.Auction, r.Day}
		})},
		{"q18", Q18, lastRows(func(r Bid) any { return [2]int64{r.Bidder, r.Auction} })},
		{"q19", Q19, lastRows(func(r Q19Row) any { return [2]int64{r.Auction, r.RankNumber} })},
		{"q20", Q20, allRows[Q20Row]},
	}
}

// QueryNamed returns the query of a name.
func QueryNamed(name string) (Query, error) {
	var names []string
	for _, q := range Queries() {
		if q.Name == name {
			return q, nil
		}
		names = append(names, q.Name)
	}
	return Query{}, fmt.Errorf("nexmark: there is no query %q: there are %s", name, strings.Join(names, ", "))
}
