package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

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
