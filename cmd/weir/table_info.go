package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func tableInfo() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "info TABLE", Short: "Show version, protocol, size and properties of a table, without reading data", Args: cobra.ExactArgs(1),
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
	addFormat(cmd, &f.output)
	f.addVersion(cmd)
	return cmd
}

func tableSchema() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use: "schema TABLE", Short: "Show the columns of a table", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			return f.print(w, s.Schema(), func() error { printSchema(w, s.Schema()); return nil })
		},
	}
	addFormat(cmd, &f.output)
	f.addVersion(cmd)
	return cmd
}
