package template

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// parameters takes the given values, and the defaults of the others.
func (p *Plan) parameters(declared map[string]parameter, given map[string]json.RawMessage) error {
	p.scope.parameters, p.Parameters = map[string]any{}, map[string]any{}
	values := map[string]any{}
	for name, raw := range given {
		var in struct {
			Value     any             `json:"value"`
			Reference json.RawMessage `json:"reference"`
		}
		if err := ReadKnown(raw, &in); err != nil || in.Reference != nil {
			return invalid("The value of the template parameter '%s' is given as {\"value\": ...}; secrets of other services cannot be referred to.", clip(name)).WithTarget("parameters")
		}
		if _, ok := fold(declared, name); !ok {
			return invalid("The template parameter '%s' is not found in the template; it has: %s.", clip(name), names(declared))
		}
		values[strings.ToLower(name)] = in.Value
	}
	for _, name := range sorted(declared) {
		d := declared[name]
		v, ok := values[strings.ToLower(name)]
		if !ok || v == nil {
			if v = d.Default; v == nil {
				return invalid("The value for the template parameter '%s' is not provided.", clip(name)).WithTarget("parameters")
			}
			var err error
			if v, err = p.scope.value(v); err != nil {
				return err
			}
		}
		if !d.fits(v) {
			return invalid("The value of the template parameter '%s' is not of type '%s', not one of those that are allowed, or not within its bounds.", clip(name), clip(d.Type)).WithTarget("parameters")
		}
		p.scope.parameters[name] = v
		shown := map[string]any{"type": d.Type}
		if !d.secure() {
			shown["value"] = v
		} else {
			p.secrets = append(p.secrets, allOf(v)...)
		}
		p.Parameters[name] = shown
	}
	return nil
}

// Reveals reports whether a text has something of a secret parameter in it. Its
// beginning will do, and less of it where the text is cut, because what is said of a
// long value is cut; how it is written does not matter, because a location, for
// example, is said as it would be stored.
func (p Plan) Reveals(text string) bool {
	text = bare(text)
	return slices.ContainsFunc(p.secrets, func(s string) bool {
		s = bare(s)
		most := min(len(s), 16)
		for n := 4; n < most; n++ {
			for _, cut := range []string{"...", "'", `"`} {
				if strings.Contains(text, s[:n]+cut) {
					return true
				}
			}
		}
		return most > 3 && strings.Contains(text, s[:most])
	})
}

// bare is a text without case, spaces and what quoting adds.
func bare(text string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", `\`, "").Replace(text))
}

// allOf are the texts and numbers in a value.
func allOf(v any) (out []string) {
	switch x := v.(type) {
	case string:
		return []string{x}
	case json.Number:
		return []string{x.String()}
	case []any:
		for _, e := range x {
			out = append(out, allOf(e)...)
		}
	case map[string]any:
		for _, e := range x {
			out = append(out, allOf(e)...)
		}
	}
	return out
}

// fits reports whether a value is of the parameter's type and among what it allows.
func (p parameter) fits(v any) bool {
	ok := false
	switch strings.ToLower(p.Type) {
	case "string", "securestring":
		_, ok = v.(string)
	case "int":
		_, ok = whole(v)
	case "bool":
		_, ok = v.(bool)
	case "array":
		_, ok = v.([]any)
	case "object", "secureobject":
		_, ok = v.(map[string]any)
	}
	return ok && p.within(v) && (len(p.Allowed) == 0 || slices.ContainsFunc(p.Allowed, func(a any) bool { return same(a, v) }))
}

// within holds a number to its bounds, and a text or an array to those of its length.
func (p parameter) within(v any) bool {
	least, most := p.MinLength, p.MaxLength
	var n int64
	switch x := v.(type) {
	case string:
		n = int64(utf8.RuneCountInString(x))
	case []any:
		n = int64(len(x))
	default:
		number, ok := whole(v)
		if !ok {
			return true
		}
		n, least, most = int64(number), p.MinValue, p.MaxValue
	}
	return (least == nil || n >= *least) && (most == nil || n <= *most)
}
