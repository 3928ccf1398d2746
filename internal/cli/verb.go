package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// verb is a command that makes one call.
type verb struct {
	// path is the command, "group show".
	path  string
	short string
	// method and url are the call. {flag} stands for the value of a flag,
	// {subscription} for the subscription; [..] is left out unless every flag in
	// it was given.
	method string
	url    string
	// other is a second url, for a thing that is not at the first.
	other string
	// suffix follows url; the two are apart because --ids replaces url.
	suffix  string
	surface client.Surface
	flags   []flag
	// query holds parameters as name=template; one whose flag was not given is
	// left out, and name@switch=text is sent where the switch is on. Of several
	// for one name the last counts. Quotes in values are doubled, as OData wants.
	query []string
	// check looks at the flags before anything is sent.
	check func(values) error
	// body makes the body from the flags.
	body func(values) (any, error)
	// list says that the answer is a list, read to its end.
	list bool
	// mine, for a list, is the type of directory object that --show-mine lists of
	// what the caller owns; the other flags then do not count, as with az.
	mine string
	// shape changes the answer into what az shows.
	shape func(map[string]any) any
	// columns are the default table's, and by the member that its rows are sorted by.
	columns []output.Column
	by      string
	// ids adds --ids, in the place of the flags that url names. ours says that az's
	// command has it not, and so misses a name sooner.
	ids, ours bool
	// one, for a list of --instance-ids, is the suffix of the call about one instance,
	// which is made when the list has no other.
	one string
	// gone says that what is not there is no failure: nothing is printed, as with az.
	gone bool
	// confirm is the question asked unless --yes.
	confirm string
	// wait adds --no-wait and a progress line with this text.
	wait string
	// quiet prints nothing.
	quiet bool
}

// flag is a flag of a verb. kind is 's' string, 'b' switch, 'l' list, 'o' list
// that may be given without a value, which then is def.
type flag struct {
	name     string
	short    string
	kind     byte
	required bool
	usage    string
	def      string
	aliases  string // further names, space-separated, each as name or name/letter
	late     bool   // az misses it only when the command runs
}

// values reads the flags of a command that is running.
type values struct{ cmd *cobra.Command }

func (v values) text(name string) string {
	s, _ := v.cmd.Flags().GetString(name)
	return s
}
func (v values) list(name string) []string {
	l, _ := v.cmd.Flags().GetStringArray(name)
	return l
}
func (v values) on(name string) bool {
	b, _ := v.cmd.Flags().GetBool(name)
	return b
}
func (v values) given(name string) bool { return v.cmd.Flags().Changed(name) }

// define adds flags to a command.
func define(cmd *cobra.Command, flags []flag) {
	fs := cmd.Flags()
	for _, f := range flags {
		switch f.kind {
		case 'b':
			fs.BoolP(f.name, f.short, f.def == "true", f.usage)
		case 'l', 'o':
			fs.StringArrayP(f.name, f.short, nil, f.usage)
			_ = fs.SetAnnotation(f.name, listFlag, []string{"true"})
			if f.kind == 'o' {
				fs.Lookup(f.name).NoOptDefVal = f.def
			}
		default:
			fs.StringP(f.name, f.short, f.def, f.usage)
		}
		for _, other := range strings.Fields(f.aliases) {
			target := fs.Lookup(f.name)
			alias := *target
			alias.Hidden = true
			alias.Name, alias.Shorthand, _ = strings.Cut(other, "/")
			alias.Value = aliasValue{Value: target.Value, mark: func() { target.Changed = true }}
			fs.AddFlag(&alias)
		}
	}
}

// leafFor makes a command with flags whose required ones are checked first.
func leafFor(name, short string, flags []flag, run func(context.Context, values) error) *cobra.Command {
	var must, later []string
	for _, f := range flags {
		if f.required && f.late {
			later = append(later, f.name)
		} else if f.required {
			must = append(must, f.name)
		}
	}
	cmd := leaf(name, short, func(cmd *cobra.Command, _ []string) error {
		if err := required(cmd, must...); err != nil {
			return err
		}
		if err := required(cmd, later...); err != nil {
			return clientError{err.Error()}
		}
		return run(cmd.Context(), values{cmd})
	})
	define(cmd, flags)
	return cmd
}

// command makes the verb's command.
func (v verb) command(a *app) *cobra.Command {
	flags := v.flags
	if v.ids {
		flags = append(append([]flag{}, flags...), flag{name: "ids", kind: 'l', usage: "Resource IDs, in the place of the name and the resource group"})
		for i := range flags {
			flags[i].required = flags[i].required && !strings.Contains(v.url, "{"+flags[i].name+"}")
		}
	}
	if v.mine != "" {
		flags = append(slices.Clone(flags), flag{name: "show-mine", kind: 'b', usage: "Only what the signed-in user owns"})
	}
	if v.confirm != "" {
		flags = append(flags, flag{name: "yes", short: "y", kind: 'b', usage: "Do not ask for confirmation"})
	}
	if v.wait != "" {
		flags = append(flags, flag{name: "no-wait", kind: 'b', usage: "Do not wait for the operation to end"})
	}
	words := strings.Fields(v.path)
	return leafFor(words[len(words)-1], v.short, flags, func(ctx context.Context, in values) error { return v.run(ctx, a, in) })
}

func (v verb) run(ctx context.Context, a *app, in values) error {
	if v.check != nil {
		if err := v.check(in); err != nil {
			return err
		}
	}
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	targets, err := v.targets(s, in)
	if err != nil {
		return err
	}
	if v.confirm != "" {
		if err := a.confirm(in.on("yes"), v.confirm); err != nil {
			return err
		}
	}
	var results []any
	for _, target := range targets {
		r, err := v.call(ctx, a, s, in, target)
		if v.other != "" && client.IsHidden(err) && !in.given("ids") {
			r, err = v.callOther(ctx, a, s, in, err)
		}
		if v.gone && client.IsNotFound(err) {
			a.warn(sentence(err))
			continue
		}
		if err != nil {
			return err
		}
		if r != nil {
			results = append(results, r)
		}
	}
	switch {
	case v.quiet || len(results) == 0:
		return nil
	case len(results) == 1:
		if list, ok := results[0].([]any); ok && v.by != "" && a.out.Format == output.Table && a.out.Query == nil {
			sortBy(list, v.by)
		}
		return a.print(results[0], v.columns...)
	}
	return a.print(results, v.columns...)
}

// sortBy sorts answers by a member that is a text.
func sortBy(list []any, member string) {
	key := func(v any) string {
		raw, _ := v.(json.RawMessage)
		var doc map[string]any
		if json.Unmarshal(raw, &doc) != nil {
			return ""
		}
		return text(doc, member)
	}
	slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(key(a), key(b)) })
}

// callOther asks for the thing at its other address; where it is not there either,
// the first answer stands.
func (v verb) callOther(ctx context.Context, a *app, s *client.Session, in values, first error) (any, error) {
	target, err := fillURL(v.other, s, in)
	if err != nil {
		return nil, err
	}
	r, err := v.call(ctx, a, s, in, target)
	if client.IsHidden(err) {
		err = first
	}
	return r, err
}

// targets returns the paths to call: those of --ids, else the one that the
// flags make.
func (v verb) targets(s *client.Session, in values) ([]string, error) {
	if v.ids && in.given("ids") {
		var paths []string
		for _, id := range in.list("ids") {
			parsed, err := scope.Parse(strings.TrimSpace(id))
			if err != nil {
				return nil, err
			}
			paths = append(paths, parsed.String())
		}
		return paths, nil
	}
	if v.ids {
		var must []string
		for _, f := range v.flags {
			if strings.Contains(v.url, "{"+f.name+"}") {
				must = append(must, f.name)
			}
		}
		if err := required(in.cmd, must...); err != nil && v.ours {
			return nil, err
		} else if err != nil {
			return nil, clientError{err.Error()}
		}
	}
	if v.mine != "" && in.on("show-mine") {
		return []string{"/me/ownedObjects/microsoft.graph." + v.mine}, nil
	}
	path, err := fillURL(v.url, s, in)
	return []string{path}, err
}

func (v verb) call(ctx context.Context, a *app, s *client.Session, in values, target string) (any, error) {
	suffix, err := fillURL(v.suffix, s, in)
	if err != nil {
		return nil, err
	}
	c := client.Call{Surface: v.surface, Method: v.method, Path: target + suffix, Query: url.Values{}}
	for _, q := range v.query {
		name, template, _ := strings.Cut(q, "=")
		name, only, conditional := strings.Cut(name, "@")
		if conditional && !in.on(only) || v.mine != "" && in.on("show-mine") {
			continue
		}
		if text, ok := fillQuery(template, in); ok {
			c.Query.Set(name, text)
		}
	}
	if v.body != nil {
		if c.Body, err = v.body(in); err != nil {
			return nil, err
		}
	}
	if ids := in.list("instance-ids"); v.one != "" && len(ids) == 1 && ids[0] != "*" {
		c.Path, c.Body = target+"/virtualMachines/"+url.PathEscape(ids[0])+v.one, nil
	}
	if v.list {
		items, err := s.List(ctx, c)
		if err != nil {
			return nil, err
		}
		return v.shaped(items)
	}
	if v.wait != "" {
		defer a.progress(v.wait)()
	}
	first, err := s.Send(ctx, c)
	if err != nil {
		return nil, err
	}
	if v.wait != "" && in.on("no-wait") {
		return nil, nil
	}
	body, err := s.Await(ctx, c, first)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 || v.method == http.MethodDelete {
		return nil, nil
	}
	return v.shapedOne(body)
}

func (v verb) shapedOne(body []byte) (any, error) {
	if v.shape == nil {
		return json.RawMessage(body), nil
	}
	doc, err := object(body)
	if err != nil {
		return nil, err
	}
	return v.shape(doc), nil
}

func (v verb) shaped(items []json.RawMessage) (any, error) {
	out := make([]any, 0, len(items))
	for _, item := range items {
		one, err := v.shapedOne(item)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// fillURL replaces {flag} by escaped values. Resource Manager's names pass its
// own alphabet, so that no value can add a segment.
func fillURL(template string, s *client.Session, in values) (string, error) {
	var b strings.Builder
	for template != "" {
		open := strings.IndexAny(template, "{[")
		if open < 0 {
			b.WriteString(template)
			break
		}
		b.WriteString(template[:open])
		if template[open] == '[' {
			part, rest, _ := strings.Cut(template[open+1:], "]")
			template = rest
			if name := part[strings.LastIndexByte(part, '{')+1:]; in.text(strings.TrimSuffix(name, "}")) == "" {
				continue
			}
			template = part + rest
			continue
		}
		name, rest, _ := strings.Cut(template[open+1:], "}")
		template = rest
		value, err := urlValue(name, s, in)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

func urlValue(name string, s *client.Session, in values) (string, error) {
	if name == "subscription" {
		return subscriptionOf(s)
	}
	value := in.text(name)
	if name == "scope" {
		id, err := scope.Parse(value)
		return strings.TrimSuffix(id.String(), "/"), err
	}
	if value == "" {
		return "", clientError{"argument --" + name + ": a name is not empty"}
	}
	if value == "." || value == ".." || strings.ContainsAny(value, "/?#%\\") { // the path would be another one; as the server would say it
		return "", &client.APIError{Status: http.StatusBadRequest, Code: "InvalidPath", Message: "argument --" + name + ": '" + value + "' is not a valid name"}
	}
	return url.PathEscape(value), nil
}

// fillQuery replaces {flag} in a query template; ok is false where the flag was
// not given.
func fillQuery(template string, in values) (string, bool) {
	for {
		before, rest, found := strings.Cut(template, "{")
		if !found {
			return template, true
		}
		name, after, _ := strings.Cut(rest, "}")
		value := in.text(name)
		if value == "" {
			return "", false
		}
		if before != "" || after != "" { // an expression of its own stays as it is
			value = strings.ReplaceAll(value, "'", "''")
		}
		template = before + value + after
	}
}

// object decodes a JSON object and keeps its numbers exact.
func object(body []byte) (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	return doc, nil
}
