package httpd

import (
	"net/url"
	"slices"
	"strings"

	"sallyport/internal/fault"
)

// odata reads the spellings of OData in a path of Microsoft Graph that is split into
// segments (OData 4.01 URL Conventions, sections 4.3, 4.6, 4.8 and 4.11), and returns
// the one spelling that rows have:
//
//	users('ID')                          users/ID
//	applications(appId='ID')             applications/(appId='ID')
//	users/ID/microsoft.graph.memberOf    users/ID/memberOf
//
// At the end of a read, what a list is asked for goes into how: its members of one
// type, and their number.
//
//	groups/ID/members/microsoft.graph.user/$count
func odata(path []string, read bool) (out []string, how asked) {
	out = append(make([]string, 0, len(path)+2), path[0])
	for _, s := range path[1:] {
		name, key, paren := strings.Cut(s, "(")
		key, closed := strings.CutSuffix(key, ")")
		switch {
		case paren && closed && name != "" && key != "":
			if n := len(key); n > 2 && key[0] == '\'' && key[n-1] == '\'' {
				key = strings.ReplaceAll(key[1:n-1], "''", "'")
			} else {
				key = "(" + key + ")"
			}
			out = append(out, qualified(name), key)
		default:
			out = append(out, qualified(s))
		}
	}
	if n := len(out); read && n > 2 && strings.EqualFold(out[n-1], "$count") {
		out, how.counted = out[:n-1], true
	}
	if n := len(out); read && n > 3 && slices.ContainsFunc(casts(), func(c string) bool { return strings.EqualFold(c, out[n-1]) }) {
		out, how.cast = out[:n-1], out[n-1]
	}
	return out, how
}

// asked is what the end of a path asks of a list.
type asked struct {
	counted bool
	cast    string
}

// casts are the kinds of directory objects that a list can be cut down to.
func casts() []string {
	return []string{"user", "group", "servicePrincipal", "application", "device", "orgContact", "directoryRole", "administrativeUnit"}
}

// qualified takes the namespace from the name of an operation or a type. What names a
// person or a thing has something other than letters in it, and stays.
func qualified(s string) string {
	for _, prefix := range []string{"microsoft.graph.", "graph."} {
		if n := len(prefix); len(s) > n && strings.EqualFold(s[:n], prefix) && strings.Trim(strings.ToLower(s[n:]), "abcdefghijklmnopqrstuvwxyz") == "" {
			return s[n:]
		}
	}
	return s
}

// Counted reports whether the number of a list's members is asked for (LIST/$count).
func (c *Call) Counted() bool { return c.asked.counted }

// Cast is the type that a list is cut down to (LIST/microsoft.graph.TYPE), "" for all.
func (c *Call) Cast() string { return c.asked.cast }

// Nothing refuses what is asked of a list where there is none.
func (c *Call) Nothing() error { return nothingAt(c.R.URL) }

func nothingAt(u *url.URL) error {
	return fault.New(fault.NotFound, "InvalidResourcePath", "this server has nothing at %s", u.Path)
}

// SetVar gives a variable of the pattern the id that another key of OData stands for.
func (c *Call) SetVar(name, value string) { c.vars[name] = value }
