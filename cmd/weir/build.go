package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/internal/pack"
)

func buildCommand() *cobra.Command {
	var opts pack.BuildOptions
	var params []string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "build FOLDER", Short: "Build the job in a folder into a pack (.wj)",
		Long: `Build compiles the package in FOLDER, which must export Build(*stream.Graph) error,
into a plugin for this very weir, loads it once in a scratch process, and packs it.
The job may lie in a module of its own, with dependencies of its own.

A module that the job and this weir would link in different versions is a clash,
which Go refuses: each is printed in one line. --fix pins such modules to this
weir's versions (the job's go.mod is not touched), and where that does not build
makes a static pack and says so. --static makes one at once: job and worker as one
executable, which depends on no build of weir. It is run as a worker process.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Dir, opts.Params = args[0], map[string]string{}
			if err := parsePairs("--param", params, opts.Params); err != nil {
				return err
			}
			built, err := buildPack(cmd.Context(), cmd.ErrOrStderr(), opts)
			var clash *pack.ClashError
			if asJSON && errors.As(err, &clash) {
				return errors.Join(printJSON(cmd.OutOrStdout(), map[string]any{"clashes": clash.Clashes}), exitError{1})
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), built)
			}
			fmt.Fprintln(cmd.OutOrStdout(), built.Path)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Out, "output", "o", "", "file to write (default NAME.wj)")
	f.StringVar(&opts.Name, "name", "", "default pipeline name (default: the package's name)")
	f.BoolVar(&opts.Fix, "fix", false, "pin modules that clash to this weir's versions")
	f.BoolVar(&opts.Static, "static", false, "make a static pack: job and worker as one executable")
	f.StringVar(&opts.WeirSource, "weir-source", "", "weir's source tree (default: where the job's go.mod leads, or the one around this executable)")
	f.StringArrayVar(&params, "param", nil, "KEY=VALUE parameter that Build is called with once, for a job that demands some; may be repeated")
	f.BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

// buildPack builds a pack for this very weir and tells what it does on said.
func buildPack(ctx context.Context, said io.Writer, opts pack.BuildOptions) (*pack.Built, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	opts.Weir = []string{self, inspectPlugin}
	p := newProgress(said, 0)
	opts.Step = func(step string) { p.show(time.Now(), fmt.Sprintf("building %s: %s", opts.Dir, step)) }
	built, err := pack.Build(ctx, opts)
	p.wipe()
	if err != nil {
		return nil, err
	}
	for _, c := range built.Pinned {
		p.linef("pinned %s to %s (the job asks for %s)", c.Module, c.Weir, c.Job)
	}
	if built.Fallback != "" {
		p.linef("%s is a static pack, because no plugin can be made: %s", built.Path, built.Fallback)
	}
	return built, nil
}

// inspectPlugin is the subcommand of the scratch process.
const inspectPlugin = "inspect-plugin"

func inspectPluginCommand() *cobra.Command {
	return &cobra.Command{
		Use: inspectPlugin + " FILE OUT PARAMS", Hidden: true, Args: cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error { return pack.Inspect(args[0], args[1], args[2]) },
	}
}
