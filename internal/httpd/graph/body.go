package graph

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
)

// body is a JSON object whose properties are taken out one by one; finish
// refuses what is left, so that nothing a caller relies on is dropped silently.
type body struct {
	fields   map[string]json.RawMessage
	err      error
	resource string
}

func readBody(c *httpd.Call, resource string) (*body, error) {
	b := &body{resource: resource}
	if err := c.DecodeLenient(&b.fields); err != nil {
		return nil, err
	}
	if b.fields == nil {
		return nil, badBody("the request's body must be a JSON object.")
	}
	return b, nil
}

// withoutBody refuses what is said to an action that is told nothing.
func withoutBody(c *httpd.Call) error {
	raw, err := c.Body()
	if err != nil || len(bytes.TrimSpace(raw)) == 0 {
		return err
	}
	b := body{resource: "action"}
	if err := json.Unmarshal(raw, &b.fields); err != nil {
		return badBody("the request's body must be a JSON object.")
	}
	return b.finish()
}

func badBody(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "Request_BadRequest", format, args...).WithRemedy("See the Microsoft Graph documentation of this request.")
}

// take decodes a property into v and reports whether it was there. An explicit
// null counts as there only where v is a pointer.
func (b *body) take(property string, v any) bool {
	raw, ok := b.fields[property]
	if !ok {
		return false
	}
	delete(b.fields, property)
	if err := json.Unmarshal(raw, v); err != nil {
		b.fail(badBody("invalid value specified for property '%s' of resource '%s'.", property, b.resource).WithTarget(property))
		return false
	}
	return true
}

func (b *body) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// text takes a string property; null means empty.
func (b *body) text(property string) *string {
	var v *string
	if !b.take(property, &v) {
		return nil
	}
	if v == nil {
		v = new(string)
	}
	return v
}

// boolean takes a bool property, which is never null.
func (b *body) boolean(property string) *bool {
	var v *bool
	b.present(property)
	b.take(property, &v)
	return v
}

// optional takes a bool property for which null is false.
func (b *body) optional(property string) *bool {
	if string(b.fields[property]) == "null" {
		delete(b.fields, property)
		return new(bool)
	}
	return b.boolean(property)
}

// key takes the id that a client sends back with a change: it says once more what
// the address says, or it is refused.
func (b *body) key(is string) {
	if id, there := b.fields["id"]; there && !strings.EqualFold(string(id), `"`+is+`"`) {
		b.fail(readOnly("id"))
	}
	delete(b.fields, "id")
}

func readOnly(property string) error {
	return badBody("property '%s' is read-only and cannot be set.", property).WithTarget(property)
}

// fixed takes a property that can have only these values here. Values are JSON;
// without any, only what is empty is accepted, which is how it is shown.
func (b *body) fixed(property, why string, values ...string) {
	raw, ok := b.fields[property]
	if !ok {
		return
	}
	delete(b.fields, property)
	var text bytes.Buffer // clients write a list over several lines
	if json.Compact(&text, raw) != nil {
		text.Reset()
	}
	given := text.String()
	if len(values) == 0 && slices.Contains([]string{"null", "[]", "{}", `""`}, given) || slices.Contains(values, given) {
		return
	}
	b.fail(badBody("the value of property '%s' of resource '%s' is not supported: %s.", property, b.resource, why).WithTarget(property))
}

// unchanging takes a property that may only be echoed as it is.
func (b *body) unchanging(property, why string, is bool) {
	if v := b.optional(property); v != nil && *v != is {
		b.fail(badBody("the property '%s' of resource '%s' cannot be changed: %s.", property, b.resource, why).WithTarget(property))
	}
}

// require refuses a body without the property.
func (b *body) require(property string, present bool) {
	if !present {
		b.fail(badBody("a value is required for property '%s' of resource '%s'.", property, b.resource).WithTarget(property))
	}
}

// finish returns the first error, or refuses properties that nobody took: those that
// the server alone sets as what they are, as Microsoft Graph does.
func (b *body) finish(shown ...string) error {
	if b.err != nil {
		return b.err
	}
	var left []string
	for property := range b.fields {
		if slices.Contains(shown, property) {
			return readOnly(property)
		}
		if !strings.HasPrefix(property, "@odata.") {
			left = append(left, property)
		}
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return badBody("invalid property '%s' for resource '%s': it does not exist or cannot be set here.", bounded(left[0]), b.resource).WithTarget(bounded(left[0]))
}
