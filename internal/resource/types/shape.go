package types

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
)

// like is a value that is kept as it was given and read by nobody, with the shape T
// that it has in Azure. What an older server has taken is read whatever it is; what is
// written is held to the shape, see ofKind.
type like[T any] struct{ given any }

// MarshalJSON writes what was given.
func (l like[T]) MarshalJSON() ([]byte, error) { return json.Marshal(l.given) }

// UnmarshalJSON takes any value.
func (l *like[T]) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &l.given) }

// IsZero reports that nothing was given.
func (l like[T]) IsZero() bool { return l.given == nil }

// Shape is what may be given.
func (l like[T]) Shape() any {
	var t T
	return t
}

// member is a text that was given as a member of an object, "" for none.
func (l like[T]) member(name string) string {
	o, _ := l.given.(map[string]any)
	text, _ := o[name].(string)
	return text
}

// fit refuses what has not the shape, and keeps what was understood.
func (l *like[T]) fit(path string) error {
	if l.given == nil {
		return nil
	}
	raw, err := json.Marshal(l.given)
	if err != nil {
		return err
	}
	var t T
	if err := resource.Strict(raw, &t, path); err != nil {
		return err
	}
	if err := ofKind(reflect.ValueOf(&t), path); err != nil {
		return err
	}
	if raw, err = json.Marshal(t); err != nil {
		return err
	}
	l.given = nil
	if err := json.Unmarshal(raw, &l.given); err != nil {
		return err
	}
	l.given = filled(l.given)
	return nil
}

// filled leaves out the objects and lists that nothing is left in.
func filled(v any) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = filled(x[i])
		}
		if x = slices.DeleteFunc(x, func(one any) bool { return one == nil }); len(x) == 0 {
			return nil
		}
		return x
	case map[string]any:
		for name, inner := range x {
			if x[name] = filled(inner); x[name] == nil {
				delete(x, name)
			}
		}
		if len(x) == 0 {
			return nil
		}
	}
	return v
}

// fitting is a value of type like.
type fitting interface{ fit(path string) error }

// formed is a shape with rules beyond the kinds of its values.
type formed interface{ form(path string) error }

// ofKind holds values to what the tags of their fields say, as Azure does, and to the
// shapes of the values that nobody reads:
//
//	kind  text, bool, number or texts; flag for true and false, which az's templates
//	      spell as a text, too; read for what the server alone says,
//	      which clients send back and is dropped; none for what would have no effect,
//	      unless it is off or empty
//	one   the words that a text may be, in any case
//
// A field of kind has no Go type of that kind, or what an older server has taken could
// not be read any more.
func ofKind(v reflect.Value, path string) error {
	if v.CanAddr() && v.CanInterface() {
		if f, ok := v.Addr().Interface().(fitting); ok {
			return f.fit(path)
		}
		if f, ok := v.Addr().Interface().(formed); ok {
			if err := f.form(path); err != nil {
				return err
			}
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return ofKind(v.Elem(), path)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil
		}
		for i := range v.Len() {
			if err := ofKind(v.Index(i), path); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() && !f.Anonymous {
				continue
			}
			name := path
			if word, _, _ := strings.Cut(f.Tag.Get("json"), ","); word != "" {
				name += "." + word
			}
			if err := field(v.Field(i), f.Tag, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// field holds one field to its tags.
func field(v reflect.Value, tag reflect.StructTag, path string) error {
	kind := tag.Get("kind")
	switch kind {
	case "":
		if err := ofKind(v, path); err != nil {
			return err
		}
	case "read":
		v.SetZero()
		return nil
	case "none":
		raw, err := json.Marshal(v.Interface())
		if err == nil && !empty(raw) && string(raw) != "false" {
			err = noEffect(strings.TrimPrefix(path, "properties."), "no machine or network of this server would be another one for it")
		}
		if err == nil {
			v.SetZero()
		}
		return err
	default:
		if is := kindOf(v.Interface()); is != "" && is != kind && !(kind == "flag" && isFlag(v.Interface())) {
			return fault.New(fault.Invalid, "InvalidParameter", "%q cannot be a value of that kind: it is a %s", path, strings.Replace(kind, "flag", "bool", 1)).WithTarget(path)
		}
		if text, ok := v.Interface().(string); ok && kind == "flag" { // it is shown as what it means
			v.Set(reflect.ValueOf(strings.EqualFold(text, "true")))
		}
	}
	return oneOf(v, tag.Get("one"), path)
}

// oneOf holds a text to a closed list.
func oneOf(v reflect.Value, words, path string) error {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if words == "" || v.Kind() != reflect.String || v.Len() == 0 {
		return nil
	}
	for _, word := range strings.Fields(words) {
		if strings.EqualFold(word, v.String()) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "InvalidParameter", "The value '%s' of parameter '%s' is not allowed. Allowed values are '%s'.", clip(v.String()), path, strings.Join(strings.Fields(words), "', '")).WithTarget(path)
}

// isFlag reports whether a value is true or false, or the text of one.
func isFlag(v any) bool {
	text, ok := v.(string)
	return kindOf(v) == "bool" || ok && (strings.EqualFold(text, "true") || strings.EqualFold(text, "false"))
}

// kindOf is the kind of a JSON value as tags call it; "" for null.
func kindOf(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case bool:
		return "bool"
	case string:
		return "text"
	case float64:
		return "number"
	case []any:
		for _, one := range x {
			if kindOf(one) != "text" {
				return "list"
			}
		}
		return "texts"
	}
	return "object"
}
