package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/deltalake"
)

func tableFollow() *cobra.Command {
	var f tableFlags
	var cursorFile, onChange string
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use: "follow TABLE", Short: "Print rows as they are appended", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o := deltalake.FollowOptions{}
			switch onChange {
			case "refuse":
			case "skip":
				o.OnChange = deltalake.SkipChanges
			case "appends":
				o.OnChange = deltalake.AppendsOnly
			default:
				return fmt.Errorf("--on-change %q is not one of refuse, skip, appends", onChange)
			}
			at, err := readCursor(cursorFile, t.Latest(), f.version)
			if err != nil {
				return err
			}
			return f.follow(cmd.Context(), cmd.OutOrStdout(), t, at, o, cursorFile, once, every)
		},
	}
	addFormat(cmd, &f.output)
	f.addScan(cmd)
	cmd.Flags().Int64Var(&f.version, "from", -1, "first version to read; the rows of the newest version first")
	cmd.Flags().StringVar(&cursorFile, "cursor", "", "file that keeps the position between runs")
	cmd.Flags().StringVar(&onChange, "on-change", "refuse", "commits that change rows: refuse, skip or appends")
	cmd.Flags().BoolVar(&once, "once", false, "end when everything is read")
	cmd.Flags().DurationVar(&every, "every", time.Second, "pause between looks at the table")
	return cmd
}

func readCursor(file string, s *deltalake.Snapshot, from int64) (deltalake.Cursor, error) {
	at := s.Start()
	if from >= 0 {
		at = deltalake.Cursor{Version: from}
	}
	if file == "" {
		return at, nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return at, nil
	}
	if err != nil {
		return at, err
	}
	return at, json.Unmarshal(raw, &at)
}

func (f *tableFlags) follow(ctx context.Context, w io.Writer, t *deltalake.Table, at deltalake.Cursor, o deltalake.FollowOptions, file string, once bool, every time.Duration) error {
	scan, err := f.scan()
	if err != nil {
		return err
	}
	for {
		step, err := t.Follow(ctx, at, o)
		if err != nil {
			return err
		}
		err = step.Snapshot.ReadFiles(ctx, step.Files, scan, func(b *deltalake.Batch) error { return f.rows(w, nil, deltalake.Batches(b)) })
		if err != nil {
			return err
		}
		at = step.Next
		if file != "" {
			raw, err := json.Marshal(at)
			if err != nil {
				return err
			}
			if err := deltalake.NewFolderStore(filepath.Dir(file)).Put(ctx, filepath.Base(file), raw); err != nil {
				return err
			}
		}
		if len(step.Files) > 0 {
			continue
		}
		if once {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
