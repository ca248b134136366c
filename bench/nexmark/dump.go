package nexmark

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/weirstream/weir/stream"
)

// DumpEvents writes the first n events as person.parquet, auction.parquet and
// bid.parquet into a folder.
func DumpEvents(g *Generator, n int64, folder string) (err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	persons, err := create[Person](filepath.Join(folder, "person.parquet"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, persons.close()) }()
	auctions, err := create[Auction](filepath.Join(folder, "auction.parquet"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, auctions.close()) }()
	bids, err := create[Bid](filepath.Join(folder, "bid.parquet"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bids.close()) }()
	for i := range n {
		var e Event
		g.Fill(i, &e)
		switch {
		case e.Person != nil:
			err = persons.add(*e.Person)
		case e.Auction != nil:
			err = auctions.add(*e.Auction)
		default:
			err = bids.add(e.Bid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A table is a Parquet file being written.
type table[T any] struct {
	file *os.File
	w    *parquet.GenericWriter[T]
	rows []T
	n    int64
}

func create[T any](path string) (*table[T], error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &table[T]{file: f, w: parquet.NewGenericWriter[T](f, parquet.Compression(&parquet.Snappy))}, nil
}

func (t *table[T]) add(row T) error {
	t.rows = append(t.rows, row)
	if len(t.rows) < 1024 {
		return nil
	}
	return t.flush()
}

func (t *table[T]) flush() error {
	n, err := t.w.Write(t.rows)
	t.n += int64(n)
	t.rows = t.rows[:0]
	return err
}

func (t *table[T]) close() error {
	return errors.Join(t.flush(), t.w.Close(), t.file.Close())
}

// eachRow calls f with the rows of an answer. The files of one subtask come in the
// order in which it wrote them, so the last row of a key is its newest version.
func eachRow[T any](folder string, f func(T) error) error {
	files, err := filepath.Glob(filepath.Join(folder, "part-*.json*"))
	if err != nil {
		return err
	}
	slices.Sort(files) // by subtask, then epoch
	for _, path := range files {
		if err := eachLine(path, f); err != nil {
			return fmt.Errorf("nexmark: %s: %w", path, err)
		}
	}
	return nil
}

func eachLine[T any](path string, f func(T) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row T
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return lines.Err()
}

// allRows converts the answer of a query that never takes a row back.
func allRows[T any](folder, file string) (rows int64, err error) {
	t, err := create[T](file)
	if err != nil {
		return 0, err
	}
	defer func() { err, rows = errors.Join(err, t.close()), t.n }()
	return 0, eachRow(folder, t.add)
}

// lastRows converts the answer of a query whose rows replace those of their key.
func lastRows[T any](key func(T) any) func(folder, file string) (int64, error) {
	return func(folder, file string) (rows int64, err error) {
		t, err := create[T](file)
		if err != nil {
			return 0, err
		}
		defer func() { err, rows = errors.Join(err, t.close()), t.n }()
		last := map[any]int{}
		var all []T
		if err := eachRow(folder, func(row T) error {
			k := key(row)
			i, ok := last[k]
			if !ok {
				i = len(all)
				all, last[k] = append(all, row), i
			}
			all[i] = row
			return nil
		}); err != nil {
			return 0, err
		}
		for _, row := range all {
			if err := t.add(row); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}
}

// q1Parquet is Q1Row with its price as unscaled thousandths.
type q1Parquet struct {
	Auction  int64  `parquet:"auction"`
	Bidder   int64  `parquet:"bidder"`
	Price    int64  `parquet:"price,decimal(3:18)"`
	DateTime int64  `parquet:"date_time,timestamp(microsecond:local)"`
	Extra    string `parquet:"extra"`
}

func convertQ1(folder, file string) (rows int64, err error) {
	t, err := create[q1Parquet](file)
	if err != nil {
		return 0, err
	}
	defer func() { err, rows = errors.Join(err, t.close()), t.n }()
	return 0, eachRow(folder, func(r Q1Row) error {
		price, err := thousandths(r.Price)
		if err != nil {
			return err
		}
		return t.add(q1Parquet{r.Auction, r.Bidder, price, r.DateTime, r.Extra})
	})
}

func thousandths(d stream.Decimal) (int64, error) {
	d, err := d.Rescale(3)
	if err != nil {
		return 0, err
	}
	hi, lo := d.Parts()
	if hi != 0 || lo > 1e18 {
		return 0, fmt.Errorf("price %v has more than 18 digits", d)
	}
	return int64(lo), nil
}
