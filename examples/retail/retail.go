// Package retail holds the events of the retail example: what a shop's tills and
// web carts send. The jobs over them are in the folders beside it.
package retail

import (
	"time"

	"github.com/weirstream/weir/stream"
)

// The topics.
const (
	CheckoutEvents = "checkout_events"
	CartUpdates    = "cart_updates"
	ClosedBaskets  = "closed_baskets" // written by the baskets job
)

// A CheckoutLine is one line of a receipt.
type CheckoutLine struct {
	Household  int64          `json:"household_id"`
	Store      int64          `json:"store_id"`
	Basket     int64          `json:"basket_id"`
	Product    int64          `json:"product_id"`
	Department string         `json:"department"`
	Category   string         `json:"category"`
	Quantity   int64          `json:"quantity"`
	Amount     stream.Decimal `json:"amount" weir:"amount,decimal(12,2)"`     // paid
	Discount   stream.Decimal `json:"discount" weir:"discount,decimal(12,2)"` // given, all kinds
	At         time.Time      `json:"at"`
}

// A CartUpdate says that a shopper put a product into the cart, or checked out.
type CartUpdate struct {
	Type      string         `json:"type"` // AddToCart or Checkout
	Household int64          `json:"household_id"`
	Basket    int64          `json:"basket_id"`
	Product   int64          `json:"product_id"` // 0 for Checkout
	Quantity  int64          `json:"quantity"`
	Amount    stream.Decimal `json:"amount" weir:"amount,decimal(12,2)"`
	At        time.Time      `json:"at"`
}

// The types of a CartUpdate.
const (
	AddToCart = "add_to_cart"
	Checkout  = "checkout"
)
