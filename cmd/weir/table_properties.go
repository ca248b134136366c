package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

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
