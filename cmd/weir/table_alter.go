package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

// tableAlter changes what properties do not tell. One change is one commit, so one
// call makes one.
func tableAlter() *cobra.Command {
	var f tableFlags
	var cluster []string
	var identity, rename, drop, add, remove string
	var cmd *cobra.Command
	cmd = change("alter TABLE", "Change a table's columns, constraints or clustering", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		pair := func(flag, text, form string) (string, string, error) {
			a, b, ok := strings.Cut(text, "=")
			if !ok || a == "" || b == "" {
				return "", "", fmt.Errorf("--%s %q is not %s", flag, text, form)
			}
			return a, b, nil
		}
		var s *deltalake.Snapshot
		var err error
		switch {
		case cmd.Flags().Changed("cluster-by"):
			if len(cluster) == 1 && strings.EqualFold(cluster[0], "none") {
				cluster = nil
			}
			s, err = t.ClusterBy(ctx, cluster...)
		case identity != "":
			s, err = t.SyncIdentity(ctx, identity)
		case rename != "":
			var from, to string
			if from, to, err = pair("rename", rename, "column=name"); err == nil {
				s, err = t.RenameColumn(ctx, from, to)
			}
		case drop != "":
			s, err = t.DropColumn(ctx, drop)
		case add != "":
			var name, condition string
			if name, condition, err = pair("add-constraint", add, "name=condition"); err == nil {
				s, err = t.AddConstraint(ctx, name, condition)
			}
		case remove != "":
			s, err = t.DropConstraint(ctx, remove)
		default:
			err = errors.New("nothing to change: name one of --cluster-by, --sync-identity, --rename, --drop, --add-constraint, --drop-constraint")
		}
		if err != nil {
			return nil, "", err
		}
		return s.Info(), fmt.Sprintf("version %d", s.Version()), nil
	})
	cmd.Flags().StringSliceVar(&cluster, "cluster-by", nil, "columns that optimize clusters rows by, or none")
	cmd.Flags().StringVar(&identity, "sync-identity", "", "identity column whose next value is to come after those that rows have")
	cmd.Flags().StringVar(&rename, "rename", "", "column=name (delta.columnMapping.mode)")
	cmd.Flags().StringVar(&drop, "drop", "", "column to take away (delta.columnMapping.mode)")
	cmd.Flags().StringVar(&add, "add-constraint", "", "name=condition that every row fulfils")
	cmd.Flags().StringVar(&remove, "drop-constraint", "", "name of a constraint")
	cmd.MarkFlagsMutuallyExclusive("cluster-by", "sync-identity", "rename", "drop", "add-constraint", "drop-constraint")
	return cmd
}
