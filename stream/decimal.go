package stream

import "github.com/weirstream/weir/dataflow"

// A Decimal is an exact decimal number of up to 38 digits, for money.
type Decimal = dataflow.Decimal

// ParseDecimal reads a decimal number such as "-12.50".
func ParseDecimal(s string) (Decimal, error) { return dataflow.ParseDecimal(s) }

// MustParseDecimal is ParseDecimal for constants: it panics on what is not a
// number.
func MustParseDecimal(s string) Decimal { return dataflow.MustParseDecimal(s) }

// DecimalFromInt returns v as a Decimal.
func DecimalFromInt(v int64) Decimal { return dataflow.DecimalFromInt(v) }
