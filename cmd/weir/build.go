package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/internal/pack"
)

func buildCommand() *cobra.Command {
	var opts pack.BuildOptions
	cmd := &cobra.Command{
		Use: "build FOLDER", Short: "Build the job in a folder into a pack (.wj)",
		Long: "Build compiles the package in FOLDER, which must export Build(*stream.Graph) error,\ninto a plugin for this very weir, loads it once in a scratch process, and packs it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			opts.Dir, opts.Weir = args[0], []string{self, inspectPlugin}
			path, err := pack.Build(cmd.Context(), opts)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
	cmd.Flags().StringVarP(&opts.Out, "output", "o", "", "file to write (default NAME.wj)")
	cmd.Flags().StringVar(&opts.Name, "name", "", "default pipeline name (default: the package's name)")
	return cmd
}

// inspectPlugin is the subcommand of the scratch process.
const inspectPlugin = "inspect-plugin"

func inspectPluginCommand() *cobra.Command {
	return &cobra.Command{
		Use: inspectPlugin + " FILE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return pack.Inspect(args[0], cmd.OutOrStdout()) },
	}
}
