package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

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
	addFormat(cmd, &f.output)
	f.addVersion(cmd)
	f.addScan(cmd)
	cmd.Flags().StringVar(&to, "to", "", "file to write")
	return cmd
}

// exportFile writes beside the file and moves it into place, so that a failure
// leaves nothing half-done.
func exportFile(ctx context.Context, s *deltalake.Snapshot, o deltalake.ScanOptions, to string) (rows int64, err error) {
	dir := filepath.Dir(to)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return 0, fmt.Errorf("--to %s: there is no folder %s", to, dir)
	}
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		return 0, fmt.Errorf("--to %s is a folder, name a file in it", to)
	}
	tmp, err := os.CreateTemp(dir, ".weir-export-*")
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
