package stream

import "github.com/weirstream/weir/dataflow"

// Decimal is an exact number of up to 38 digits: money. The zero value is 0.
type Decimal = dataflow.Decimal
