package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableRestore() *cobra.Command {
	var f tableFlags
	cmd := change("restore TABLE --version N", "Bring a table back to an older version, in a new commit", &f, func(ctx context.Context, t *deltalake.Table) (any, string, error) {
		version := f.version // -1 when not given
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
	cmd.Example = "  weir table restore T --version 3\n  weir table restore T --timestamp 2026-01-31T12:00:00Z"
	return cmd
}
