package audit

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Kind declares one type of event: when it is written, what its target is and
// which facts it carries. Everything that may be written is declared, in this
// package and nowhere else; docs/audit-events.md is made from it.
type Kind struct {
	Type     string
	When     string
	Surface  Surface
	Outcomes []Outcome
	Target   string // what Event.Target names
	Keys     []Key
}

// Key is one fact that a kind's Detail may hold.
type Key struct{ Name, Meaning string }

// Surface says through which door a kind's events come.
type Surface string

// The surfaces.
const (
	SurfaceSignIn    Surface = "sign-in and tokens"
	SurfaceDirectory Surface = "directory"
	SurfaceResources Surface = "resources and roles"
	SurfaceMachines  Surface = "machines"
	SurfaceServer    Surface = "server"
)

// Kinds returns every kind of event, by surface.
func Kinds() []Kind {
	return slices.Concat(signInKinds(), directoryKinds(), resourceKinds(), machineKinds(), keyKinds(), serverKinds())
}

// declared finds a kind by its type. It is filled at its first use: most starts of the program write no event.
var declared = sync.OnceValue(func() map[string]Kind {
	m := map[string]Kind{}
	for _, k := range Kinds() {
		m[k.Type] = k
	}
	return m
})

// KindOf returns the kind of a type.
func KindOf(kind string) (Kind, bool) {
	k, ok := declared()[kind]
	return k, ok
}

// Declared refuses an event that is not in the reference: its type, its outcome
// or the name of a fact in it. A reader can then know what a record may hold,
// and a secret does not slip in under a new name.
func Declared(e Event) error {
	k, ok := declared()[e.Type]
	if !ok {
		return fmt.Errorf("audit event %q is not declared: give it a line in internal/audit", e.Type)
	}
	if !slices.Contains(k.Outcomes, e.Outcome) {
		return fmt.Errorf("audit event %q is not declared with the outcome %q", e.Type, e.Outcome)
	}
	for name := range e.Detail {
		if !k.Has(name) && (e.Outcome != Denied || !summaryFact(name)) {
			return fmt.Errorf("audit event %q is not declared with the fact %q", e.Type, name)
		}
	}
	return nil
}

// Has reports whether the kind's Detail may hold a fact of this name.
func (k Kind) Has(name string) bool {
	return slices.ContainsFunc(k.Keys, func(key Key) bool { return key.Name == name })
}

// summaryFact reports whether every refusal may carry a fact of this name: a
// record that stands for several refusals says how many and when.
func summaryFact(name string) bool {
	return name == "repeats" || name == "since" || name == "until" || name == "kinds"
}

// Reference is docs/audit-events.md.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Audit events\n\nMade from `internal/audit`; a test holds the two together. Every event that Sallyport writes is here, with every fact that it may carry;\n" +
		"the server refuses to write any other. Each record also says who (principal, type, name), from where (address, client), when, the correlation id, and its place\n" +
		"in the chain; [operations.md](operations.md) says how to read, follow, export and verify them.\n\n" +
		"`success`: it happened. `denied`: somebody decided against it. `failure`: it was tried and went wrong. Refusals that come again and again are summed up once a minute: such a record carries `repeats`,\n" +
		"how many more there were, `since` and `until`, and, where it stands for several kinds of them, no target and address but `kinds`, how many.\n")
	last := Surface("")
	for _, k := range Kinds() {
		if k.Surface != last {
			last = k.Surface
			fmt.Fprintf(&b, "\n## %s\n\n| type | when | outcomes | target | facts |\n|---|---|---|---|---|\n", strings.ToUpper(string(last[:1]))+string(last[1:]))
		}
		facts := make([]string, len(k.Keys))
		for i, key := range k.Keys {
			facts[i] = "`" + key.Name + "` " + key.Meaning
		}
		outcomes := make([]string, len(k.Outcomes))
		for i, o := range k.Outcomes {
			outcomes[i] = string(o)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Type, k.When, strings.Join(outcomes, ", "), k.Target, strings.Join(facts, "; "))
	}
	return b.String()
}

func did() []Outcome         { return []Outcome{Success} }
func didOrDenied() []Outcome { return []Outcome{Success, Denied} }
func refused() []Outcome     { return []Outcome{Denied} }
