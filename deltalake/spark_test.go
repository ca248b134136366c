package deltalake

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// others is the Spark session of a test.
type others struct{ x *tools }

type otherAnswer struct {
	H       []string
	Version int64
	Rows    int64
}

// ask sends a command to Spark; an error of Spark's ends the test.
func (o *others) ask(t *testing.T, args map[string]any) otherAnswer {
	t.Helper()
	a, err := o.x.ask(t, "spark", args)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return otherAnswer{a.H, a.Number, a.Count}
}

// agree compares our rows of the newest version with those of other readers.
func (o *others) agree(t *testing.T, dir, what string, readers ...string) *Table {
	t.Helper()
	return o.x.agree(t, dir, what, readers...)
}

// What a model of rows does not show, such as row ids and the marks of identity
// columns, is the same to us and to Spark while both write. It takes minutes:
// WEIR_SPARK is the folder with venv and jars (deploy/real/spark.sh).
func TestSpark(t *testing.T) {
	if os.Getenv("WEIR_SPARK") == "" {
		t.Skip("SKIPPED: WEIR_SPARK does not name a folder with a Spark venv and Delta's jars: run make test-interop")
	}
	o := &others{startTools(t)}
	for _, f := range sparkFeatures {
		began := time.Now()
		t.Run(f.name, func(t *testing.T) { f.run(t, o) })
		fmt.Fprintln(os.Stderr, "spark:", f.name, time.Since(began).Round(time.Second))
	}
}
