package jmespath

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// lookup returns a built-in function of the JMESPath specification.
func lookup(name string) (function, bool) {
	f := function{name: name}
	if f.params, f.variadic = signature(name); f.params == nil {
		return f, false
	}
	f.call = implementation(name)
	return f, f.call != nil
}

// signature returns what a function takes; nil for an unknown one.
func signature(name string) (params []types, variadic bool) {
	switch name {
	case "abs", "ceil", "floor":
		return []types{typeNumber}, false
	case "avg", "sum":
		return []types{typeNumbers}, false
	case "contains":
		return []types{typeArray | typeString, typeAny}, false
	case "starts_with", "ends_with":
		return []types{typeString, typeString}, false
	case "join":
		return []types{typeString, typeStrings}, false
	case "keys", "values":
		return []types{typeObject}, false
	case "length":
		return []types{typeString | typeArray | typeObject}, false
	case "map":
		return []types{typeExpression, typeArray}, false
	case "max", "min", "sort":
		return []types{typeNumbers | typeStrings}, false
	case "max_by", "min_by", "sort_by":
		return []types{typeArray, typeExpression}, false
	case "merge":
		return []types{typeObject}, true
	case "not_null":
		return []types{typeAny}, true
	case "reverse":
		return []types{typeArray | typeString}, false
	case "to_array", "to_number", "to_string", "type":
		return []types{typeAny}, false
	default:
		return nil, false
	}
}

func implementation(name string) func(call) (Value, error) {
	switch name {
	case "abs", "ceil", "floor", "avg", "sum", "to_number":
		return arithmetic(name)
	case "max":
		return func(c call) (Value, error) { return extreme(c.args[0].items, c.args[0].items, 1), nil }
	case "min":
		return func(c call) (Value, error) { return extreme(c.args[0].items, c.args[0].items, -1), nil }
	case "max_by":
		return func(c call) (Value, error) { return extremeBy(c, 1) }
	case "min_by":
		return func(c call) (Value, error) { return extremeBy(c, -1) }
	case "sort":
		return func(c call) (Value, error) { return sorted(c.args[0].items, c.args[0].items), nil }
	case "sort_by":
		return sortBy
	case "contains":
		return contains
	case "starts_with":
		return func(c call) (Value, error) { return boolean(strings.HasPrefix(c.args[0].text, c.args[1].text)), nil }
	case "ends_with":
		return func(c call) (Value, error) { return boolean(strings.HasSuffix(c.args[0].text, c.args[1].text)), nil }
	case "join":
		return join
	case "keys":
		return keys
	case "values":
		return func(c call) (Value, error) { return List(c.args[0].fields.values), nil }
	case "length":
		return length
	case "map":
		return mapEach
	case "merge":
		return merge
	case "not_null":
		return notNull
	case "reverse":
		return reverse
	case "to_array":
		return toArray
	case "to_string":
		return toString
	case "type":
		return func(c call) (Value, error) { return Text(c.args[0].kind.String()), nil }
	default:
		return nil
	}
}

func arithmetic(name string) func(call) (Value, error) {
	return func(c call) (Value, error) {
		v, finite := compute(name, c.args[0])
		if !finite {
			return Value{}, c.fault(CodeValue, "the result of %s() is beyond the range of numbers", name)
		}
		return v, nil
	}
}

// compute reports false for a result that JSON cannot hold.
func compute(name string, v Value) (Value, bool) {
	switch name {
	case "abs":
		return number(strings.TrimPrefix(v.text, "-")), true
	case "ceil":
		return whole(v.text, math.Ceil)
	case "floor":
		return whole(v.text, math.Floor)
	case "sum":
		return sum(v.items)
	case "avg":
		if len(v.items) == 0 {
			return Value{}, true
		}
		total, finite := sum(v.items)
		if !finite {
			return Value{}, false
		}
		return fromFloat(float(total.text) / float64(len(v.items)))
	default:
		return toNumber(v), true
	}
}

// toNumber accepts what the specification does: a number, or a string that is a
// JSON number. Everything else gives null.
func toNumber(v Value) Value {
	if v.kind == Number {
		return v
	}
	if v.kind != String || strings.TrimSpace(v.text) != v.text {
		return Value{}
	}
	if parsed, err := Decode([]byte(v.text)); err == nil && parsed.kind == Number {
		return parsed
	}
	return Value{}
}

// extreme returns the first item whose key is the largest (sign 1) or smallest
// (sign -1), and null for none.
func extreme(items, by []Value, sign int) Value {
	if len(items) == 0 {
		return Value{}
	}
	best := 0
	for i := range items {
		if compare(by[i], by[best])*sign > 0 {
			best = i
		}
	}
	return items[best]
}

func extremeBy(c call, sign int) (Value, error) {
	by, err := c.sortKeys()
	if err != nil {
		return Value{}, err
	}
	return extreme(c.args[0].items, by, sign), nil
}

// sorted returns items in the order of their keys; equal ones keep theirs.
func sorted(items, by []Value) Value {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(by[a], by[b]) })
	out := make([]Value, len(items))
	for i, from := range order {
		out[i] = items[from]
	}
	return List(out)
}

func sortBy(c call) (Value, error) {
	by, err := c.sortKeys()
	if err != nil {
		return Value{}, err
	}
	return sorted(c.args[0].items, by), nil
}

func contains(c call) (Value, error) {
	subject, search := c.args[0], c.args[1]
	if subject.kind == String {
		return boolean(search.kind == String && strings.Contains(subject.text, search.text)), nil
	}
	for _, item := range subject.items {
		if same, err := c.run.equal(item, search); same || err != nil {
			return boolean(same), err
		}
	}
	return boolean(false), nil
}

func join(c call) (Value, error) {
	parts, size := make([]string, len(c.args[1].items)), 0
	for i, item := range c.args[1].items {
		parts[i] = item.text
		size += len(item.text) + len(c.args[0].text)
	}
	if err := c.run.spend(size); err != nil {
		return Value{}, err
	}
	return Text(strings.Join(parts, c.args[0].text)), nil
}

func keys(c call) (Value, error) {
	names := c.args[0].fields.keys
	out := make([]Value, len(names))
	for i, name := range names {
		out[i] = Text(name)
	}
	return List(out), c.run.spend(len(out))
}

func length(c call) (Value, error) {
	v := c.args[0]
	switch v.kind {
	case String:
		return integer(utf8.RuneCountInString(v.text)), nil
	case Array:
		return integer(len(v.items)), nil
	default:
		return integer(len(v.fields.keys)), nil
	}
}

func mapEach(c call) (Value, error) {
	out := make([]Value, len(c.args[1].items))
	for i, item := range c.args[1].items {
		var err error
		if out[i], err = c.node.args[0].node.eval(c.run, item); err != nil {
			return Value{}, err
		}
	}
	return List(out), nil
}

func merge(c call) (Value, error) {
	f := &fields{}
	for _, v := range c.args {
		if err := c.run.spend(len(v.fields.keys)); err != nil {
			return Value{}, err
		}
		for i, key := range v.fields.keys {
			f.set(key, v.fields.values[i])
		}
	}
	return Value{kind: Object, fields: f}, nil
}

func notNull(c call) (Value, error) {
	for _, v := range c.args {
		if !v.IsNull() {
			return v, nil
		}
	}
	return Value{}, nil
}

func reverse(c call) (Value, error) {
	if c.args[0].kind == String {
		runes := []rune(c.args[0].text)
		slices.Reverse(runes)
		return Text(string(runes)), c.run.spend(len(runes))
	}
	out := slices.Clone(c.args[0].items)
	slices.Reverse(out)
	return List(out), nil
}

func toArray(c call) (Value, error) {
	if c.args[0].kind == Array {
		return c.args[0], nil
	}
	return List([]Value{c.args[0]}), nil
}

func toString(c call) (Value, error) {
	if c.args[0].kind == String {
		return c.args[0], nil
	}
	text, err := Encode(c.args[0])
	if err != nil {
		return Value{}, err
	}
	return Text(string(text)), c.run.spend(len(text))
}
