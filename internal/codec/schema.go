package codec

const (
	nameTime    = "weir_time"
	nameDecimal = "weir_decimal"
	nameUint64  = "weir_uint64"
)
