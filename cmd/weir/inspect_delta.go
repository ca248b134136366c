package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/weirstream/weir/deltalake"
)

// inspectDelta prints what the log of a table says of its newest version, each
// thing on a line, in an order that depends on nothing but the content.
func inspectDelta(w io.Writer, uri string, asJSON bool) error {
	t, err := openTable(context.Background(), uri)
	if err != nil {
		return err
	}
	s := t.Latest()
	files := slices.SortedFunc(slices.Values(s.Files()), func(a, b *deltalake.AddFile) int { return cmp.Compare(a.Path, b.Path) })
	info := s.Info()
	if asJSON {
		return printJSON(w, map[string]any{"table": info, "files": files})
	}
	fmt.Fprintf(w, "version     %d\nprotocol    reader %d %v, writer %d %v\n", info.Version, info.Protocol[0], info.Features.Reader, info.Protocol[1], info.Features.Writer)
	printSchema(w, s.Schema())
	fmt.Fprintf(w, "partitions  %v\n", info.PartitionColumns)
	for _, k := range sortedNames(info.Properties) {
		fmt.Fprintf(w, "property    %s = %s\n", k, info.Properties[k])
	}
	for _, k := range sortedNames(info.Txns) {
		fmt.Fprintf(w, "txn         %s = %d\n", k, info.Txns[k])
	}
	for _, f := range files {
		rows := "?"
		if n, ok := f.NumRecords(); ok {
			rows = fmt.Sprint(n)
		}
		fmt.Fprintf(w, "file        %s  %d bytes  %s rows", f.Path, f.Size, rows)
		for _, k := range sortedNames(f.PartitionValues) {
			if v := f.PartitionValues[k]; v != nil {
				fmt.Fprintf(w, "  %s=%s", k, *v)
			} else {
				fmt.Fprintf(w, "  %s is null", k)
			}
		}
		if f.DeletionVector != nil {
			fmt.Fprintf(w, "  %d deleted", f.DeletionVector.Cardinality)
		}
		if f.Stats != "" {
			fmt.Fprintf(w, "  %s", f.Stats)
		}
		fmt.Fprintln(w)
	}
	return nil
}
