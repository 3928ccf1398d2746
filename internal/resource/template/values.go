package template

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

func numbers() map[string]func([]any) (any, bool) {
	calc := func(f func(x, y int64) (int64, bool)) func([]any) (any, bool) {
		return func(a []any) (any, bool) {
			if len(a) != 2 {
				return nil, false
			}
			x, ok := whole(a[0])
			y, ok2 := whole(a[1])
			if !ok || !ok2 || max(x, y, -x, -y) > math.MaxInt32 {
				return nil, false
			}
			n, ok := f(x, y)
			return number(n), ok
		}
	}
	return map[string]func([]any) (any, bool){
		"add": calc(func(x, y int64) (int64, bool) { return x + y, true }),
		"sub": calc(func(x, y int64) (int64, bool) { return x - y, true }),
		"mul": calc(func(x, y int64) (int64, bool) { return x * y, true }),
		"div": calc(func(x, y int64) (int64, bool) {
			if y == 0 {
				return 0, false
			}
			return x / y, true
		}),
		"mod": calc(func(x, y int64) (int64, bool) {
			if y == 0 {
				return 0, false
			}
			return x % y, true
		}),
		"min": calc(func(x, y int64) (int64, bool) { return min(x, y), true }),
		"max": calc(func(x, y int64) (int64, bool) { return max(x, y), true }),
		"int": func(a []any) (any, bool) {
			if len(a) != 1 {
				return nil, false
			}
			n, err := strconv.ParseInt(plain(a[0]), 10, 64)
			return number(n), err == nil
		},
	}
}

func logic() map[string]func([]any) (any, bool) {
	all := func(want bool) func([]any) (any, bool) { // and: all true; or: one true
		return func(a []any) (any, bool) {
			out := want
			for _, v := range a {
				b, ok := v.(bool)
				if !ok {
					return nil, false
				}
				if b != want {
					out = !want
				}
			}
			return out, len(a) >= 2
		}
	}
	compare := func(f func(c int) bool) func([]any) (any, bool) {
		return func(a []any) (any, bool) {
			if len(a) != 2 {
				return nil, false
			}
			x, ok := whole(a[0])
			y, ok2 := whole(a[1])
			switch {
			case ok && ok2 && x < y:
				return f(-1), true
			case ok && ok2 && x > y:
				return f(1), true
			}
			return f(0), ok && ok2
		}
	}
	return map[string]func([]any) (any, bool){
		"true":            func(a []any) (any, bool) { return true, len(a) == 0 },
		"false":           func(a []any) (any, bool) { return false, len(a) == 0 },
		"null":            func(a []any) (any, bool) { return nil, len(a) == 0 },
		"and":             all(true),
		"or":              all(false),
		"equals":          func(a []any) (any, bool) { return len(a) == 2 && same(a[0], a[1]), len(a) == 2 },
		"less":            compare(func(c int) bool { return c < 0 }),
		"lessorequals":    compare(func(c int) bool { return c <= 0 }),
		"greater":         compare(func(c int) bool { return c > 0 }),
		"greaterorequals": compare(func(c int) bool { return c >= 0 }),
		"not": func(a []any) (any, bool) {
			if len(a) != 1 {
				return nil, false
			}
			b, ok := a[0].(bool)
			return !b, ok
		},
		"bool": func(a []any) (any, bool) {
			if len(a) != 1 {
				return nil, false
			}
			b, err := strconv.ParseBool(strings.ToLower(plain(a[0])))
			return b, err == nil
		},
		"coalesce": func(a []any) (any, bool) {
			for _, v := range a {
				if v != nil {
					return v, true
				}
			}
			return nil, true
		},
	}
}

func same(x, y any) bool { return reflect.DeepEqual(x, y) }

func lists() map[string]func([]any) (any, bool) {
	return map[string]func([]any) (any, bool){
		"createarray":  func(a []any) (any, bool) { return slices.Clone(a), true },
		"createobject": createObject,
		"array": func(a []any) (any, bool) {
			if len(a) == 1 {
				if l, ok := a[0].([]any); ok {
					return l, true
				}
			}
			return a, len(a) == 1
		},
		"length": length,
		"empty": func(a []any) (any, bool) {
			n, ok := length(a)
			return n == number(0) || len(a) == 1 && a[0] == nil, ok || len(a) == 1 && a[0] == nil
		},
		"first":    func(a []any) (any, bool) { return edge(a, false) },
		"last":     func(a []any) (any, bool) { return edge(a, true) },
		"contains": contains,
		"union":    union,
		"range": func(a []any) (any, bool) {
			if len(a) != 2 {
				return nil, false
			}
			from, ok := whole(a[0])
			n, ok2 := whole(a[1])
			if !ok || !ok2 || n < 0 || n > maxItems {
				return nil, false
			}
			out := []any{}
			for i := range n {
				out = append(out, number(from+i))
			}
			return out, true
		},
	}
}

func createObject(a []any) (any, bool) {
	out := map[string]any{}
	for i := 0; i+1 < len(a); i += 2 {
		name, ok := a[i].(string)
		if !ok {
			return nil, false
		}
		out[name] = a[i+1]
	}
	return out, len(a)%2 == 0
}

func length(a []any) (any, bool) {
	if len(a) != 1 {
		return nil, false
	}
	switch v := a[0].(type) {
	case string:
		return number(int64(len(v))), true
	case []any:
		return number(int64(len(v))), true
	case map[string]any:
		return number(int64(len(v))), true
	}
	return nil, false
}

func edge(a []any, last bool) (any, bool) {
	if len(a) != 1 {
		return nil, false
	}
	switch v := a[0].(type) {
	case string:
		if v == "" {
			return "", true
		}
		if last {
			return v[len(v)-1:], true
		}
		return v[:1], true
	case []any:
		if len(v) == 0 {
			return nil, true
		}
		if last {
			return v[len(v)-1], true
		}
		return v[0], true
	}
	return nil, false
}

func contains(a []any) (any, bool) {
	if len(a) != 2 {
		return nil, false
	}
	switch v := a[0].(type) {
	case string:
		return strings.Contains(v, plain(a[1])), true
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return same(x, a[1]) }), true
	case map[string]any:
		_, ok := fold(v, plain(a[1]))
		return ok, true
	}
	return nil, false
}

func union(a []any) (any, bool) {
	if len(a) == 0 {
		return nil, false
	}
	if _, ok := a[0].(map[string]any); ok {
		out := map[string]any{}
		for _, v := range a {
			m, ok := v.(map[string]any)
			if !ok {
				return nil, false
			}
			for k, x := range m {
				out[k] = x
			}
		}
		return out, true
	}
	var out []any
	seen := map[string]bool{}
	for _, v := range a {
		l, ok := v.([]any)
		if !ok {
			return nil, false
		}
		for _, x := range l {
			text, err := json.Marshal(x)
			if err != nil {
				return nil, false
			}
			if !seen[string(text)] {
				seen[string(text)] = true
				out = append(out, x)
			}
		}
	}
	return out, true
}
