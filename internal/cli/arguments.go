package cli

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/internal/fault"
)

// listFlag marks a flag that takes several values, az's "--scopes A B".
const listFlag = "sallyport_list"

const maxArgumentFile = 1 << 20

// expand rewrites az's habits into what the flag parser knows, for one command:
// several values after one flag, "true" and "false" after a switch, and "@FILE"
// (or "@-", standard input) for a value kept out of the argument list. Arguments
// after "--" belong to somebody else and stay as they are.
func expand(cmd *cobra.Command, args []string, stdin io.Reader) ([]string, error) {
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(out, args[i:]...), nil
		}
		loaded, err := load(a, stdin)
		if err != nil {
			return nil, err
		}
		f := lookup(cmd, a)
		if f == nil || strings.Contains(a, "=") {
			out = append(out, loaded)
			continue
		}
		take := following(f, args[i+1:])
		if take == 0 {
			out = append(out, loaded)
			continue
		}
		for _, v := range args[i+1 : i+1+take] {
			if v, err = load(v, stdin); err != nil {
				return nil, err
			}
			out = append(out, "--"+f.Name+"="+v)
		}
		i += take
	}
	return out, nil
}

// following says how many of the following arguments belong to the flag.
func following(f *pflag.Flag, rest []string) int {
	if f.Value.Type() == "bool" {
		if len(rest) > 0 && (strings.EqualFold(rest[0], "true") || strings.EqualFold(rest[0], "false")) {
			return 1
		}
		return 0
	}
	if f.Annotations[listFlag] == nil {
		return min(1, len(rest))
	}
	n := 0
	for n < len(rest) && !(strings.HasPrefix(rest[n], "-") && len(rest[n]) > 1) {
		n++
	}
	return n
}

func lookup(cmd *cobra.Command, arg string) *pflag.Flag {
	name, _, _ := strings.Cut(arg, "=")
	switch {
	case strings.HasPrefix(name, "--"):
		if f := cmd.Flags().Lookup(name[2:]); f != nil {
			return f
		}
		return cmd.InheritedFlags().Lookup(name[2:])
	case strings.HasPrefix(name, "-") && len(name) == 2:
		if f := cmd.Flags().ShorthandLookup(name[1:]); f != nil {
			return f
		}
		return cmd.InheritedFlags().ShorthandLookup(name[1:])
	}
	return nil
}

// load reads the file of "@FILE" and of "--flag=@FILE".
func load(arg string, stdin io.Reader) (string, error) {
	head, name := "", arg
	if strings.HasPrefix(arg, "--") {
		k, v, found := strings.Cut(arg, "=")
		if !found {
			return arg, nil
		}
		head, name = k+"=", v
	}
	path, found := strings.CutPrefix(name, "@")
	if !found || path == "" {
		return arg, nil
	}
	data, err := readNamed(path, stdin)
	if err != nil {
		return "", usageError{fault.New(fault.Invalid, "ArgumentFile", "cannot read the value of %s: %v", arg, err).Public()}
	}
	return head + strings.TrimRight(string(data), "\r\n"), nil
}

func readNamed(path string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxArgumentFile+1))
	if err == nil && len(data) > maxArgumentFile {
		err = errors.New("the file is too large")
	}
	return data, err
}

// usageError is a mistake in the command line itself: exit code 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// flagError adds the nearest flag to the parser's complaint.
func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		name := "--" + missing.GetSpecifiedName()
		if missing.GetSpecifiedShortnames() != "" {
			name = "-" + missing.GetSpecifiedName()
		}
		text = "unrecognized arguments: " + name
		if near := nearest(cmd, missing.GetSpecifiedName()); near != "" {
			text += ". Did you mean --" + near + "?"
		}
	}
	return usageError{text + "\nTry: " + cmd.CommandPath() + " --help"}
}

// nearest returns the flag whose name is closest to the one typed.
func nearest(cmd *cobra.Command, typed string) string {
	best, at := "", max(2, len(typed)/3)+1
	each := func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		d := distance(typed, f.Name)
		if strings.HasPrefix(f.Name, typed) && len(typed) > 2 {
			d = 1
		}
		if d < at {
			best, at = f.Name, d
		}
	}
	cmd.Flags().VisitAll(each)
	cmd.InheritedFlags().VisitAll(each)
	return best
}

// distance is Levenshtein's edit distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			corner, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, corner+cost)
		}
	}
	return row[len(b)]
}

// required returns az's sentence about flags that were not given.
func required(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, n := range names {
		f := cmd.Flags().Lookup(n)
		if f == nil || f.Changed {
			continue
		}
		missing = append(missing, display(f))
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return usageError{"the following arguments are required: " + strings.Join(missing, ", ") + "\nTry: " + cmd.CommandPath() + " --help"}
}

func display(f *pflag.Flag) string {
	if f.Shorthand == "" {
		return "--" + f.Name
	}
	return "--" + f.Name + "/-" + f.Shorthand
}

// aliasValue lets two flag names set one value.
type aliasValue struct {
	pflag.Value
	mark func()
}

// Set sets the value and marks the flag that it belongs to as given.
func (v aliasValue) Set(s string) error {
	v.mark()
	return v.Value.Set(s)
}
