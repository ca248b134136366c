package stream

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/dataflow"
)

// Param returns the parameter that the job was started with (weir run PACK --
// key=value), or def. The value in force is kept with the job. A value that is
// not of the type of def is reported by Build.
//
// Durations are written as in Go: "10s", "1h30m".
func Param[T string | int | int64 | float64 | bool | time.Duration](g *Graph, key string, def T) T {
	v := def
	text, ok := g.given[key]
	if ok {
		var err error
		if v, err = parseParam[T](text); err != nil {
			g.fault("parameter %s=%q: %w", key, text, err)
			v = def
		}
	}
	if g.params == nil {
		g.params = map[string]string{}
	}
	inForce := fmt.Sprint(v)
	if old, twice := g.params[key]; twice && old != inForce {
		g.fault("parameter %s is read twice, as %s and as %s: read it once", key, old, inForce)
	}
	g.params[key] = inForce
	return v
}

func parseParam[T any](text string) (v T, err error) {
	switch p := any(&v).(type) {
	case *string:
		*p = text
	case *int:
		if *p, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("want a whole number")
		}
	case *int64:
		if *p, err = strconv.ParseInt(text, 10, 64); err != nil {
			err = fmt.Errorf("want a whole number")
		}
	case *float64:
		if *p, err = strconv.ParseFloat(text, 64); err != nil {
			err = fmt.Errorf("want a number")
		}
	case *bool:
		if *p, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("want true or false")
		}
	case *time.Duration:
		if *p, err = time.ParseDuration(text); err != nil {
			err = fmt.Errorf("want a duration such as 10s or 1h30m")
		}
	}
	return v, err
}

// checkParams refuses parameters that the job never read.
func (g *Graph) checkParams() {
	known := slices.Sorted(maps.Keys(g.params))
	for _, key := range slices.Sorted(maps.Keys(g.given)) {
		if _, ok := g.params[key]; ok {
			continue
		}
		switch near := dataflow.Nearest(key, known); {
		case near != "":
			g.fault("the job has no parameter %q: did you mean %q?", key, near)
		case len(known) > 0:
			g.fault("the job has no parameter %q: it has %s", key, strings.Join(known, ", "))
		default:
			g.fault("the job has no parameter %q: it has none at all", key)
		}
	}
}
