package main

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weirstream/weir/dataflow"
)

// sayUsage makes cmd and all below it answer a mistake on the command line in one
// sentence that names it and what was probably meant.
func sayUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(flagFault)
	cmd.DisableSuggestions = true // they come on lines of their own
	if cmd.HasSubCommands() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return commandFault(cmd, args[0])
		}
	} else if count := cmd.Args; count != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := count(cmd, args); err != nil {
				return fmt.Errorf("%d arguments for %s: want %s", len(args), cmd.CommandPath(), cmd.UseLine())
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		sayUsage(c)
	}
}

// group adds commands to cmd under a title of its help.
func group(cmd *cobra.Command, title string, commands ...*cobra.Command) {
	cmd.AddGroup(&cobra.Group{ID: title, Title: title + ":"})
	for _, c := range commands {
		c.GroupID = title
		cmd.AddCommand(c)
	}
}

// commandFault names an unknown subcommand.
func commandFault(cmd *cobra.Command, name string) error {
	var known []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			known = append(known, c.Name())
		}
	}
	return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), name, orNearest(name, known, cmd))
}

var (
	unknownFlag = regexp.MustCompile(`^unknown flag: --(\S+)$`)
	wrongValue  = regexp.MustCompile(`(?s)^invalid argument (".*") for "(?:-\w, )?(--\S+)" flag: (?:strconv\.(\w+): parsing ".*": )?(.*)$`)
)

// flagFault names a flag that is unknown, or has a value it cannot have.
func flagFault(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return commandFault(cmd, cmd.Flags().Arg(0)) // its flags are not what is wrong
	}
	if m := wrongValue.FindStringSubmatch(err.Error()); m != nil {
		why := m[4]
		switch {
		case m[3] == "ParseBool":
			why = "want true or false"
		case m[3] != "" && why == "invalid syntax":
			why = "want a number"
		}
		return fmt.Errorf("%s: %s %s: %s", cmd.CommandPath(), m[2], m[1], why)
	}
	m := unknownFlag.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%s: %w", cmd.CommandPath(), err)
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
	return fmt.Errorf("%s has no flag --%s%s", cmd.CommandPath(), m[1], orNearest("--"+m[1], known, cmd))
}

func orNearest(name string, known []string, cmd *cobra.Command) string {
	if near := dataflow.Nearest(name, known); near != "" {
		return fmt.Sprintf(": did you mean %s?", near)
	}
	return fmt.Sprintf(": %s --help lists them", cmd.CommandPath())
}
