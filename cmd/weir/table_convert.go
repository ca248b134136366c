package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/cloud"
)

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
	addFormat(cmd, &f.output)
	cmd.Flags().StringArrayVar(&partition, "partition-by", nil, "partition columns as 'name type, ...'")
	return cmd
}
