package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

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
