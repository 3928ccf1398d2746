package template

import (
	"crypto/sha1" //nolint:gosec // RFC 4122 says so for names; nothing rests on it
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sallyport/internal/scope"
)

// call does a function whose arguments are known. Names are Azure's.
func (s scopeOf) call(n node, args []any) (any, error) {
	if v, ok, err := s.place(n, args); ok {
		return v, err
	}
	if f, ok := pure(n.name); ok {
		v, ok := f(args)
		if !ok {
			return nil, invalid("The template function '%s' was called with arguments that it does not take.", clip(n.shown))
		}
		return v, s.made(v)
	}
	return nil, invalid("The template function '%s' is not valid here.", clip(n.shown)).
		WithRemedy("Known are those of the Azure Resource Manager reference that need no other service: parameters, variables, concat, resourceId, reference, format and the like.")
}

// place does the functions that depend on the template and on where it runs.
func (s scopeOf) place(n node, args []any) (v any, ok bool, err error) {
	first := ""
	if len(args) > 0 {
		first, _ = args[0].(string)
	}
	switch n.name {
	case "parameters":
		v, found := fold(s.parameters, first)
		if !found {
			return nil, true, invalid("The template parameter '%s' is not found.", clip(first))
		}
		return v, true, nil
	case "variables":
		raw, found := fold(s.variables, first)
		if !found {
			return nil, true, invalid("The template variable '%s' is not found.", clip(first))
		}
		v, err := s.value(raw)
		return v, true, err
	case "copyindex":
		v, err := s.copyIndex(args)
		return v, true, err
	case "resourceid":
		v, err := s.env.resourceID(args)
		return v, true, err
	case "reference":
		v, err := s.refer(args)
		return v, true, err
	case "resourcegroup":
		return map[string]any{"id": s.env.Group.String(), "name": s.env.Group.Name(), "location": s.env.Location, "type": "Microsoft.Resources/resourceGroups", "tags": map[string]any{}, "properties": map[string]any{"provisioningState": "Succeeded"}}, true, nil
	case "subscription":
		id := s.env.Group.SubscriptionID()
		return map[string]any{"id": "/subscriptions/" + id, "subscriptionId": id, "tenantId": s.env.Tenant}, true, nil
	case "tenant":
		return map[string]any{"tenantId": s.env.Tenant}, true, nil
	case "providers":
		v, err := s.env.provider(args)
		return v, true, err
	case "deployment":
		return map[string]any{"name": s.env.Name}, true, nil
	}
	return nil, false, nil
}

// fold finds a name in any case.
func fold[T any](m map[string]T, name string) (v T, ok bool) {
	if v, ok = m[name]; ok {
		return v, true
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return v, false
}

// provider is providers(namespace, type): what az names versions by.
func (e *Env) provider(args []any) (any, error) {
	texts, ok := allTexts(args)
	if !ok || len(texts) != 2 {
		return nil, invalid("The template function 'providers' takes a namespace and a resource type.")
	}
	kind := texts[0] + "/" + texts[1]
	var versions []string
	if e.Versions != nil {
		versions = e.Versions(kind)
	}
	if versions == nil {
		return nil, invalid("The template function 'providers' was asked for the resource type '%s', which does not exist here.", clip(kind))
	}
	return map[string]any{"resourceType": texts[1], "locations": []any{}, "apiVersions": anys(versions)}, nil
}

// copyIndex takes a loop's name, an offset, or both.
func (s scopeOf) copyIndex(args []any) (any, error) {
	loop, offset := s.loop, int64(0)
	for _, a := range args {
		if name, ok := a.(string); ok {
			loop = strings.ToLower(name)
		} else if n, ok := whole(a); ok {
			offset = n
		}
	}
	i, ok := s.loops[loop]
	if !ok {
		return nil, invalid("The template function 'copyIndex' is not expected at this location: no loop runs.")
	}
	return number(int64(i) + offset), nil
}

// refer is reference(): properties, or with 'Full' everything.
func (s scopeOf) refer(args []any) (any, error) {
	texts, ok := allTexts(args)
	if !ok || len(texts) == 0 || len(texts) > 3 {
		return nil, invalid("The template function 'reference' takes a resource, an api version and 'Full'.")
	}
	if err := s.work(referenceSteps); err != nil {
		return nil, err
	}
	if s.reference == nil {
		if s.seen != nil {
			*s.seen = append(*s.seen, texts[0])
		}
		return unknown{}, nil
	}
	v, err := s.reference(texts[0], len(texts) == 3 && strings.EqualFold(texts[2], "Full"))
	if err != nil {
		return nil, err
	}
	return v, s.made(v)
}

// referenceSteps is what a look into the store counts.
const referenceSteps = 50

// resourceID is resourceId([subscription,] [group,] type, name...).
func (e *Env) resourceID(args []any) (any, error) {
	texts, ok := allTexts(args)
	at := slices.IndexFunc(texts, func(t string) bool { return strings.Contains(t, "/") })
	if !ok || at < 0 || at > 2 {
		return nil, invalid("The template function 'resourceId' takes a resource type and its names.")
	}
	sub, group := e.Group.SubscriptionID(), e.Group.ResourceGroupName()
	switch at {
	case 1:
		group = texts[0]
	case 2:
		sub, group = texts[0], texts[1]
	}
	id, err := below(scope.ResourceGroup(sub, group).String(), texts[at], texts[at+1:])
	return id, err
}

// below is the id of a type with its names, below a scope.
func below(at, kind string, names []string) (string, error) {
	words := strings.Split(kind, "/")
	if len(words) != len(names)+1 {
		return "", invalid("The resource type '%s' does not have %d names.", clip(kind), len(names))
	}
	at += "/providers/" + words[0]
	for i, name := range names {
		at += "/" + words[i+1] + "/" + name
	}
	return at, nil
}

func allTexts(args []any) ([]string, bool) {
	out := make([]string, 0, len(args))
	for _, a := range args {
		t, ok := a.(string)
		if !ok {
			return nil, false
		}
		out = append(out, t)
	}
	return out, true
}

func number(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

func whole(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return i, err == nil
}

// plain is a value as text, as string() and concat() show it.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		if v {
			return "True"
		}
		return "False"
	case nil:
		return ""
	case json.Number:
		return v.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// pure returns a function of its arguments alone; ok is false for arguments that
// it does not take.
func pure(name string) (func(a []any) (v any, ok bool), bool) {
	for _, set := range []func() map[string]func([]any) (any, bool){texts, lists, logic, numbers} {
		if f, ok := set()[name]; ok {
			return f, true
		}
	}
	return nil, false
}

func joined(a []any) string {
	var b strings.Builder
	for _, v := range a {
		b.WriteString(plain(v))
	}
	return b.String()
}

// one wraps a function of one text.
func one(f func(string) any) func([]any) (any, bool) {
	return func(a []any) (any, bool) {
		t, ok := allTexts(a)
		if !ok || len(t) != 1 {
			return nil, false
		}
		return f(t[0]), true
	}
}

// two wraps a function of two texts.
func two(f func(x, y string) any) func([]any) (any, bool) {
	return func(a []any) (any, bool) {
		t, ok := allTexts(a)
		if !ok || len(t) != 2 {
			return nil, false
		}
		return f(t[0], t[1]), true
	}
}

func texts() map[string]func([]any) (any, bool) {
	return map[string]func([]any) (any, bool){
		"tolower":        one(func(s string) any { return strings.ToLower(s) }),
		"toupper":        one(func(s string) any { return strings.ToUpper(s) }),
		"trim":           one(func(s string) any { return strings.TrimSpace(s) }),
		"base64":         one(func(s string) any { return base64.StdEncoding.EncodeToString([]byte(s)) }),
		"startswith":     two(func(s, p string) any { return strings.HasPrefix(strings.ToLower(s), strings.ToLower(p)) }),
		"endswith":       two(func(s, p string) any { return strings.HasSuffix(strings.ToLower(s), strings.ToLower(p)) }),
		"indexof":        two(func(s, p string) any { return number(int64(strings.Index(strings.ToLower(s), strings.ToLower(p)))) }),
		"string":         func(a []any) (any, bool) { return joined(a), len(a) == 1 },
		"guid":           func(a []any) (any, bool) { t, ok := allTexts(a); return named(t), ok && len(t) > 0 },
		"uniquestring":   func(a []any) (any, bool) { t, ok := allTexts(a); return unique(t), ok && len(t) > 0 },
		"concat":         concat,
		"replace":        func(a []any) (any, bool) { return threeTexts(a, strings.ReplaceAll) },
		"format":         format,
		"substring":      substring,
		"split":          split,
		"join":           join,
		"json":           fromJSON,
		"base64tostring": unbase64,
		"subscriptionresourceid": func(a []any) (any, bool) {
			t, ok := allTexts(a)
			if !ok || len(t) < 3 || strings.Contains(t[0], "/") {
				return nil, false
			}
			id, err := below("/subscriptions/"+t[0], t[1], t[2:])
			return id, err == nil
		},
		"extensionresourceid": func(a []any) (any, bool) {
			t, ok := allTexts(a)
			if !ok || len(t) < 3 {
				return nil, false
			}
			id, err := below(t[0], t[1], t[2:])
			return id, err == nil
		},
		"tenantresourceid": func(a []any) (any, bool) {
			t, ok := allTexts(a)
			if !ok || len(t) < 2 {
				return nil, false
			}
			id, err := below("", t[0], t[1:])
			return id, err == nil
		},
	}
}

func anys(list []string) []any {
	out := make([]any, 0, len(list))
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func threeTexts(a []any, f func(x, y, z string) string) (any, bool) {
	t, ok := allTexts(a)
	if !ok || len(t) != 3 || t[1] == "" || len(t[0])*(len(t[2])+1) > maxText {
		return nil, false
	}
	return f(t[0], t[1], t[2]), true
}

// maxText bounds what a function makes: a template is no way to fill memory.
const maxText = 1 << 20

func concat(a []any) (any, bool) {
	if len(a) > 0 {
		if _, ok := a[0].([]any); ok {
			var out []any
			for _, v := range a {
				l, ok := v.([]any)
				if !ok || len(out)+len(l) > maxItems {
					return nil, false
				}
				out = append(out, l...)
			}
			return out, true
		}
	}
	s := joined(a)
	return s, len(s) <= maxText
}

const maxItems = 1000

// format is .NET's composite format, as far as {0} goes.
func format(a []any) (any, bool) {
	if len(a) == 0 || len(a) > maxFormat {
		return nil, false
	}
	text, ok := a[0].(string)
	if !ok {
		return nil, false
	}
	pairs := []string{"{{", "{", "}}", "}"}
	long := len(text)
	for i, v := range a[1:] {
		place, value := "{"+strconv.Itoa(i)+"}", plain(v)
		pairs = append(pairs, place, value)
		long += strings.Count(text, place) * len(value)
	}
	if long > maxText {
		return nil, false
	}
	return strings.NewReplacer(pairs...).Replace(text), true
}

// maxFormat is how many values format() takes: it looks for each in the whole text.
const maxFormat = 100

func split(a []any) (any, bool) {
	t, ok := allTexts(a)
	if !ok || len(t) != 2 || strings.Count(t[0], t[1]) >= maxItems {
		return nil, false
	}
	return anys(strings.Split(t[0], t[1])), true
}

func substring(a []any) (any, bool) {
	if len(a) < 2 || len(a) > 3 {
		return nil, false
	}
	s, ok := a[0].(string)
	from, ok2 := whole(a[1])
	n := int64(len(s)) - from
	if len(a) == 3 {
		var ok3 bool
		if n, ok3 = whole(a[2]); !ok3 {
			return nil, false
		}
	}
	if !ok || !ok2 || from < 0 || n < 0 || from > int64(len(s)) || n > int64(len(s))-from {
		return nil, false
	}
	return s[from : from+n], true
}

func join(a []any) (any, bool) {
	if len(a) != 2 {
		return nil, false
	}
	list, ok := a[0].([]any)
	sep, ok2 := a[1].(string)
	if !ok || !ok2 {
		return nil, false
	}
	var t []string
	long := 0
	for _, v := range list {
		t = append(t, plain(v))
		if long += len(t[len(t)-1]) + len(sep); long > maxText {
			return nil, false
		}
	}
	return strings.Join(t, sep), true
}

func fromJSON(a []any) (any, bool) {
	if len(a) != 1 {
		return nil, false
	}
	s, ok := a[0].(string)
	var v any
	return v, ok && Read([]byte(s), &v) == nil
}

func unbase64(a []any) (any, bool) {
	if len(a) != 1 {
		return nil, false
	}
	s, _ := a[0].(string)
	b, err := base64.StdEncoding.DecodeString(s)
	return string(b), err == nil
}

// named is guid(): a name-based UUID (RFC 4122 section 4.3) of the texts. Azure
// does not say what its own is made of; it is the same for the same texts.
func named(t []string) string {
	h := sha1.New() //nolint:gosec // as above
	h.Write([]byte("\x11\xfb\x06\xfb\x71\x2d\x4d\xdd\x98\xc7\xe7\x1b\xbd\x58\x88\x30"))
	h.Write([]byte(strings.Join(t, "-")))
	b := h.Sum(nil)[:16]
	b[6], b[8] = b[6]&0x0f|0x50, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// unique is uniqueString(): 13 letters and digits.
func unique(t []string) string {
	h := sha256.Sum256([]byte(strings.Join(t, "-")))
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	out := make([]byte, 13)
	for i := range out {
		out[i] = digits[h[i]&31]
	}
	return string(out)
}
