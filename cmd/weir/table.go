package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/cloud"
)

// tableFlags are shared by the subcommands of weir table.
type tableFlags struct {
	output    string // "" or "json"
	version   int64  // -1 is the newest
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
		Long:  "Works on the Delta table at a path or a URI: file://, s3://, gs://, az:// or abfss://. Every subcommand takes -o json.",
	}
	cmd.AddCommand(tableInfo(), tableHistory(), tableShow(), tableSchema(), tableFiles(), tableExport(), tableDiff())
	cmd.AddCommand(tableChangeCommands()...)
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

// open opens a table whose store f.meter counts.
func (f *tableFlags) open(ctx context.Context, uri string) (*deltalake.Table, error) {
	store, err := cloud.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	f.meter = newMeter(store)
	t, err := deltalake.Open(ctx, f.meter, deltalake.TableOptions{})
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", plain(uri), err)
	}
	return t, nil
}

// snapshot opens the version that the flags ask for.
func (f *tableFlags) snapshot(ctx context.Context, uri string) (*deltalake.Snapshot, error) {
	if f.version >= 0 && f.timestamp != "" {
		return nil, errors.New("give --version or --timestamp, not both")
	}
	t, err := f.open(ctx, uri)
	if err != nil {
		return nil, err
	}
	s := t.Latest()
	switch {
	case f.version >= 0:
		s, err = t.At(ctx, f.version)
	case f.timestamp != "":
		var at time.Time
		if at, err = parseMoment(f.timestamp); err == nil {
			s, err = t.AtTime(ctx, at)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", plain(uri), err)
	}
	return s, nil
}

func parseMoment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-01-31T12:00:00Z", text)
}

// scan turns the flags into what to read.
func (f *tableFlags) scan() (deltalake.ScanOptions, error) {
	o := deltalake.ScanOptions{RowIDs: f.rowIDs}
	if len(f.columns) > 0 {
		o.Columns = f.columns
	}
	if f.where != "" {
		e, err := deltalake.ParseExpr(f.where)
		if err != nil {
			return o, err
		}
		o.Filter = e
	}
	return o, nil
}

func (f *tableFlags) addOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "output format: json")
	cmd.PreRunE = func(*cobra.Command, []string) error { // before anything is changed
		if f.output != "" && f.output != "json" && f.output != "text" {
			return fmt.Errorf("-o %q is unknown: json, or text", f.output)
		}
		return nil
	}
}

func (f *tableFlags) addVersion(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.version, "version", -1, "version of the table; the newest")
	cmd.Flags().StringVar(&f.timestamp, "timestamp", "", "the version at this time")
}

func (f *tableFlags) addScan(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.where, "where", "", "condition that rows must fulfil")
	cmd.Flags().StringSliceVar(&f.columns, "columns", nil, "columns to read; all")
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

func tableInfo() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "info TABLE", Short: "Version, protocol, size and properties of a table, without reading data", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			info := s.Info()
			w := cmd.OutOrStdout()
			return f.print(w, info, func() error {
				rows := "unknown"
				if info.Rows != nil {
					rows = fmt.Sprint(*info.Rows)
				}
				fmt.Fprintf(w, "version     %d (%s)\nid          %s\nprotocol    reader %d, writer %d\nfeatures    reader %v, writer %v\n",
					info.Version, s.Timestamp().UTC().Format(time.RFC3339), info.ID, info.Protocol[0], info.Protocol[1], info.Features.Reader, info.Features.Writer)
				fmt.Fprintf(w, "files       %d\nbytes       %d\nrows        %s\npartitions  %v\n", info.Files, info.Bytes, rows, info.PartitionColumns)
				for _, k := range sortedNames(info.Properties) {
					fmt.Fprintf(w, "property    %s = %s\n", k, info.Properties[k])
				}
				for _, k := range sortedNames(info.Txns) {
					fmt.Fprintf(w, "txn         %s = %d\n", k, info.Txns[k])
				}
				printSchema(w, s.Schema())
				return nil
			})
		},
	}
	f.addOutput(cmd)
	f.addVersion(cmd)
	return cmd
}

func tableHistory() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "history TABLE", Short: "The commits of a table, newest first", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			h, err := t.History(cmd.Context(), f.limit)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			return f.print(w, h, func() error {
				rows := [][]string{{"version", "time", "operation", "parameters", "metrics", "engine"}}
				for _, e := range h {
					rows = append(rows, []string{fmt.Sprint(e.Version), e.Time.UTC().Format(time.RFC3339), e.Info.Operation,
						joinMap(e.Info.OperationParameters), joinMap(e.Info.OperationMetrics), e.Info.EngineInfo})
				}
				return printGrid(w, rows)
			})
		},
	}
	f.addOutput(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 20, "commits to show; 0 shows all")
	return cmd
}

func tableSchema() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "schema TABLE", Short: "The columns of a table", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			return f.print(w, s.Schema(), func() error { printSchema(w, s.Schema()); return nil })
		},
	}
	f.addOutput(cmd)
	f.addVersion(cmd)
	return cmd
}

func tableFiles() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "files TABLE", Short: "The live data files of a table", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			files := s.Files()
			w := cmd.OutOrStdout()
			return f.print(w, files, func() error {
				rows := [][]string{{"path", "bytes", "rows", "deleted"}}
				for _, a := range files {
					n, deleted := "", ""
					if r, ok := a.NumRecords(); ok {
						n = fmt.Sprint(r)
					}
					if a.DeletionVector != nil {
						deleted = fmt.Sprint(a.DeletionVector.Cardinality)
					}
					rows = append(rows, []string{a.Path, fmt.Sprint(a.Size), n, deleted})
				}
				return printGrid(w, rows)
			})
		},
	}
	f.addOutput(cmd)
	f.addVersion(cmd)
	return cmd
}

func tableShow() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "show TABLE", Short: "Rows of a table", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o, err := f.scan()
			if err != nil {
				return err
			}
			return f.show(cmd.Context(), cmd.OutOrStdout(), s, o)
		},
	}
	f.addOutput(cmd)
	f.addVersion(cmd)
	f.addScan(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 20, "rows to show; 0 shows all")
	cmd.Flags().BoolVar(&f.rowIDs, "row-ids", false, "show row ids and commit versions (delta.enableRowTracking)")
	return cmd
}

// show prints rows as a grid, or as one JSON object per line.
func (f *tableFlags) show(ctx context.Context, w io.Writer, s *deltalake.Snapshot, o deltalake.ScanOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	names := o.Columns
	if names == nil {
		for _, c := range s.Schema().Fields {
			names = append(names, c.Name)
		}
	}
	if o.RowIDs {
		names = append(slices.Clone(names), deltalake.RowID, deltalake.RowCommitVersion)
	}
	rows := [][]string{names}
	shown := 0
	for b, err := range s.Scan(ctx, o) {
		if err != nil {
			return err
		}
		for i := range b.Len {
			if f.limit > 0 && shown == f.limit {
				break
			}
			shown++
			if f.output == "json" {
				if err := printJSONRow(w, b, i); err != nil {
					return err
				}
				continue
			}
			row := make([]string, len(b.Columns))
			for j, c := range b.Columns {
				row[j] = showValue(c.Value(i))
			}
			rows = append(rows, row)
		}
		if f.limit > 0 && shown == f.limit {
			break
		}
	}
	if f.output == "json" {
		return nil
	}
	return printGrid(w, rows)
}

func tableExport() *cobra.Command {
	var f tableFlags
	var to string
	cmd := &cobra.Command{
		Use: "export TABLE --to FILE.parquet", Short: "Write the rows of a table to one Parquet file", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return errors.New("--to names the Parquet file to write")
			}
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o, err := f.scan()
			if err != nil {
				return err
			}
			var rows int64
			err = f.meter.during(cmd.ErrOrStderr(), "export", func() (err error) { rows, err = exportFile(cmd.Context(), s, o, to); return err })
			if err != nil {
				return fmt.Errorf("table %s: %w", plain(args[0]), err)
			}
			result := struct {
				Version int64  `json:"version"`
				Rows    int64  `json:"rows"`
				File    string `json:"file"`
			}{s.Version(), rows, to}
			return f.print(cmd.OutOrStdout(), result, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d rows of version %d are in %s\n", rows, s.Version(), to)
				return err
			})
		},
	}
	f.addOutput(cmd)
	f.addVersion(cmd)
	f.addScan(cmd)
	cmd.Flags().StringVar(&to, "to", "", "file to write")
	return cmd
}

// exportFile writes beside the file and moves it into place, so that a failure
// leaves nothing half-done.
func exportFile(ctx context.Context, s *deltalake.Snapshot, o deltalake.ScanOptions, to string) (rows int64, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(to), ".weir-export-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	rows, err = s.Export(ctx, tmp, o)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), to)
	}
	return rows, err
}

func tableDiff() *cobra.Command {
	var f tableFlags
	var from, until int64
	cmd := &cobra.Command{
		Use: "diff TABLE --from N [--until M]", Short: "What changed between two versions", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a, err := t.At(cmd.Context(), from)
			if err != nil {
				return err
			}
			b := t.Latest()
			if until >= 0 {
				if b, err = t.At(cmd.Context(), until); err != nil {
					return err
				}
			}
			d := deltalake.DiffOf(a, b)
			w := cmd.OutOrStdout()
			return f.print(w, d, func() error {
				fmt.Fprintf(w, "version %d to %d: %d files added, %d removed, schema changed %v, protocol changed %v\n",
					a.Version(), b.Version(), len(d.Added), len(d.Removed), d.Schema, d.Protocol)
				for _, x := range d.Added {
					fmt.Fprintln(w, "+", x.Path)
				}
				for _, x := range d.Removed {
					fmt.Fprintln(w, "-", x.Path)
				}
				for _, k := range sortedNames(d.Properties) {
					fmt.Fprintf(w, "property %s = %q\n", k, d.Properties[k])
				}
				return nil
			})
		},
	}
	f.addOutput(cmd)
	cmd.Flags().Int64Var(&from, "from", 0, "older version")
	cmd.Flags().Int64Var(&until, "until", -1, "newer version; the newest")
	return cmd
}
