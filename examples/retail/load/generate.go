package load

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/weirstream/weir/examples/retail"
)

// JourneyLines is how many purchase lines the real data has, and Generate makes.
const JourneyLines = 1_469_307

// Generate returns n purchase lines made from a seed, in time order, with the
// schema and the proportions of the real ones: the same seed, the same lines.
func Generate(seed uint64, n int) iter.Seq2[retail.CheckoutLine, error] {
	return func(yield func(retail.CheckoutLine, error) bool) {
		r := rand.New(rand.NewPCG(seed, 84_51))
		at := time.Date(2017, 1, 1, 6, 30, 0, 0, time.UTC)
		step := 365 * 24 * time.Hour / time.Duration(n/9+1)
		for basket, left := int64(31_198_459_000), n; left > 0; basket++ {
			at = at.Add(time.Duration(r.Float64() * 2 * float64(step))).Truncate(time.Second)
			household, store := 1+r.Int64N(2469), 300+r.Int64N(450)
			for range min(left, 1+r.IntN(18)) {
				product := 25_000 + r.Int64N(92_331)
				quantity := 1 + r.Int64N(3)
				price := 50 + r.Int64N(900)
				left--
				if !yield(retail.CheckoutLine{
					Household: household, Store: store, Basket: basket, Product: product,
					Department: departments[product%int64(len(departments))], Category: fmt.Sprintf("CATEGORY %03d", product%302),
					Quantity: quantity, Amount: money(price * quantity), Discount: money(r.Int64N(price/4 + 1)), At: at,
				}, nil) {
					return
				}
			}
		}
	}
}

var departments = []string{"GROCERY", "DRUG GM", "PRODUCE", "COSMETICS", "NUTRITION", "MEAT", "MEAT-PCKGD", "DELI", "PASTRY", "FLORAL"}
