package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/deltalake/cloud"
)

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
	addFormat(cmd, &f.output)
	cmd.Flags().StringArrayVar(&columns, "columns", nil, "columns as 'name type [not null] [default VALUE] [comment TEXT] [generated always as (EXPRESSION)] [generated always|by default as identity [(start with N increment by N)]], ...', or one JSON schema")
	cmd.Example = `  weir table create T --columns 'id bigint not null, amount decimal(12,2), tags array<string>, pos struct<x: double, y: double>'
  weir table create T --columns 'at timestamp, day date generated always as (cast(at as date))' --partition-by day
  weir table create T --columns 'id long, name string' --property delta.columnMapping.mode=name --cluster-by id`
	cmd.Flags().StringSliceVar(&partition, "partition-by", nil, "partition columns")
	cmd.Flags().StringSliceVar(&cluster, "cluster-by", nil, "columns that optimize clusters rows by")
	cmd.Flags().StringArrayVar(&props, "property", nil, "table property key=value")
	return cmd
}
