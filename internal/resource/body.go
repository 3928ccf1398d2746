package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode"

	"sallyport/internal/fault"
)

const invalidContent = "InvalidRequestContent"

// Strict decodes exactly one JSON value and refuses fields that v does not have,
// naming them: what was not understood is never stored. where says what the
// value is, "properties of Microsoft.Compute/virtualMachines".
func Strict(raw []byte, v any, where string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return fault.New(fault.Invalid, invalidContent, "more than one JSON value where %s is wanted", where)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fault.Wrap(err, fault.Invalid, invalidContent, "%q in the %s cannot be a JSON %s", clip(kind.Field), where, clip(kind.Value)).WithTarget(clip(kind.Field))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		return fault.Wrap(err, fault.Invalid, invalidContent, "property %q is not known in the %s; nothing was changed", clip(name), where).
			WithRemedy("Leave it out: this server refuses what it would not act on.").WithTarget(clip(name))
	}
	return fault.Wrap(err, fault.Invalid, invalidContent, "the %s is not valid JSON", where)
}

func clip(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return s
}

// body is a request body at its top level.
type body struct {
	location   *string
	tags       map[string]string
	hasTags    bool
	identity   *wanted
	properties json.RawMessage
	top        map[string]json.RawMessage
}

// readBody takes a body apart. Fields that clients echo and nobody may set are
// ignored; others are kept when the type knows them, else refused.
func readBody(t *Type, raw []byte) (body, error) {
	var b body
	var fields map[string]json.RawMessage
	if err := Strict(raw, &fields, "body"); err != nil {
		return b, err
	}
	if fields == nil {
		return b, fault.New(fault.Invalid, invalidContent, "the request's body must be a JSON object")
	}
	for name, value := range fields {
		if bytes.Equal(value, []byte("null")) {
			continue
		}
		if err := b.field(t, strings.ToLower(name), name, value); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (b *body) field(t *Type, folded, name string, value json.RawMessage) error {
	switch folded {
	case "id", "name", "type", "etag", "resources", "systemdata":
		return nil
	case "location":
		if err := Strict(value, &b.location, "location"); err != nil {
			return err
		}
		l, err := location(*b.location)
		b.location = &l
		return err
	case "tags":
		b.hasTags = true
		if err := Strict(value, &b.tags, "tags"); err != nil {
			return err
		}
		return CheckTags(b.tags)
	case "identity":
		return b.readIdentity(t, value)
	case "properties":
		b.properties = value
		return nil
	}
	for _, keep := range t.Top {
		if strings.EqualFold(keep, name) {
			if b.top == nil {
				b.top = map[string]json.RawMessage{}
			}
			b.top[keep] = value
			return topKind(keep, value)
		}
	}
	return fault.New(fault.Invalid, invalidContent, "property %q is not known in the body of a %s; nothing was changed", clip(name), t.Title).
		WithRemedy("Leave it out: this server refuses what it would not act on.").WithTarget(clip(name))
}

// topKind holds what is kept at the top of a body to the kind of value that it has in
// Azure.
func topKind(name string, value json.RawMessage) error {
	var text string
	var texts []string
	var object struct {
		Name     string      `json:"name"`
		Tier     string      `json:"tier"`
		Type     string      `json:"type"`
		Capacity json.Number `json:"capacity"`
	}
	var into any = &text
	switch name {
	case "zones":
		into = &texts
	case "sku", "extendedLocation":
		into = &object
	}
	return Strict(value, into, name)
}

// location normalizes as Azure does: "South Central US" is southcentralus.
func location(s string) (string, error) {
	l := strings.ToLower(strings.ReplaceAll(s, " ", ""))
	for _, r := range l {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			l = ""
			break
		}
	}
	if l == "" || len(l) > 64 {
		return "", fault.New(fault.Invalid, "LocationNotAvailableForResourceType", "%q is not a location", clip(s)).
			WithRemedy("A location is letters and digits, southcentralus for example.").WithTarget("location")
	}
	return l, nil
}

// CheckTags holds Azure's limits: 50 tags, names of 512, values of 256.
func CheckTags(tags map[string]string) error {
	if len(tags) > 50 {
		return fault.New(fault.Invalid, "InvalidTagCount", "%d tags are more than the 50 that a resource may have", len(tags)).WithTarget("tags")
	}
	for k, v := range tags {
		if k == "" || len(k) > 512 || len(v) > 256 || strings.ContainsAny(k, `<>%&\?/`) || !printable(k) || !printable(v) {
			return fault.New(fault.Invalid, "InvalidTagNameCharacters", "tag %q is not valid", clip(k)).
				WithRemedy(`A name has 1 to 512 characters without < > %% & \ ? /, a value at most 256.`).WithTarget("tags")
		}
	}
	return nil
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// checkName holds names to what is safe in a host name, a file name and a
// command line, everywhere that a resource's name ends up.
func checkName(t *Type, name string) error {
	ok := name != "" && len(name) <= 80 && !strings.HasSuffix(name, ".") && strings.IndexByte("-.)", name[0]) < 0
	if !ok {
		return fault.New(fault.Invalid, "InvalidResourceName", "%q cannot be the name of a %s", clip(name), t.Title).
			WithRemedy("A name has 1 to 80 letters, digits and - _ . ( ), does not begin with a hyphen, dot or parenthesis and does not end with a dot.")
	}
	return nil
}

// maxPatchDepth bounds the work of a merge; no resource nests deeper.
const maxPatchDepth = 32

// mergePatch applies an RFC 7396 merge patch. Names match in any case, as they
// do when the result is decoded.
func mergePatch(target, patch json.RawMessage, depth int) (json.RawMessage, error) {
	if depth > maxPatchDepth {
		return nil, fault.New(fault.Invalid, invalidContent, "the body nests deeper than %d levels", maxPatchDepth)
	}
	var p map[string]json.RawMessage
	if err := json.Unmarshal(patch, &p); err != nil || p == nil {
		return patch, nil //nolint:nilerr // a patch that is no object replaces, says the RFC
	}
	var t map[string]json.RawMessage
	if err := json.Unmarshal(target, &t); err != nil || t == nil {
		t = map[string]json.RawMessage{}
	}
	for name, v := range p {
		have := name
		for k := range t {
			if strings.EqualFold(k, name) {
				have = k
			}
		}
		if string(v) == "null" {
			delete(t, have)
			continue
		}
		merged, err := mergePatch(t[have], v, depth+1)
		if err != nil {
			return nil, err
		}
		t[have] = merged
	}
	return json.Marshal(t)
}
