// Command weir is the whole of Weir in one binary: the cluster, its command line
// and its tools. Each subcommand has a file of its own; none of them decides
// anything that is not said on its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/internal/failpoint"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := failpoint.Check()
	if err == nil {
		err = root().ExecuteContext(ctx)
	}
	stop()
	if err != nil {
		var quiet exitError
		if errors.As(err, &quiet) {
			os.Exit(quiet.code)
		}
		fmt.Fprintln(os.Stderr, "weir:", err)
		os.Exit(1)
	}
}

// An exitError ends the process with a code; what there was to say is said.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "weir", Short: "A stream-processing cluster: keyed actors, exactly-once checkpoints, Delta Lake tables",
		SilenceUsage: true, SilenceErrors: true,
	}
	group(cmd, "Clusters", devCommand(), brokerCommand())
	group(cmd, "Jobs", append(clientCommands(), buildCommand())...)
	group(cmd, "Data", tableCommand(), inspectCommand())
	group(cmd, "Others", benchCommand(), versionCommand())
	cmd.SetHelpCommandGroupID("Others")
	cmd.SetCompletionCommandGroupID("Others")
	cmd.AddCommand(inspectPluginCommand())
	sayUsage(cmd)
	return cmd
}
