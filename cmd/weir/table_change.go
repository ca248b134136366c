package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/cloud"
)

// tableChangeCommands are the subcommands that change or maintain a table.
func tableChangeCommands() []*cobra.Command {
	return []*cobra.Command{
		tableCreate(), tableAppend(), tableDelete(), tableMerge(), tableOptimize(), tableVacuum(), tableRestore(),
		tableCheckpoint(), tableProperties(), tableAlter(), tableFsck(), tableConvert(), tableCDF(), tableFollow(),
	}
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
	f.addOutput(cmd)
	return cmd
}

func metricsText(m *deltalake.Metrics) string {
	if !m.Committed {
		return fmt.Sprintf("nothing to do at version %d", m.Version)
	}
	return fmt.Sprintf("version %d: %d rows deleted, %d updated, %d inserted; %d files added, %d removed", m.Version, m.RowsDeleted, m.RowsUpdated,
		m.RowsInserted, m.FilesAdded, m.FilesRemoved)
}

func tableCreate() *cobra.Command {
	var f tableFlags
	var columns, partition, cluster, props []string
	cmd := &cobra.Command{
		Use: "create TABLE --columns 'id long not null, day date'", Short: "Make an empty table", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			schema, err := parseColumns(columns)
			if err != nil {
				return err
			}
			store, err := cloud.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			set, err := parseProperties(props)
			if err != nil {
				return err
			}
			values := map[string]string{}
			for k, v := range set {
				values[k] = *v
			}
			t, err := deltalake.Create(cmd.Context(), store, deltalake.CreateOptions{Schema: schema, PartitionColumns: partition, ClusterBy: cluster, Properties: values})
			if err != nil {
				return fmt.Errorf("table %s: %w", plain(args[0]), err)
			}
			return f.print(cmd.OutOrStdout(), t.Latest().Info(), func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "table %s is at version 0\n", plain(args[0]))
				return err
			})
		},
	}
	f.addOutput(cmd)
	cmd.Flags().StringArrayVar(&columns, "columns", nil, "columns as 'name type [not null] [generated always|by default as identity [(start with N increment by N)]], ...', or one JSON schema")
	cmd.Flags().StringSliceVar(&partition, "partition-by", nil, "partition columns")
	cmd.Flags().StringSliceVar(&cluster, "cluster-by", nil, "columns that optimize clusters rows by")
	cmd.Flags().StringArrayVar(&props, "property", nil, "table property key=value")
	return cmd
}

// parquetSource reads the rows of Parquet files as a table that is never stored
// where they are.
func parquetSource(ctx context.Context, files []string) (iter.Seq2[*deltalake.Batch, error], error) {
	if len(files) == 0 {
		return nil, errors.New("--from names the Parquet files to read")
	}
	return func(yield func(*deltalake.Batch, error) bool) {
		for _, file := range files {
			abs, err := filepath.Abs(file)
			if err != nil {
				yield(nil, err)
				return
			}
			store := deltalake.NewFolderStore(filepath.Dir(abs))
			for b, err := range deltalake.ReadParquet(ctx, store, filepath.Base(abs)) {
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}, nil
}

func tableAppend() *cobra.Command {
	var f tableFlags
	var from []string
	var merge, overwrite bool
	cmd := change("append TABLE --from FILE.parquet", "Add the rows of Parquet files", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		source, err := parquetSource(ctx, from)
		if err != nil {
			return nil, "", err
		}
		opts := deltalake.WriteOptions{MergeSchema: merge}
		var r *deltalake.CommitResult
		if overwrite || f.where != "" {
			o := deltalake.OverwriteOptions{WriteOptions: opts}
			if f.where != "" {
				if o.Where, err = deltalake.ParseExpr(f.where); err != nil {
					return nil, "", err
				}
			}
			r, err = t.Overwrite(ctx, f.meter.counted(source), o)
		} else {
			r, err = t.Append(ctx, f.meter.counted(source), opts)
		}
		if err != nil {
			return nil, "", err
		}
		return map[string]int64{"version": r.Version}, fmt.Sprintf("version %d", r.Version), r.Upkeep
	})
	cmd.Flags().StringSliceVar(&from, "from", nil, "Parquet files")
	cmd.Flags().BoolVar(&merge, "merge-schema", false, "add columns that the table lacks")
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace all rows")
	cmd.Flags().StringVar(&f.where, "where", "", "replace the rows of this condition")
	return cmd
}

func tableDelete() *cobra.Command {
	var f tableFlags
	var all bool
	cmd := change("delete TABLE --where CONDITION", "Remove rows", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		if f.where == "" && !all {
			return nil, "", errors.New("--where says which rows to delete; --all deletes every row")
		}
		var e *deltalake.Expr
		if f.where != "" {
			var err error
			if e, err = deltalake.ParseExpr(f.where); err != nil {
				return nil, "", err
			}
		}
		m, err := t.Delete(ctx, e)
		if err != nil {
			return nil, "", err
		}
		return m, metricsText(m), nil
	})
	cmd.Flags().StringVar(&f.where, "where", "", "condition of the rows to delete")
	cmd.Flags().BoolVar(&all, "all", false, "delete every row")
	return cmd
}

func tableMerge() *cobra.Command {
	var f tableFlags
	var from []string
	var on string
	var evolve, del bool
	cmd := change("merge TABLE --from FILE.parquet --on CONDITION", "Update matching rows and insert the others", &f,
		func(ctx context.Context, t *deltalake.Table) (any, string, error) {
			if on == "" {
				return nil, "", errors.New("--on says which rows match, as in 'target.id = source.id'")
			}
			e, err := deltalake.ParseExpr(on)
			if err != nil {
				return nil, "", err
			}
			source, err := parquetSource(ctx, from)
			if err != nil {
				return nil, "", err
			}
			clauses := []deltalake.MergeClause{{Action: deltalake.MatchedUpdate}, {Action: deltalake.NotMatchedInsert}}
			if del {
				clauses = append(clauses, deltalake.MergeClause{Action: deltalake.NotMatchedBySourceDelete})
			}
			m, err := t.Merge(ctx, deltalake.Merge{Source: f.meter.counted(source), On: e, EvolveSchema: evolve, Clauses: clauses})
			if err != nil {
				return nil, "", err
			}
			return m, metricsText(m), nil
		})
	cmd.Flags().StringSliceVar(&from, "from", nil, "Parquet files of the source")
	cmd.Flags().StringVar(&on, "on", "", "condition over target and source")
	cmd.Flags().BoolVar(&evolve, "evolve-schema", false, "add columns that the table lacks")
	cmd.Flags().BoolVar(&del, "delete-unmatched", false, "delete rows of the table that the source lacks")
	return cmd
}

func tableOptimize() *cobra.Command {
	var f tableFlags
	var target int64
	var full bool
	var zorder []string
	cmd := change("optimize TABLE", "Write small files together", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		o := deltalake.OptimizeOptions{TargetBytes: target, ZOrder: zorder, Full: full}
		if f.where != "" {
			e, err := deltalake.ParseExpr(f.where)
			if err != nil {
				return nil, "", err
			}
			o.Where = e
		}
		m, err := t.Optimize(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return m, metricsText(m), nil
	})
	cmd.Flags().Int64Var(&target, "target-bytes", 0, "size of files; delta.targetFileSize or 128 MiB")
	cmd.Flags().StringSliceVar(&zorder, "zorder-by", nil, "columns to order rows by; not for a clustered table")
	cmd.Flags().BoolVar(&full, "full", false, "of a clustered table: cluster all files anew")
	cmd.Flags().StringVar(&f.where, "where", "", "condition on partition columns")
	return cmd
}

func tableVacuum() *cobra.Command {
	var f tableFlags
	var o deltalake.VacuumOptions
	var hours float64
	cmd := change("vacuum TABLE", "Delete files that no version within the retention names", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		if hours >= 0 {
			o.Retention, o.None = time.Duration(hours*float64(time.Hour)), hours == 0
		}
		r, err := t.Vacuum(ctx, o)
		if err != nil {
			return nil, "", err
		}
		verb := "deleted"
		if o.DryRun {
			verb = "would be deleted"
		}
		text := fmt.Sprintf("%d files of %d bytes %s", len(r.Files), r.Bytes, verb)
		if o.DryRun {
			text = strings.Join(append(r.Files, text), "\n")
		}
		return map[string]any{"files": append([]string{}, r.Files...), "bytes": r.Bytes, "dryRun": o.DryRun}, text, nil
	})
	cmd.Flags().Float64Var(&hours, "retention-hours", -1, "keep files removed later than this; the table's retention")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only tell what would be deleted")
	cmd.Flags().BoolVar(&o.Lite, "lite", false, "only files that the log names as removed")
	cmd.Flags().BoolVar(&o.Force, "force", false, "allow a retention below the table's")
	return cmd
}

func tableRestore() *cobra.Command {
	var f tableFlags
	cmd := change("restore TABLE --version N", "Bring a table back to an older version, in a new commit", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		version := f.version
		if f.timestamp != "" {
			at, err := parseMoment(f.timestamp)
			if err != nil {
				return nil, "", err
			}
			s, err := t.AtTime(ctx, at)
			if err != nil {
				return nil, "", err
			}
			version = s.Version()
		}
		if version < 0 {
			return nil, "", errors.New("--version or --timestamp says what to restore")
		}
		m, err := t.Restore(ctx, version)
		if err != nil {
			return nil, "", err
		}
		return m, metricsText(m), nil
	})
	f.addVersion(cmd)
	return cmd
}

func tableCheckpoint() *cobra.Command {
	var f tableFlags
	return change("checkpoint TABLE", "Write a Delta checkpoint of the newest version", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		s := t.Latest()
		if err := t.WriteCheckpoint(ctx, s); err != nil {
			return nil, "", err
		}
		return map[string]int64{"version": s.Version()}, fmt.Sprintf("checkpoint of version %d", s.Version()), nil
	})
}

func tableProperties() *cobra.Command {
	var f tableFlags
	var set, unset []string
	cmd := change("properties TABLE [--set key=value] [--unset key]", "Show or change table properties", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		props, err := parseProperties(set)
		if err != nil {
			return nil, "", err
		}
		for _, k := range unset {
			props[k] = nil
		}
		s := t.Latest()
		if len(props) > 0 {
			if s, err = t.SetProperties(ctx, props); err != nil {
				return nil, "", err
			}
		}
		conf := s.Info().Properties
		lines := []string{fmt.Sprintf("version %d", s.Version())}
		for _, k := range sortedNames(conf) {
			lines = append(lines, k+" = "+conf[k])
		}
		return conf, strings.Join(lines, "\n"), nil
	})
	cmd.Flags().StringArrayVar(&set, "set", nil, "key=value")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "key")
	return cmd
}

func tableFsck() *cobra.Command {
	var f tableFlags
	var repair bool
	cmd := change("fsck TABLE", "Find missing files, orphans and damage of the log", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		if repair {
			m, err := t.Repair(ctx)
			if err != nil {
				return nil, "", err
			}
			return m, metricsText(m), nil
		}
		found, err := t.Fsck(ctx)
		if err != nil {
			return nil, "", err
		}
		lines := []string{fmt.Sprintf("%d problems", len(found))}
		for _, p := range found {
			lines = append(lines, p.Kind+"  "+p.Path+"  "+p.Note)
		}
		return append([]deltalake.Problem{}, found...), strings.Join(lines, "\n"), nil
	})
	cmd.Flags().BoolVar(&repair, "repair", false, "take missing files out of the table")
	return cmd
}

func tableConvert() *cobra.Command {
	var f tableFlags
	var partition []string
	cmd := &cobra.Command{
		Use: "convert FOLDER [--partition-by 'day date']", Short: "Make a Delta table of a folder of Parquet files", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := cloud.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var fields []deltalake.Field
			if len(partition) > 0 {
				s, err := parseColumns(partition)
				if err != nil {
					return err
				}
				fields = s.Fields
			}
			t, err := deltalake.Convert(cmd.Context(), store, fields, deltalake.TableOptions{})
			if err != nil {
				return fmt.Errorf("folder %s: %w", args[0], err)
			}
			info := t.Latest().Info()
			return f.print(cmd.OutOrStdout(), info, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "version %d with %d files\n", info.Version, info.Files)
				return err
			})
		},
	}
	f.addOutput(cmd)
	cmd.Flags().StringArrayVar(&partition, "partition-by", nil, "partition columns as 'name type, ...'")
	return cmd
}

func tableCDF() *cobra.Command {
	var f tableFlags
	var from, until int64
	cmd := &cobra.Command{
		Use: "cdf TABLE --from N [--until M]", Short: "The change data feed of a range of versions", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o := deltalake.ChangeOptions{From: from, To: until, Until: until >= 0}
			if f.where != "" {
				if o.Filter, err = deltalake.ParseExpr(f.where); err != nil {
					return err
				}
			}
			if len(f.columns) > 0 {
				o.Columns = f.columns
			}
			return f.rows(cmd.OutOrStdout(), t.Changes(cmd.Context(), o))
		},
	}
	f.addOutput(cmd)
	f.addScan(cmd)
	cmd.Flags().Int64Var(&from, "from", 0, "first version")
	cmd.Flags().Int64Var(&until, "until", -1, "last version; the newest")
	return cmd
}

// rows prints batches as they come: JSON lines or grids.
func (f *tableFlags) rows(w io.Writer, batches iter.Seq2[*deltalake.Batch, error]) error {
	var rows [][]string
	for b, err := range batches {
		if err != nil {
			return err
		}
		if rows == nil {
			var names []string
			for _, c := range b.Schema.Fields {
				names = append(names, c.Name)
			}
			rows = append(rows, names)
		}
		for i := range b.Len {
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
	}
	if f.output == "json" || rows == nil {
		return nil
	}
	return printGrid(w, rows)
}

func tableFollow() *cobra.Command {
	var f tableFlags
	var cursorFile, onChange string
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use: "follow TABLE", Short: "Print rows as they are appended", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o := deltalake.FollowOptions{}
			switch onChange {
			case "refuse":
			case "skip":
				o.OnChange = deltalake.SkipChanges
			case "appends":
				o.OnChange = deltalake.AppendsOnly
			default:
				return fmt.Errorf("--on-change %q is not one of refuse, skip, appends", onChange)
			}
			at, err := readCursor(cursorFile, t.Latest(), f.version)
			if err != nil {
				return err
			}
			return f.follow(cmd.Context(), cmd.OutOrStdout(), t, at, o, cursorFile, once, every)
		},
	}
	f.addOutput(cmd)
	f.addScan(cmd)
	cmd.Flags().Int64Var(&f.version, "from", -1, "first version to read; the rows of the newest version first")
	cmd.Flags().StringVar(&cursorFile, "cursor", "", "file that keeps the position between runs")
	cmd.Flags().StringVar(&onChange, "on-change", "refuse", "commits that change rows: refuse, skip or appends")
	cmd.Flags().BoolVar(&once, "once", false, "end when everything is read")
	cmd.Flags().DurationVar(&every, "every", time.Second, "pause between looks at the table")
	return cmd
}

func readCursor(file string, s *deltalake.Snapshot, from int64) (deltalake.Cursor, error) {
	at := s.Start()
	if from >= 0 {
		at = deltalake.Cursor{Version: from}
	}
	if file == "" {
		return at, nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return at, nil
	}
	if err != nil {
		return at, err
	}
	return at, json.Unmarshal(raw, &at)
}

func (f *tableFlags) follow(ctx context.Context, w io.Writer, t *deltalake.Table, at deltalake.Cursor, o deltalake.FollowOptions, file string, once bool, every time.Duration) error {
	scan, err := f.scan()
	if err != nil {
		return err
	}
	for {
		step, err := t.Follow(ctx, at, o)
		if err != nil {
			return err
		}
		err = step.Snapshot.ReadFiles(ctx, step.Files, scan, func(b *deltalake.Batch) error { return f.rows(w, deltalake.Batches(b)) })
		if err != nil {
			return err
		}
		at = step.Next
		if file != "" {
			raw, err := json.Marshal(at)
			if err != nil {
				return err
			}
			if err := deltalake.NewFolderStore(filepath.Dir(file)).Put(ctx, filepath.Base(file), raw); err != nil {
				return err
			}
		}
		if len(step.Files) > 0 {
			continue
		}
		if once {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
