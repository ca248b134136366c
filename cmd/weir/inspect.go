package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/spf13/cobra"
	"go.etcd.io/bbolt"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/internal/pack"
)

func inspectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "inspect", Short: "Print Weir's own formats: manifest, state, frames, raft, delta, pack"}
	cmd.AddCommand(
		inspector("manifest FILE", "Print a checkpoint's manifest", inspectManifest),
		inspector("raft DIR", "Print the entries of a Raft log (of a stopped weir)", inspectRaft),
		inspector("state FILE | DIR", "Print the rows of a sorted file (.sst), or of the checkpoint in a folder", inspectState),
		inspector("frames FILE", "Print the frames of a recorded connection", inspectFrames),
		inspector("delta TABLE", "Print what a Delta table's log says of its newest version", inspectDelta),
		inspector("pack FILE", "Print the manifest of a pack", inspectPack),
	)
	return cmd
}

func inspector(use, short string, f func(w io.Writer, path string, asJSON bool) error) *cobra.Command {
	var output format
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return f(cmd.OutOrStdout(), args[0], output == "json")
	}}
	addFormat(cmd, &output)
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func inspectManifest(w io.Writer, path string, asJSON bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m, err := checkpoint.Decode(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if asJSON {
		return printJSON(w, m)
	}
	total, fresh := m.Bytes()
	fmt.Fprintf(w, "epoch %d of pipeline %s, %s, job %s, attempt %d, term %d, opened %s\n%d bytes of state, %d new; manifest %s\n\n",
		m.Epoch, m.Pipeline, m.Kind, m.Job, m.Attempt, m.Term, time.UnixMicro(m.TimeMicros).UTC().Format(time.RFC3339Nano), total, fresh, checkpoint.HashOf(b))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBTASK\tGROUPS\tFILES\tROWS\tBYTES\tSPLITS\tCOMMITS\tFINISHED")
	for _, p := range m.Parts {
		rows, bytes, splits := int64(0), int64(0), 0
		for _, f := range p.Files {
			rows, bytes = rows+f.Rows, bytes+f.Length
		}
		for _, o := range p.Operators {
			splits += len(o.Splits)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%v\n", p.Subtask, p.Groups, len(p.Files), rows, bytes, splits, len(p.Commits), p.Finished)
	}
	fmt.Fprintln(t, "\nSTATE\tID\tKIND\tSCHEMAS")
	for _, s := range m.States {
		fmt.Fprintf(t, "%s/%s\t%d\t%s\t%d\n", s.Operator, s.Name, s.ID, s.Kind, len(s.Schemas))
	}
	return t.Flush()
}

func inspectRaft(w io.Writer, dir string, asJSON bool) error {
	path := filepath.Join(dir, "log.db")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s holds no Raft log: name the raft folder of a weir: %w", dir, err)
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: time.Second}, MsgpackUseNewTimeFormat: true})
	if err != nil {
		return fmt.Errorf("%s: %w: is its weir still running?", path, err)
	}
	defer store.Close()
	first, err := store.FirstIndex()
	if err != nil {
		return err
	}
	last, err := store.LastIndex()
	if err != nil {
		return err
	}
	for i := first; i <= last && i > 0; i++ {
		var e raft.Log
		if err := store.GetLog(i, &e); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if e.Type != raft.LogCommand {
			continue
		}
		if asJSON {
			if err := json.NewEncoder(w).Encode(map[string]any{"index": e.Index, "term": e.Term, "command": json.RawMessage(e.Data)}); err != nil {
				return err
			}
			continue
		}
		text := string(e.Data)
		if len(text) > 200 {
			text = text[:200] + "…"
		}
		fmt.Fprintf(w, "%6d  term %d  %s\n", e.Index, e.Term, text)
	}
	return nil
}

func inspectPack(w io.Writer, path string, asJSON bool) error {
	m, err := pack.Open(path)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, m)
	}
	fmt.Fprintf(w, "%s from %s, built with %s, %s %s\n\n", m.Name, m.Package, m.Go, cmp.Or(m.Kind, pack.KindPlugin), m.Sum)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OPERATOR\tTYPE\tCONNECTOR\tSTATES\tROW")
	for _, o := range m.Graph.Operators {
		kind := "-"
		if o.Connector != nil {
			kind = o.Connector.Kind
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", o.Name, o.Type, kind, len(o.States), o.Elem)
	}
	return t.Flush()
}
