package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/cloud"
)

// tableFlags are shared by the subcommands of weir table.
type tableFlags struct {
	output    format
	version   int64 // -1 is the newest
	timestamp string
	where     string
	columns   []string
	limit     int
	rowIDs    bool
	meter     *meter // of the table that open opened
}

func tableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Read, change and maintain Delta Lake tables",
		Long: `Table works on the Delta table at a path or a URI: file://, s3://, gs://, az:// or
abfss://.

Conditions (--where, --on) are SQL as Spark has it: = <> < <= > >= <=>, and or not, in,
between, like, is null, is distinct from, + - * / % ||, case, cast, coalesce, if, upper,
lower, length, substring, concat, abs, year and more. Texts and times stand in single
quotes, names with spaces or points in backticks, binary as X'00FF'.`,
		Example: `  weir table create T --columns 'id long not null, day date, tags array<string>' --partition-by day
  weir table append T --from rows.parquet
  weir table show T --where "day = '2026-01-31'" --limit 5
  weir table merge T --from changes.parquet --on 'target.id = source.id'
  weir table export T --version 3 --to old.parquet`,
	}
	group(cmd, "Read", tableInfo(), tableSchema(), tableFiles(), tableHistory(), tableDiff(), tableShow(), tableExport(), tableCDF(), tableFollow())
	group(cmd, "Change", tableCreate(), tableConvert(), tableAppend(), tableDelete(), tableMerge(), tableRestore(), tableAlter(), tableProperties())
	group(cmd, "Maintain", tableOptimize(), tableVacuum(), tableCheckpoint(), tableFsck())
	for _, c := range cmd.Commands() {
		c.PreRunE = func(cmd *cobra.Command, _ []string) error { return checkFlags(cmd) } // before anything is changed
	}
	return cmd
}

// plain is a table's URI without its options, which may hold secrets.
func plain(uri string) string {
	if at, _, ok := strings.Cut(uri, "?"); ok && strings.Contains(at, "://") {
		return at
	}
	return uri
}

func openTable(ctx context.Context, uri string) (*deltalake.Table, error) {
	return new(tableFlags).open(ctx, uri)
}

// counted opens a table's store, which f.meter counts.
func (f *tableFlags) counted(ctx context.Context, uri string) error {
	store, err := cloud.Open(ctx, uri)
	if err == nil {
		f.meter = newMeter(store)
	}
	return err
}

// open opens a table whose store f.meter counts.
func (f *tableFlags) open(ctx context.Context, uri string) (*deltalake.Table, error) {
	if err := f.counted(ctx, uri); err != nil {
		return nil, err
	}
	t, err := deltalake.Open(ctx, f.meter, deltalake.TableOptions{})
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", plain(uri), err)
	}
	return t, nil
}

// snapshot opens the version that the flags ask for.
func (f *tableFlags) snapshot(ctx context.Context, uri string) (*deltalake.Snapshot, error) {
	if f.version >= 0 {
		if err := f.counted(ctx, uri); err != nil {
			return nil, err
		}
		s, err := deltalake.ReadVersion(ctx, f.meter, f.version, deltalake.TableOptions{})
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", plain(uri), err)
		}
		return s, nil
	}
	var at time.Time
	if f.timestamp != "" {
		var err error
		if at, err = parseMoment(f.timestamp); err != nil {
			return nil, err
		}
	}
	t, err := f.open(ctx, uri)
	if err != nil {
		return nil, err
	}
	s := t.Latest()
	if f.timestamp != "" {
		if s, err = t.AtTime(ctx, at); err != nil {
			return nil, fmt.Errorf("table %s: %w", plain(uri), err)
		}
	}
	return s, nil
}

// parseMoment reads --timestamp; without a zone it is UTC.
func parseMoment(text string) (time.Time, error) {
	whole := strings.Replace(strings.TrimSpace(text), " ", "T", 1)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02",
		"2006-01-02T15:04:05.999999999Z0700"} {
		if t, err := time.Parse(layout, whole); err == nil {
			return t, nil
		}
	}
	if ms, err := strconv.ParseInt(whole, 10, 64); err == nil && len(whole) >= 12 {
		return time.UnixMilli(ms), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-01-31T12:00:00Z (or milliseconds since 1970)", text)
}

// scan turns the flags into what to read.
func (f *tableFlags) scan() (deltalake.ScanOptions, error) {
	o := deltalake.ScanOptions{RowIDs: f.rowIDs}
	if len(f.columns) > 0 {
		o.Columns = f.columns
	}
	var err error
	o.Filter, err = f.condition()
	return o, err
}

// condition is what --where says, nil for all rows.
func (f *tableFlags) condition() (*deltalake.Expr, error) {
	if f.where == "" {
		return nil, nil
	}
	return deltalake.ParseExpr(f.where)
}

// checkFlags refuses what no subcommand has a meaning for: numbers below 0, but for
// the default that stands for none, and two ways to say one thing.
func checkFlags(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(fl *pflag.Flag) {
		switch fl.Value.Type() {
		case "int", "int64", "float64":
			if strings.HasPrefix(fl.Value.String(), "-") && fl.Value.String() != fl.DefValue && err == nil {
				err = fmt.Errorf("--%s %s is negative", fl.Name, fl.Value)
			}
		}
	})
	for _, two := range [][2]string{{"version", "timestamp"}, {"all", "where"}} {
		a, b := cmd.Flags().Lookup(two[0]), cmd.Flags().Lookup(two[1])
		if err == nil && a != nil && b != nil && a.Changed && b.Changed {
			err = fmt.Errorf("give --%s or --%s, not both", two[0], two[1])
		}
	}
	return err
}

func (f *tableFlags) addVersion(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.version, "version", -1, "version of the table; -1 is the newest")
	cmd.Flags().StringVar(&f.timestamp, "timestamp", "", "the newest version that is not younger than this time, such as 2026-01-31T12:00:00Z")
}

func (f *tableFlags) addScan(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.where, "where", "", "condition that rows must fulfil")
	cmd.Flags().StringSliceVar(&f.columns, "columns", nil, "columns to read (default all)")
}

// print writes v as JSON when asked for, else calls text.
func (f *tableFlags) print(w io.Writer, v any, text func() error) error {
	if f.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	return text()
}

// change builds a command over one table that prints a result.
func change(use, short string, f *tableFlags, run func(ctx context.Context, t *deltalake.Table) (any, string, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var v any
			var text string
			err = f.meter.during(cmd.ErrOrStderr(), cmd.Name(), func() (err error) { v, text, err = run(cmd.Context(), t); return err })
			if err != nil {
				return fmt.Errorf("table %s: %w", plain(args[0]), err)
			}
			return f.print(cmd.OutOrStdout(), v, func() error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	addFormat(cmd, &f.output)
	return cmd
}

func metricsText(m *deltalake.Metrics) string {
	if !m.Committed {
		return fmt.Sprintf("nothing to do at version %d", m.Version)
	}
	return fmt.Sprintf("version %d: %d rows deleted, %d updated, %d inserted; %d files added, %d removed", m.Version, m.RowsDeleted, m.RowsUpdated,
		m.RowsInserted, m.FilesAdded, m.FilesRemoved)
}
