package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
)

// Exit codes, as az's.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3
)

// exitError ends the command with another program's exit code and no text.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// Run runs one command line on a root made by Command, to which further
// commands may have been added, and returns the exit code. Errors are printed
// as az prints them.
func Run(ctx context.Context, root *cobra.Command, config Config, args []string) int {
	config = config.complete()
	strict(root)
	cmd, rest, err := root.Find(args)
	if err == nil {
		path := strings.Fields(cmd.CommandPath())[1:]
		cmd.InitDefaultHelpFlag()
		var expanded []string
		if expanded, err = expand(cmd, rest, config.Stdin); err == nil {
			root.SetArgs(append(path, expanded...))
			cmd, err = root.ExecuteContextC(ctx)
		}
	} else {
		err = usageError{err.Error()}
	}
	return report(config, cmd, err)
}

// report prints an error and chooses the exit code.
func report(config Config, cmd *cobra.Command, err error) int {
	var exit exitError
	var usage usageError
	text, code := "", exitFailure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, context.Canceled):
		text = "the command was interrupted"
	case errors.As(err, &usage):
		text, code = usage.text, exitUsage
	case strings.HasPrefix(err.Error(), "required flag(s)"): // cobra's own, of server, agent and lab
		text, code = err.Error(), exitUsage
	case cmd != nil:
		text, code = sentence(err), azCode(cmd.Name(), err)
	default:
		text = sentence(err)
	}
	_, _ = fmt.Fprintln(config.Stderr, "ERROR: "+output.Clean(fault.Sentence("%s", text)))
	return code
}

// sentence is what a person reads: a fault's public text, or the error itself.
func sentence(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Public()
	}
	return err.Error()
}

// Command returns the root command "sally". The caller may add more commands to
// it before Run.
func Command(config Config) *cobra.Command {
	a := &app{cfg: config.complete()}
	root := &cobra.Command{
		Use: "sally", Short: "Sign in to Linux machines with a directory identity.",
		Long:          "sally gives any Linux machine what Azure gives its own virtual machines: sign in once, then ssh with short-lived certificates,\nwith role assignments that decide who may log in and who may sudo. Commands and flags are those of az.",
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		RunE:              a.root,
	}
	root.SetIn(a.cfg.Stdin)
	root.SetOut(a.cfg.Stdout)
	root.SetErr(a.cfg.Stderr)
	root.SetFlagErrorFunc(flagError)
	p := root.PersistentFlags()
	p.StringVarP(&a.format, "output", "o", "json", "Output format: "+strings.Join(output.Formats(), ", "))
	p.StringVar(&a.query, "query", "", "JMESPath query applied to the result")
	p.StringVar(&a.subscription, "subscription", "", "Name or ID of the subscription to use instead of the default one")
	p.BoolVar(&a.quiet, "only-show-errors", false, "Print no warnings and no progress")
	p.BoolVar(&a.verbose, "verbose", false, "Print what is going on")
	p.BoolVar(&a.debug, "debug", false, "Print each request, never a secret")
	root.Flags().Bool("version", false, "Print the version")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.prepare() }
	a.addGroups(root)
	return root
}

// root answers a bare "sally", "sally --version" and a command nobody knows.
func (a *app) root(cmd *cobra.Command, args []string) error {
	if v, _ := cmd.Flags().GetBool("version"); v {
		_, err := fmt.Fprintf(a.cfg.Stdout, "sally %s\n\nExtensions:\nssh %s (built in)\n", a.cfg.Version, a.cfg.Version)
		return err
	}
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownCommand(cmd, args[0])
}

func unknownCommand(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("'%s' is misspelled or not a command of %s", name, cmd.CommandPath())
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += ". Did you mean: " + strings.Join(near, ", ") + "?"
	}
	return usageError{text + "\nTry: " + cmd.CommandPath() + " --help"}
}

// group makes a command that only holds others.
func group(name, short string, children ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short}
	g.AddCommand(children...)
	return g
}

// strict makes every command below c answer wrong words with exit code 2, those
// of other packages too: a group names what is near, a leaf refuses arguments.
func strict(c *cobra.Command) {
	for _, child := range c.Commands() {
		strict(child)
		if child.HasSubCommands() {
			child.Args, child.SuggestionsMinimumDistance = cobra.ArbitraryArgs, 2
			child.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) == 0 {
					return cmd.Help()
				}
				return unknownCommand(cmd, args[0])
			}
		} else if check := child.Args; check != nil {
			child.Args = func(cmd *cobra.Command, args []string) error {
				err := check(cmd, args)
				if err == nil || errors.As(err, new(usageError)) {
					return err
				}
				return usageError{err.Error()}
			}
		}
	}
}

// leaf makes a command that does something and takes no positional arguments.
func leaf(name, short string, run func(*cobra.Command, []string) error) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, RunE: run, DisableFlagsInUseLine: true, Args: func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{"unrecognized arguments: " + strings.Join(args, " ")}
		}
		return nil
	}}
}
