package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sallyport/internal/scope"
)

// renames are new ids by the keys of the old ones.
type renames map[string]scope.ID

// resource changes the ids in what is stored with a resource.
func (n renames) resource(r *Resource) (changed bool, err error) {
	for _, part := range []*json.RawMessage{&r.Properties, &r.Private} {
		next, did, err := n.document(*part)
		if err != nil {
			return false, fmt.Errorf("references of %s: %w", r.ID, err)
		}
		if did {
			*part, changed = next, true
		}
	}
	if r.Identity == nil || len(r.Identity.Assigned) == 0 {
		return changed, nil
	}
	next := *r.Identity
	next.Assigned = slices.Clone(next.Assigned)
	for i := range next.Assigned {
		text, did := n.text(next.Assigned[i].ID)
		next.Assigned[i].ID = text
		changed = changed || did
	}
	r.Identity = &next
	return changed, nil
}

// document changes the ids in a JSON document: every text that is one of the old
// ids, or lies inside one.
func (n renames) document(raw json.RawMessage) (json.RawMessage, bool, error) {
	if len(raw) == 0 || !bytes.Contains(bytes.ToLower(raw), []byte("/resourcegroups/")) {
		return raw, false, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // numbers stay as they are written
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, false, err
	}
	v, changed := n.value(v)
	if !changed {
		return raw, false, nil
	}
	out, err := json.Marshal(v)
	return out, true, err
}

func (n renames) value(v any) (any, bool) {
	changed := false
	switch x := v.(type) {
	case string:
		return n.text(x)
	case []any:
		for i := range x {
			next, did := n.value(x[i])
			x[i], changed = next, changed || did
		}
	case map[string]any:
		for k := range x {
			next, did := n.value(x[k])
			x[k], changed = next, changed || did
		}
	}
	return v, changed
}

func (n renames) text(s string) (string, bool) {
	key := strings.ToLower(s)
	if len(key) != len(s) {
		return s, false // no id: those are ASCII
	}
	for end := len(key); end > 0; end = strings.LastIndexByte(key[:end], '/') {
		if to, ok := n[key[:end]]; ok {
			return to.String() + s[end:], true
		}
	}
	return s, false
}
