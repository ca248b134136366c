package objstore

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// URLOptions are the options of a driver by their names in a URL's query: each is
// where a value goes, a *string, *bool, **bool, *int, *int64 or *time.Duration.
type URLOptions map[string]any

// Parse sets what query names and reports all that is wrong. Canonical returns the
// name under which an option is known here; nil is for drivers whose options have
// one name each.
func (o URLOptions) Parse(query url.Values, canonical func(name string) string) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(query)) {
		known := name
		if canonical != nil {
			known = canonical(name)
		}
		if err := o.set(known, query.Get(name)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (o URLOptions) set(name, value string) (err error) {
	switch p := o[name].(type) {
	case nil:
		return fmt.Errorf("unknown option: want one of %s", strings.Join(slices.Sorted(maps.Keys(o)), ", "))
	case *string:
		*p = value
	case *bool:
		*p, err = strconv.ParseBool(value)
	case **bool:
		*p = new(bool)
		**p, err = strconv.ParseBool(value)
	case *int:
		*p, err = strconv.Atoi(value)
	case *int64:
		*p, err = strconv.ParseInt(value, 10, 64)
	case *time.Duration:
		*p, err = time.ParseDuration(value)
	default:
		panic(fmt.Sprintf("objstore: option %s is a %T", name, p))
	}
	return err
}
