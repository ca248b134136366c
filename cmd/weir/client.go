package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/pack"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
	"github.com/weirstream/weir/jobmanager/rest"
)

// client speaks to a job manager's REST API.
type client struct {
	addr   string
	format format
	out    io.Writer
	said   *progress // of what is waited for
}

// clientCommands are the verbs that a running cluster answers.
func clientCommands() []*cobra.Command {
	c := new(client)
	cmds := []*cobra.Command{
		c.runCommand(), c.listCommand(), c.infoCommand(), c.cancelCommand(), c.stopCommand(), c.rescaleCommand(),
		c.epochCommand("savepoint", "savepoints", "Take a savepoint, which is kept until it is disposed of"),
		c.epochCommand("checkpoint", "checkpoints", "Take a checkpoint now"),
	}
	for _, cmd := range cmds {
		cmd.Flags().StringVar(&c.addr, "job-manager", "127.0.0.1:8081", "address of the job manager's REST API")
		addFormat(cmd, &c.format)
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			c.out, c.said = cmd.OutOrStdout(), newProgress(cmd.ErrOrStderr(), 5*time.Second)
			defer c.said.wipe()
			return run(cmd, args)
		}
	}
	return cmds
}

// call sends a request and decodes the answer into v.
func (c *client) call(ctx context.Context, method, path string, body io.Reader, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.addr+path, body)
	if err != nil {
		return fmt.Errorf("--job-manager %q: want HOST:PORT: %w", c.addr, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("no job manager answers at %s: start one with weir dev, or name it with --job-manager: %w", c.addr, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("the job manager at %s broke off its answer: %w", c.addr, err)
	}
	if resp.StatusCode >= 400 {
		var refusal struct {
			Errors []string `json:"errors"`
		}
		if json.Unmarshal(b, &refusal) == nil && len(refusal.Errors) > 0 {
			return errors.New(strings.Join(refusal.Errors, "; "))
		}
		return fmt.Errorf("%s answers %s: is a job manager there? --job-manager names it", c.addr, resp.Status)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s does not answer as a job manager does: --job-manager names it", c.addr)
	}
	return nil
}

// print writes v as JSON where that was asked for, else as text.
func (c *client) print(v any, text func(w io.Writer)) error {
	if c.format == "json" {
		enc := json.NewEncoder(c.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	text(w)
	return w.Flush()
}

func (c *client) runCommand() *cobra.Command {
	var req rest.RunRequest
	var params []string
	var interval, timeout, pause, commit time.Duration
	var detach bool
	cmd := &cobra.Command{
		Use: "run PACK | FOLDER [-- KEY=VALUE ...]", Short: "Run a job", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Params = map[string]string{}
			if err := parsePairs("parameter", append(params, args[1:]...), req.Params); err != nil {
				return err
			}
			path, remove, err := packOf(cmd.Context(), cmd.ErrOrStderr(), args[0])
			if err != nil {
				return err
			}
			defer remove()
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			var up struct{ Pack string }
			if err := c.call(cmd.Context(), "POST", "/packs", f, &up); err != nil {
				return err
			}
			req.Pack = up.Pack
			req.Options.Checkpoint.Interval, req.Options.Checkpoint.Timeout = interval, timeout
			req.Options.Checkpoint.MinPause, req.Options.Checkpoint.CommitTimeout = pause, commit
			b, err := json.Marshal(req)
			if err != nil {
				return err
			}
			var job struct {
				ID string `json:"jobid"`
			}
			if err := c.call(cmd.Context(), "POST", "/jobs", bytes.NewReader(b), &job); err != nil {
				return err
			}
			if !detach {
				if err := c.awaitRunning(cmd.Context(), job.ID); err != nil {
					return err
				}
			}
			return c.print(job, func(w io.Writer) { fmt.Fprintln(w, job.ID) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&detach, "detached", "d", false, "do not wait until the job runs")
	f.StringVar(&req.Name, "name", "", "pipeline (default: the pack's name)")
	f.IntVarP(&req.Parallelism, "parallelism", "p", 1, "default parallelism of operators")
	f.IntVar(&req.KeyGroups, "max-parallelism", 0, "key groups, fixed for the pipeline (default 128)")
	f.StringVar(&req.Restore, "restore", "", "object key of a savepoint's manifest, as weir savepoint printed it")
	f.BoolVar(&req.LoseOutput, "allow-lost-output", false, "restore an epoch of a cluster that is gone though nothing says that its output was committed")
	f.BoolVar(&req.SkipState, "allow-non-restored-state", false, "drop the state of operators that are gone")
	f.StringArrayVar(&params, "param", nil, "KEY=VALUE parameter of the job; may be repeated")
	f.DurationVar(&interval, "checkpoint-interval", 10*time.Second, "time between checkpoints; negative: only on demand")
	f.DurationVar(&timeout, "checkpoint-timeout", 10*time.Minute, "a checkpoint that takes longer is aborted")
	f.DurationVar(&pause, "checkpoint-min-pause", 0, "least time between two checkpoints")
	f.DurationVar(&commit, "commit-timeout", 2*time.Minute, "the job fails when sinks that cannot commit hold checkpoints back for longer; negative: never")
	f.IntVar(&req.Options.Checkpoint.Tolerable, "tolerable-failed-checkpoints", 0, "aborted checkpoints in a row that do not fail the job (0: any number)")
	f.IntVar(&req.Options.Retain, "retained-checkpoints", 2, "completed checkpoints kept")
	f.BoolVar(&req.Options.RetainOnCancel, "retain-on-cancel", false, "keep checkpoints when the job is cancelled")
	f.IntVar(&req.Options.MaxRestarts, "max-restarts", 0, "restarts after failures (0: no limit, -1: none)")
	return cmd
}

// awaitRunning waits until a new job runs. One that fails before is cancelled, so
// that a mistake leaves nothing behind that restarts for ever; the checkpoints of
// earlier jobs that it would have resumed stay. One with a checkpoint of its own has run.
func (c *client) awaitRunning(ctx context.Context, id string) error {
	began := time.Now()
	for {
		var j jobmanager.Info
		if err := c.call(ctx, "GET", "/jobs/"+id, nil, &j); err != nil {
			return err
		}
		switch j.Phase {
		case fsm.Running, fsm.Finished, fsm.Stopping:
			return nil
		case fsm.Failed, fsm.Canceled:
			return fmt.Errorf("%s: %s", id, j.Reason)
		case fsm.Restarting:
			if n := len(j.Epochs); n > 0 && j.Epochs[n-1].Epoch > j.After && j.Epochs[n-1].Kind != checkpoint.Adopted {
				return nil
			}
			var v map[string]string
			err := c.call(ctx, "PATCH", "/jobs/"+id+"?mode=cancel", nil, &v)
			return errors.Join(fmt.Errorf("%s did not start and was cancelled: %s", id, j.Reason), err)
		}
		if now := time.Now(); now.Sub(began) > waitedFor {
			c.said.show(now, fmt.Sprintf("%4.0fs  %s is %s %s", now.Sub(began).Seconds(), id, j.Phase, cmp.Or(j.Progress, j.Reason)))
		}
		if err := clock.Sleep(ctx, clock.Wall(), 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// packOf returns the path of a pack, building it where a folder is named.
func packOf(ctx context.Context, said io.Writer, arg string) (path string, remove func(), err error) {
	st, err := os.Stat(arg)
	if err != nil {
		return "", nil, fmt.Errorf("job %s: %w: name a pack (.wj) or the folder of a job", arg, err)
	}
	if !st.IsDir() {
		return arg, func() {}, nil
	}
	tmp, err := os.CreateTemp("", "*"+pack.Suffix)
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.Remove(tmp.Name()) }
	if err := tmp.Close(); err != nil {
		return "", nil, err
	}
	built, err := buildPack(ctx, said, pack.BuildOptions{Dir: arg, Out: tmp.Name()})
	if err != nil {
		remove()
		return "", nil, err
	}
	return built.Path, remove, nil
}

func (c *client) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List jobs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var v struct {
				Jobs []jobmanager.Info `json:"jobs"`
			}
			if err := c.call(cmd.Context(), "GET", "/jobs", nil, &v); err != nil {
				return err
			}
			return c.print(v.Jobs, func(w io.Writer) {
				fmt.Fprintln(w, "JOB\tPIPELINE\tPHASE\tATTEMPT\tRESTARTS\tCHECKPOINT\tSINCE\tREASON")
				for _, j := range v.Jobs {
					last := "-"
					if n := len(j.Epochs); n > 0 {
						last = fmt.Sprint(j.Epochs[n-1].Epoch)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", j.ID, j.Pipeline, j.Phase, j.Attempt, j.Restarts, last, j.Changed.Format(time.RFC3339), cmp.Or(j.Trouble, j.Reason))
				}
			})
		},
	}
}

func (c *client) infoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "info JOB | PIPELINE", Short: "Show a job: operators, rates, back-pressure, checkpoints", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var j jobmanager.Info
			if err := c.call(cmd.Context(), "GET", "/jobs/"+url.PathEscape(args[0]), nil, &j); err != nil {
				return err
			}
			return c.print(j, func(w io.Writer) { printInfo(w, j) })
		},
	}
}

func printInfo(w io.Writer, j jobmanager.Info) {
	fmt.Fprintf(w, "%s  %s  %s  attempt %d, %d restarts\n", j.ID, j.Pipeline, j.Phase, j.Attempt, j.Restarts)
	if j.Reason != "" {
		fmt.Fprintf(w, "reason: %s\n", j.Reason)
	}
	if j.Progress != "" {
		fmt.Fprintf(w, "%s\n", j.Progress)
	}
	if j.Trouble != "" {
		fmt.Fprintf(w, "trouble: %s\n", j.Trouble)
	}
	fmt.Fprintln(w, "\nOPERATOR\tIN\tOUT\tIN/S\tOUT/S\tBUSY\tBACKPRESSURED\tLAG\tSTATE BYTES")
	for _, o := range j.Operators {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.0f\t%.0f%%\t%.0f%%\t%d\t%d\n", o.Operator, o.In, o.Out, o.InRate, o.OutRate, o.Busy*100, o.Held*100, o.Lag, o.State)
	}
	fmt.Fprintln(w, "\nCHECKPOINT\tKIND\tSTATUS\tMS\tHELD MS\tBYTES\tNEW BYTES\tREASON")
	for _, s := range j.Checkpoints {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%.2f\t%d\t%d\t%s\n", s.Epoch, s.Kind, s.Status, s.Duration.Milliseconds(), s.Held.Seconds()*1000, s.Bytes, s.NewBytes, s.Reason)
	}
	for _, e := range j.Epochs {
		if e.Kind == checkpoint.Savepoint {
			fmt.Fprintf(w, "savepoint %d  %s\n", e.Epoch, e.Key)
		}
	}
}

func (c *client) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel JOB | PIPELINE", Short: "Stop a job at once, without a savepoint", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var v map[string]string
			if err := c.call(cmd.Context(), "PATCH", "/jobs/"+url.PathEscape(args[0])+"?mode=cancel", nil, &v); err != nil {
				return err
			}
			return c.print(v, func(w io.Writer) { fmt.Fprintln(w, v["jobid"], fsm.Canceled) })
		},
	}
}

func (c *client) stopCommand() *cobra.Command {
	var drain bool
	cmd := &cobra.Command{
		Use: "stop JOB | PIPELINE", Short: "Stop a job with a savepoint", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := json.Marshal(map[string]bool{"drain": drain})
			if err != nil {
				return err
			}
			return c.epoch(cmd.Context(), "stopping "+args[0]+" with a savepoint", "/jobs/"+url.PathEscape(args[0])+"/stop", bytes.NewReader(b))
		},
	}
	cmd.Flags().BoolVar(&drain, "drain", false, "end all input first: timers and windows fire, the job finishes")
	return cmd
}

func (c *client) rescaleCommand() *cobra.Command {
	var parallelism int
	cmd := &cobra.Command{
		Use: "rescale JOB | PIPELINE -p N", Short: "Give a running job another parallelism, from a checkpoint taken for it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s rest.Savepoint
			path := fmt.Sprintf("/jobs/%s/rescaling?parallelism=%d", url.PathEscape(args[0]), parallelism)
			if err := c.during("rescaling "+args[0], func() error { return c.call(cmd.Context(), "PATCH", path, nil, &s) }); err != nil {
				return err
			}
			return c.print(s, func(w io.Writer) {
				fmt.Fprintf(w, "%s goes on at parallelism %d from checkpoint %d\n", s.Job, parallelism, s.Epoch)
			})
		},
	}
	cmd.Flags().IntVarP(&parallelism, "parallelism", "p", 0, "default parallelism of operators from now on")
	return cmd
}

func (c *client) epochCommand(verb, path, short string) *cobra.Command {
	var dispose uint64
	cmd := &cobra.Command{
		Use: verb + " JOB | PIPELINE", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dispose != 0 {
				if err := c.call(cmd.Context(), "DELETE", fmt.Sprintf("/pipelines/%s/savepoints/%d", url.PathEscape(args[0]), dispose), nil, new(struct{})); err != nil {
					return err
				}
				return c.print(map[string]any{"pipeline": args[0], "disposed": dispose}, func(w io.Writer) { fmt.Fprintf(w, "savepoint %d of %s is gone\n", dispose, args[0]) })
			}
			return c.epoch(cmd.Context(), "taking a "+verb+" of "+args[0], "/jobs/"+url.PathEscape(args[0])+"/"+path, nil)
		},
	}
	if verb == "savepoint" {
		cmd.Flags().Uint64Var(&dispose, "dispose", 0, "delete the savepoint of this epoch of the PIPELINE instead")
	}
	return cmd
}

// waitedFor is how long something is waited for before that is told.
const waitedFor = 500 * time.Millisecond

// during shows what is waited for until work ends.
func (c *client) during(what string, work func() error) error {
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- work() }()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			c.said.wipe()
			return err
		case now := <-tick.C:
			if now.Sub(began) > waitedFor {
				c.said.show(now, fmt.Sprintf("%4.0fs  %s", now.Sub(began).Seconds(), what))
			}
		}
	}
}

func (c *client) epoch(ctx context.Context, what, path string, body io.Reader) error {
	var s rest.Savepoint
	if err := c.during(what, func() error { return c.call(ctx, "POST", path, body, &s) }); err != nil {
		return err
	}
	return c.print(s, func(w io.Writer) {
		if s.Location != "" {
			fmt.Fprintln(w, s.Location)
		}
	})
}
