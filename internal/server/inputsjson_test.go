package server

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// Bodies as trees, for TestInputs.

// leaves are the values of a JSON text that hold no others, by their path:
// "properties.subnets[0].name".
func leaves(path string, v any, into map[string]any) map[string]any {
	switch x := v.(type) {
	case map[string]any:
		for k, inner := range x {
			leaves(strings.TrimPrefix(path+"."+k, "."), inner, into)
		}
		if len(x) == 0 && path != "" {
			into[path] = x
		}
	case []any:
		for i, inner := range x {
			leaves(path+"["+strconv.Itoa(i)+"]", inner, into)
		}
		if len(x) == 0 {
			into[path] = x
		}
	default:
		into[path] = v
	}
	return into
}

// objects are the paths of all objects in a JSON value, "" for the whole.
func objects(path string, v any) []string {
	var out []string
	switch x := v.(type) {
	case map[string]any:
		out = append(out, path)
		for k, inner := range x {
			out = append(out, objects(strings.TrimPrefix(path+"."+k, "."), inner)...)
		}
	case []any:
		for i, inner := range x {
			out = append(out, objects(path+"["+strconv.Itoa(i)+"]", inner)...)
		}
	}
	return out
}

var step = regexp.MustCompile(`[^.\[\]]+`)

// with returns a copy of a JSON value in which a path holds another value; objects on
// the way are made.
func with(v any, path string, value any) any {
	return place(clone(v), step.FindAllString(path, -1), value)
}

func place(v any, steps []string, value any) any {
	if len(steps) == 0 {
		return value
	}
	if list, ok := v.([]any); ok {
		if i, err := strconv.Atoi(steps[0]); err == nil && i < len(list) {
			list[i] = place(list[i], steps[1:], value)
		}
		return list
	}
	if v == nil && steps[0] == "0" {
		return []any{place(nil, steps[1:], value)}
	}
	o, ok := v.(map[string]any)
	if !ok {
		o = map[string]any{}
	}
	o[steps[0]] = place(o[steps[0]], steps[1:], value)
	return o
}

// at reads a path; names match in any case.
func at(v any, path string) (any, bool) {
	for _, s := range step.FindAllString(path, -1) {
		switch x := v.(type) {
		case []any:
			i, err := strconv.Atoi(s)
			if err != nil || i >= len(x) {
				return nil, false
			}
			v = x[i]
		case map[string]any:
			found := false
			for k := range x {
				if strings.EqualFold(k, s) {
					v, found = x[k], true
					break
				}
			}
			if !found {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	return v, true
}

func clone(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return parsed(string(raw))
}

func parsed(text string) any {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(fmt.Sprintf("%v: %s", err, text))
	}
	return v
}

func written(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// another is a value of the same kind.
func another(v any) any {
	switch x := v.(type) {
	case string:
		return x + "x"
	case bool:
		return !x
	case float64:
		return x + 1
	case map[string]any:
		return map[string]any{"probe": "x"}
	case []any:
		return []any{"probe"}
	}
	return "x"
}

// foreign is a value of another kind.
func foreign(v any) any {
	if _, ok := v.(string); ok {
		return 7.0
	}
	return "text"
}

// declared lists the leaves of a Go type as JSON knows them, each with a value that
// it could hold. A list has one element.
func declared(path string, t reflect.Type, into map[string]any) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[json.RawMessage]() {
		into[path] = map[string]any{"probe": "x"}
		return into
	}
	if kept, ok := reflect.Zero(t).Interface().(interface{ Shape() any }); ok {
		return declared(path, reflect.TypeOf(kept.Shape()), into)
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			given := map[string]any{"text": "probe", "bool": true, "flag": true, "number": float64(7), "texts": []any{"probe"}}[f.Tag.Get("kind")]
			if word, _, _ := strings.Cut(f.Tag.Get("one"), " "); word != "" {
				given = word
			}
			switch {
			case given != nil:
				into[path+"."+name] = given
			case f.Anonymous && name == "":
				declared(path, f.Type, into)
			case name != "":
				declared(path+"."+name, f.Type, into)
			}
		}
	case reflect.Slice:
		declared(path+"[0]", t.Elem(), into)
	case reflect.Bool:
		into[path] = true
	case reflect.Int, reflect.Int64, reflect.Float64:
		into[path] = float64(7)
	case reflect.String:
		into[path] = "probe"
	case reflect.Map:
		into[path] = map[string]any{"probe": "x"}
	default:
		into[path] = map[string]any{"probe": "x"}
	}
	return into
}

// general is a path without the numbers of a list's elements, nor names that are
// values.
var element = regexp.MustCompile(`\[\d+\]`)

func general(path string) string {
	return element.ReplaceAllString(path, "[]")
}

// equalText compares case aside, and as Azure spells locations: without spaces.
func equalText(a, b any) bool {
	x, isText := a.(string)
	y, alsoText := b.(string)
	if isText && alsoText {
		return strings.EqualFold(x, y) || strings.EqualFold(x, strings.ReplaceAll(y, " ", "")) && !strings.Contains(x, " ")
	}
	return strings.EqualFold(written(a), written(b))
}

// holds reports whether shown has all that given has: objects may have more.
func holds(shown, given any) bool {
	for path, v := range leaves("", given, map[string]any{}) {
		is, ok := at(shown, path)
		if !ok || !equalText(is, v) {
			return false
		}
	}
	return true
}
