package httpd

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/route"
)

// mediaType refuses a body that says it is something other than JSON, as Resource
// Manager and Graph do (415 UnsupportedMediaType). One that does not say is read.
func (c *Call) mediaType() error {
	given := c.R.Header.Get("Content-Type")
	if given == "" || c.R.Body == nil || c.R.Body == http.NoBody || !anyCase(c.Row.Surface) {
		return nil
	}
	kind, _, err := mime.ParseMediaType(given)
	if err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")) {
		return nil
	}
	return fault.New(fault.Invalid, "UnsupportedMediaType", "the content media type %q is not supported", clipped(given)).WithRemedy("Send application/json.")
}

var versionShape = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(-[a-z]{1,20})?$`)

// apiVersion refuses an api-version that is none: a date, with a word behind it for
// a preview. Without one a request means the present version.
func (c *Call) apiVersion() error {
	if c.Row.Surface != route.ARM || c.Row.Door != route.Caller {
		return nil
	}
	for _, given := range c.R.URL.Query()["api-version"] {
		if !versionShape.MatchString(given) {
			return fault.New(fault.Invalid, "InvalidApiVersionParameter", "the api-version %q is invalid", clipped(given)).WithRemedy("An api-version is a date, such as 2022-09-01.").WithTarget("api-version")
		}
	}
	return nil
}

// unread refuses what the row would not read, and the caller relies on: a query option
// or parameter of Resource Manager's, a body, and a condition on an ETag of what has
// none.
func (c *Call) unread() error {
	azure := c.Row.Surface == route.ARM || c.Row.Surface == route.Graph
	if !azure || c.Row.Door != route.Caller {
		return nil
	}
	if c.Row.Surface == route.ARM {
		if err := c.unreadQuery(); err != nil {
			return err
		}
	}
	if c.Row.Bodyless() {
		if err := c.unreadBody(); err != nil {
			return err
		}
	}
	if c.R.Method == http.MethodGet || c.R.Method == http.MethodHead || c.Row.Conditional() {
		return nil
	}
	if given := c.R.Header.Get("If-Match"); given != "" && given != "*" {
		return fault.New(fault.Precondition, "PreconditionFailed", "this has no ETag that %q could match", clipped(given)).WithRemedy("Leave If-Match out.").WithTarget("If-Match")
	}
	if c.R.Header.Get("If-None-Match") != "" {
		return fault.New(fault.Invalid, "InvalidParameter", "If-None-Match is not supported here").WithRemedy("Leave it out.").WithTarget("If-None-Match")
	}
	return nil
}

// unreadQuery refuses a query that the row would not read as it is meant: an unknown
// name, one that is there twice, and what no machine can do.
func (c *Call) unreadQuery() error {
	options, parameters := c.Row.Options(), append(c.Row.Parameters(), "api-version")
	for name, given := range c.R.URL.Query() {
		known, kind := parameters, "none but api-version"
		if strings.HasPrefix(name, "$") {
			known, kind = options, "none that begins with $"
		}
		switch {
		case !slices.Contains(known, name):
			if known = slices.DeleteFunc(known, func(s string) bool { return s == "api-version" }); len(known) > 0 {
				kind = strings.Join(known, ", ")
			}
			return fault.New(fault.Invalid, "InvalidQueryParameter", "the query option %q is not supported here", clipped(name)).
				WithRemedy("This operation reads: %s.", kind).WithTarget(clipped(name))
		case len(given) > 1:
			return fault.New(fault.Invalid, "InvalidQueryParameter", "the query option %q is given more than once", clipped(name)).WithTarget(clipped(name))
		case slices.Contains([]string{route.SkipShutdown, route.Hibernate, route.ForceDeletion}, name) && given[0] != "" && !strings.EqualFold(given[0], "false"):
			return fault.New(fault.Invalid, "InvalidParameter", "%s=%.80s is not supported here: machines are stopped and deleted in one way; nothing was changed", name, given[0]).WithRemedy("Leave it out.").WithTarget(name)
		}
	}
	return nil
}

// unreadBody refuses a body that says something to a row that reads none.
func (c *Call) unreadBody() error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	switch strings.Join(strings.Fields(string(body)), "") {
	case "", "{}", "null":
		return nil
	}
	return fault.New(fault.Invalid, "InvalidRequestContent", "this operation takes no body, and nothing of it would have an effect; nothing was changed").WithRemedy("Leave it out.")
}

func clipped(text string) string {
	if len(text) > 80 {
		return text[:80]
	}
	return text
}

// maxDepth is how deep encoding/json decodes: a body that nests deeper is left to it,
// which refuses it. Tokens know no such end, and each level costs memory.
const maxDepth = 10_000

// errNotJSON is for a body that is not JSON: whoever decodes it says what is wrong.
var errNotJSON = errors.New("not JSON")

// repeated returns the first member that an object of a JSON text has twice. Two
// readers of such a text need not see the same: what one checks, the other does not
// use. Where fold is set, names that differ in case alone are the same, as they are
// to Resource Manager and to encoding/json.
func repeated(body []byte, fold bool) (string, error) {
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	type level struct {
		names map[string]bool // of an object; nil in an array
		value bool            // what comes next belongs to a name
	}
	var open []level
	for {
		token, err := d.Token()
		if err != nil || len(open) > maxDepth {
			return "", errNotJSON // and the end of the text
		}
		if delimiter, ok := token.(json.Delim); ok && (delimiter == '}' || delimiter == ']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			top := &open[n-1]
			if name, ok := token.(string); ok && !top.value {
				key := name
				if fold {
					key = strings.ToLower(strings.ToUpper(name)) // the long s and the Kelvin sign are letters to encoding/json, too
				}
				if top.names[key] {
					return name, nil
				}
				top.names[key], top.value = true, true
				continue
			}
			top.value = false
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		}
	}
}

// once refuses a body in which a member stands twice.
func (c *Call) once(body []byte) error {
	if c.Row.Surface != route.ARM && c.Row.Surface != route.Graph && c.Row.Surface != route.Agent {
		return nil
	}
	name, err := repeated(body, anyCase(c.Row.Surface))
	if err != nil {
		return nil //nolint:nilerr // no JSON, or nothing in it twice
	}
	return fault.New(fault.Invalid, "InvalidRequestContent", "the request's body has the member %q twice in one object", clipped(name)).WithTarget(clipped(name))
}
