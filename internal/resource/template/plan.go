package template

import (
	"encoding/json"
	"regexp"
	"slices"
	"sort"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// Env is where a template runs.
type Env struct {
	Group    scope.ID // the resource group
	Location string   // of the group
	Tenant   string
	Name     string // of the deployment
	// Versions lists the API versions of a resource type, nil for one that does not
	// exist.
	Versions func(kind string) []string
}

// Template is a template's own text.
type Template struct {
	Schema         string               `json:"$schema"`
	ContentVersion string               `json:"contentVersion"`
	Parameters     map[string]parameter `json:"parameters"`
	Variables      map[string]any       `json:"variables"`
	Resources      []map[string]any     `json:"resources"`
	Outputs        map[string]output    `json:"outputs"`
	Functions      []any                `json:"functions"`

	// For people and tools; they change nothing.
	Metadata   any `json:"metadata"`
	APIProfile any `json:"apiProfile"` // every resource has an apiVersion
}

type parameter struct {
	Type      string `json:"type"`
	Default   any    `json:"defaultValue"`
	Allowed   []any  `json:"allowedValues"`
	MinLength *int64 `json:"minLength"`
	MaxLength *int64 `json:"maxLength"`
	MinValue  *int64 `json:"minValue"`
	MaxValue  *int64 `json:"maxValue"`
	Metadata  any    `json:"metadata"`
}

func (p parameter) secure() bool { return strings.HasPrefix(strings.ToLower(p.Type), "secure") }

type output struct {
	Type      string `json:"type"`
	Value     any    `json:"value"`
	Condition any    `json:"condition"`
	Metadata  any    `json:"metadata"`
}

// Plan is what a template says in its place.
type Plan struct {
	// Resources are in the order in which they are to be written.
	Resources []Resource
	// Parameters are the values that the template runs with, with their types;
	// those that are secret have no value.
	Parameters map[string]any

	outputs map[string]output
	scope   scopeOf
	secrets []string // the texts in secret parameters
}

// Resource is one resource of a plan.
type Resource struct {
	ID scope.ID

	raw   map[string]any
	scope scopeOf
	after []string // what dependsOn says, evaluated
	copy  string   // the loop that it is of, lower-cased
	kind  string   // lower-cased
	names string   // behind the type, "vm/extension", lower-cased
}

// limits of a template, which are Azure's.
const (
	maxResources  = 800
	maxParameters = 256
)

// New works a template out. Nothing is read: what the bodies take from resources
// is asked when they are made. With a refusal comes what there is until then.
func New(t Template, given map[string]json.RawMessage, env Env) (Plan, error) {
	if len(t.Functions) > 0 {
		return Plan{}, invalid("Functions of one's own are not known here; nothing was changed.").WithRemedy("Write them out.").WithTarget("functions")
	}
	if len(t.Resources) > maxResources || len(t.Parameters) > maxParameters || len(t.Variables) > maxParameters || len(t.Outputs) > maxParameters {
		return Plan{}, invalid("A template has at most %d resources, and %d parameters, variables or outputs.", maxResources, maxParameters)
	}
	steps := 0
	s := scopeOf{variables: t.Variables, env: &env, steps: &steps, loops: map[string]int{}}
	p := Plan{outputs: t.Outputs, scope: s}
	if err := p.parameters(t.Parameters, given); err != nil {
		return Plan{}, err
	}
	if err := p.resources(t.Resources, "", ""); err != nil {
		return p, err
	}
	return p, p.order()
}

// resources adds a list, which may be that of a parent: its type and names.
func (p *Plan) resources(list []map[string]any, kind, name string) error {
	for _, raw := range list {
		scopes, loop, err := p.scope.loopOf(raw)
		if err != nil {
			return err
		}
		for _, s := range scopes {
			if err := p.resource(s, raw, kind, name, loop); err != nil {
				return err
			}
		}
		if len(p.Resources) > maxResources {
			return invalid("A template has at most %d resources.", maxResources)
		}
	}
	return nil
}

// loopOf is the scopes that a resource is evaluated in: one, or one for each turn.
func (s scopeOf) loopOf(raw map[string]any) (all []scopeOf, loop string, err error) {
	c, ok := raw["copy"]
	if !ok {
		return []scopeOf{s}, "", nil
	}
	m, _ := c.(map[string]any)
	name, _ := m["name"].(string)
	count, err := s.value(m["count"])
	if err != nil {
		return nil, "", err
	}
	n, ok := whole(count)
	if !ok || name == "" || n < 0 || n > maxResources {
		return nil, "", invalid("The copy loop '%s' needs a name and a count from 0 to %d.", clip(name), maxResources)
	}
	loop = strings.ToLower(name)
	for i := range n {
		turn := s
		turn.loop, turn.loops = loop, map[string]int{loop: int(i)}
		all = append(all, turn)
	}
	return all, loop, nil
}

// element reports whether a resource of a template has a member beside its body.
func element(name string) bool {
	switch strings.ToLower(name) {
	case "type", "name", "apiversion", "dependson", "condition", "copy", "comments", "metadata", "resources", "scope", "resourcegroup", "subscriptionid":
		return true
	}
	return false
}

func (p *Plan) resource(s scopeOf, raw map[string]any, parentKind, parentName, loop string) error {
	if err := s.work(len(raw)); err != nil {
		return err
	}
	if c, ok := fold(raw, "condition"); ok {
		v, err := s.value(c)
		if err != nil {
			return err
		}
		switch on, ok := v.(bool); {
		case !ok:
			return invalid("The condition of a resource must be true or false before anything is deployed.")
		case !on:
			return nil
		}
	}
	kind, err := s.named(raw, "type")
	if err != nil {
		return err
	}
	name, err := s.named(raw, "name")
	if err != nil {
		return err
	}
	if parentKind != "" {
		kind, name = parentKind+"/"+kind, parentName+"/"+name
	}
	id, err := s.identify(raw, kind, name)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(p.Resources, func(r Resource) bool { return r.ID.Key() == id.Key() }) {
		return invalid("The resource '%s' is defined multiple times in a template.", id)
	}
	if err := s.version(raw); err != nil {
		return err
	}
	after, err := s.dependsOn(raw)
	if err != nil {
		return err
	}
	if parentKind != "" {
		up, _ := id.Parent()
		after = append(after, up.String())
	}
	p.Resources = append(p.Resources, Resource{ID: id, raw: raw, scope: s, after: after, copy: loop, kind: strings.ToLower(id.Type()), names: tail(id)})
	children, ok := fold(raw, "resources")
	if !ok {
		return nil
	}
	list, err := objects(children)
	if err != nil {
		return err
	}
	outer := p.scope
	p.scope = s
	defer func() { p.scope = outer }()
	return p.resources(list, kind, name)
}

// objects are the resources inside of another one.
func objects(v any) (list []map[string]any, err error) {
	items, ok := v.([]any)
	for _, c := range items {
		m, isObject := c.(map[string]any)
		list, ok = append(list, m), ok && isObject
	}
	if !ok {
		return nil, invalid("'resources' of a resource is a list of resources.")
	}
	return list, nil
}

// version holds the apiVersion of a resource, where it has one, to the shape of one:
// what answers is the same in each.
func (s scopeOf) version(raw map[string]any) error {
	v, ok := fold(raw, "apiVersion")
	if !ok {
		return nil
	}
	v, err := s.value(v)
	if err != nil {
		return err
	}
	if text, _ := v.(string); !versionShape.MatchString(text) {
		return invalid("The 'apiVersion' of a resource of the template is a date, such as 2022-09-01.").WithTarget("apiVersion")
	}
	return nil
}

var versionShape = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(-[a-zA-Z]{1,20})?$`)

// named is a text of a resource that must be there.
func (s scopeOf) named(raw map[string]any, field string) (string, error) {
	v, _ := fold(raw, field)
	v, err := s.value(v)
	if err != nil {
		return "", err
	}
	text, ok := v.(string)
	if !ok || text == "" {
		return "", invalid("A resource of the template has no '%s' that is known before anything is deployed.", field)
	}
	return text, nil
}

// identify is a resource's id: in the group, below what "scope" names, or, in the
// older form TYPE/providers/CHILD, below another resource.
func (s scopeOf) identify(raw map[string]any, kind, name string) (scope.ID, error) {
	for _, field := range []string{"resourceGroup", "subscriptionId"} {
		if _, ok := fold(raw, field); ok {
			return scope.ID{}, invalid("'%s' of a resource is not known here: a template deploys into one resource group.", field)
		}
	}
	at := s.env.Group.String()
	names := strings.Split(name, "/")
	if _, ok := fold(raw, "scope"); ok {
		text, err := s.named(raw, "scope")
		if err != nil {
			return scope.ID{}, err
		}
		if at = text; !strings.HasPrefix(text, "/") {
			return scope.ID{}, invalid("The scope '%s' of a resource must be a full resource id.", clip(text))
		}
	} else if above, child, ok := strings.Cut(kind, "/providers/"); ok {
		n := strings.Count(above, "/")
		if len(names) < n+2 {
			return scope.ID{}, invalid("The name '%s' has not as many parts as the type '%s'.", clip(name), clip(kind))
		}
		up, err := below(at, above, names[:n])
		if err != nil {
			return scope.ID{}, err
		}
		at, kind, names = up, names[n]+"/"+child, names[n+1:]
	}
	text, err := below(at, kind, names)
	if err != nil {
		return scope.ID{}, err
	}
	id, err := scope.Parse(text)
	if err != nil {
		return scope.ID{}, fault.New(fault.Invalid, InvalidName, "'%s' cannot be the id of a resource.", clip(text)).WithRemedy("A name has letters, digits and - _ . ( ).").WithTarget("name")
	}
	return id, nil
}

func (s scopeOf) dependsOn(raw map[string]any) ([]string, error) {
	v, ok := fold(raw, "dependsOn")
	if !ok {
		return nil, nil
	}
	v, err := s.value(v)
	if err != nil {
		return nil, err
	}
	if list, isList := v.([]any); isList {
		if texts, ok := allTexts(list); ok {
			return texts, nil
		}
	}
	return nil, invalid("'dependsOn' is a list of names.")
}

// order sorts the resources: each behind what it depends on, otherwise as they
// stand.
func (p *Plan) order() error {
	need := make([][]int, len(p.Resources))
	for i, r := range p.Resources {
		var seen []string
		r.scope.seen = &seen
		if _, err := r.scope.value(r.body()); err != nil {
			return err
		}
		if err := p.scope.work((len(r.after) + len(seen)) * (1 + len(p.Resources)/64)); err != nil {
			return err
		}
		for _, text := range r.after {
			found := p.find(text)
			if len(found) == 0 {
				return invalid("The resource '%s' is not defined in the template: '%s' depends on it.", clip(text), r.ID.Name())
			}
			need[i] = append(need[i], found...)
		}
		for _, text := range seen {
			need[i] = append(need[i], p.find(text)...)
		}
		slices.Sort(need[i])
		need[i] = slices.Compact(need[i])
	}
	done := make([]bool, len(p.Resources))
	var sorted []Resource
	for len(sorted) < len(p.Resources) {
		before := len(sorted)
		for i, r := range p.Resources {
			if !done[i] && !slices.ContainsFunc(need[i], func(n int) bool { return !done[n] }) {
				done[i] = true
				sorted = append(sorted, r)
			}
		}
		if len(sorted) == before {
			i := slices.Index(done, false)
			return invalid("Circular dependency detected on resource: '%s'.", p.Resources[i].ID)
		}
	}
	p.Resources = sorted
	return nil
}

// find returns the resources that a text names: by id, type and name, name, or
// loop.
func (p *Plan) find(text string) []int {
	text = strings.ToLower(strings.TrimSuffix(text, "/"))
	var out []int
	inGroup := p.inGroup(text)
	for i := range p.Resources {
		r := &p.Resources[i]
		if r.ID.Key() == text || r.names == text || r.ID.Key() == inGroup || (r.copy != "" && r.copy == text) || text == r.kind+"/"+r.names {
			out = append(out, i)
		}
	}
	return out
}

// inGroup reads TYPE/NAME/CHILDTYPE/NAME as an id in the group.
func (p *Plan) inGroup(text string) string {
	return p.scope.env.Group.Key() + "/providers/" + text
}

// tail is a resource's names behind its type, "vm/extension", lower-cased.
func tail(id scope.ID) string {
	words := strings.Split(id.Key(), "/")
	at := len(words) - 1
	for at > 0 && words[at] != "providers" {
		at--
	}
	var names []string
	for i := at + 3; i < len(words); i += 2 {
		names = append(names, words[i])
	}
	return strings.Join(names, "/")
}

// body is what goes into the request, not evaluated.
func (r Resource) body() map[string]any {
	out := map[string]any{}
	for name, v := range r.raw {
		if !element(name) {
			out[name] = v
		}
	}
	return out
}

// Body makes the request's body. reference reads a resource by its id, its
// properties or all of it.
func (r Resource) Body(p Plan, reference func(id scope.ID, full bool) (any, error)) ([]byte, error) {
	s := r.scope
	s.reference = p.reading(reference)
	v, err := s.value(r.body())
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxText {
		err = invalid("The body of the resource '%s' is larger than %d bytes.", r.ID.Name(), maxText)
	}
	return b, err
}

// reading resolves what reference() is given: an id, or a name of the template.
func (p Plan) reading(reference func(scope.ID, bool) (any, error)) func(string, bool) (any, error) {
	return func(text string, full bool) (any, error) {
		if found := p.find(text); len(found) == 1 {
			return reference(p.Resources[found[0]].ID, full)
		}
		id, err := scope.Parse(text)
		if err != nil {
			return nil, invalid("The template reference '%s' is not valid: could not find a template resource or a copy of it with this name.", clip(text))
		}
		return reference(id, full)
	}
}

// Outputs works out what the template answers with. Secret outputs are left out.
func (p Plan) Outputs(reference func(id scope.ID, full bool) (any, error)) (map[string]any, error) {
	s := p.scope
	s.reference = p.reading(reference)
	out := map[string]any{}
	for _, name := range sorted(p.outputs) {
		o := p.outputs[name]
		if o.Condition != nil {
			on, err := s.value(o.Condition)
			if err != nil {
				return nil, err
			}
			if on != true {
				continue
			}
		}
		v, err := s.value(o.Value)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(strings.ToLower(o.Type), "secure") {
			out[camel(name)] = map[string]any{"type": o.Type, "value": v}
		}
	}
	return out, nil
}

// camel is an output's name as Resource Manager answers with it: capitals at its
// beginning are small, but for one that begins the next word. az vmss create has an
// output VMSS and reads vmss.
func camel(name string) string {
	b := []byte(name)
	upper := func(i int) bool { return i < len(b) && b[i] >= 'A' && b[i] <= 'Z' }
	for i := range b {
		if !upper(i) || i > 0 && i+1 < len(b) && !upper(i+1) {
			break
		}
		b[i] += 'a' - 'A'
	}
	return string(b)
}

func sorted[T any](m map[string]T) []string {
	var out []string
	for name := range m {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

func names(m map[string]parameter) string { return clip(strings.Join(sorted(m), ", ")) }
