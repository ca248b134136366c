package load

import (
	"strconv"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/examples/retail"
)

func total(lines []retail.CheckoutLine) (sum dataflow.Decimal) {
	sum = money(0)
	for _, l := range lines {
		next, err := sum.Add(l.Amount)
		if err != nil {
			return sum // cannot happen for amounts of two digits after the point
		}
		sum = next
	}
	return sum
}

func appendLine(b []byte, l retail.CheckoutLine) []byte {
	b = appendInt(append(b, '{'), "household_id", l.Household)
	b = appendInt(append(b, ','), "store_id", l.Store)
	b = appendInt(append(b, ','), "basket_id", l.Basket)
	b = appendInt(append(b, ','), "product_id", l.Product)
	b = appendText(append(b, ','), "department", l.Department)
	b = appendText(append(b, ','), "category", l.Category)
	b = appendInt(append(b, ','), "quantity", l.Quantity)
	b = append(append(b, `,"amount":`...), l.Amount.String()...)
	b = append(append(b, `,"discount":`...), l.Discount.String()...)
	return appendTime(b, l.At)
}

func appendCart(b []byte, kind string, l retail.CheckoutLine, at time.Time) []byte {
	b = appendText(append(b, '{'), "type", kind)
	b = appendInt(append(b, ','), "household_id", l.Household)
	b = appendInt(append(b, ','), "basket_id", l.Basket)
	b = appendInt(append(b, ','), "product_id", l.Product)
	b = appendInt(append(b, ','), "quantity", l.Quantity)
	b = append(append(b, `,"amount":`...), l.Amount.String()...)
	return appendTime(b, at)
}

func appendTime(b []byte, at time.Time) []byte {
	return append(at.AppendFormat(append(b, `,"at":"`...), time.RFC3339), `"}`...)
}

func appendInt(b []byte, name string, v int64) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	return strconv.AppendInt(b, v, 10)
}

// appendText appends a field whose value needs no JSON escape but quotes.
func appendText(b []byte, name, v string) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	return strconv.AppendQuote(b, v)
}
