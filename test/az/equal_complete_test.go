//go:build e2e

package az

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxExempt caps kinds.txt. It only ever goes down.
const maxExempt = 4

// Kinds of rows. Which of them a command must have follows from what it takes, and
// which of them a row is from how az ended it.
const (
	populated = "populated" // it finds, makes or changes something
	missing   = "not found" // it names something that does not exist
	forbidden = "forbidden" // the reader of a group may not, or sees what everybody sees
	invalid   = "invalid"   // it is wrong in itself
)

var (
	// absent are the names of nothing in equal.txt.
	absent = regexp.MustCompile(`\bnope\b|nobody|Nonsense|00000000-1111-2222-3333-444444444444`)
	// refused is how Resource Manager and Graph refuse somebody.
	refused = regexp.MustCompile(`(?i)AuthorizationFailed|does not have authorization|insufficient privileges|Forbidden`)
	// reads are the last words of commands that change nothing.
	reads = regexp.MustCompile(`(^| )(show|list|check|list-\S+|get-\S+)$`)
)

// named are the options that name something that is there already; --name does for
// any command but one that makes it.
var named = []string{"--resource-group", "--id", "--ids", "--group", "--vm-name", "--vmss-name", "--assignee", "--scope", "--scopes", "--owner-object-id", "--member-id"}

// kindsOf are the kinds of rows that a command must have.
func kindsOf(command string, common []parameter) []string {
	kinds := []string{populated, forbidden, invalid}
	makes := strings.HasSuffix(command, " create")
	if slices.ContainsFunc(common, func(p parameter) bool {
		own := slices.Contains(p.Options, "--name")
		return own && !makes || !own && slices.ContainsFunc(p.Options, func(o string) bool { return slices.Contains(named, o) })
	}) {
		kinds = append(kinds, missing)
	}
	return kinds
}

// kind is the kind of a row, by how az ended it.
func (r rowEnd) kind(command string) string {
	switch {
	case r.who == "r" && (r.az.code != 0 && refused.MatchString(r.az.err) || r.az.code == 0 && reads.MatchString(command)):
		return forbidden
	case absent.MatchString(r.line):
		return missing
	case r.az.code != 0:
		return invalid
	case strings.TrimSpace(r.az.out) == "[]":
		return ""
	}
	return populated
}

// exempt reads kinds.txt: COMMAND | KIND or OPTION -> why there is no such row.
func exempt(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("kinds.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(line, " | ", 3)
		if len(parts) != 3 || parts[2] == "" {
			t.Fatalf("kinds.txt wants a command, a kind or an option and a reason: %q", line)
		}
		all[parts[0]+" | "+parts[1]] = parts[2]
	}
	if len(all) > maxExempt {
		t.Errorf("kinds.txt has %d lines; the cap is %d", len(all), maxExempt)
	}
	return all
}

// complete: each command that both have has a row of each kind that applies to it,
// and each parameter that both have is in a row. own are sally's commands with their
// flags.
func (e *equality) complete(t *testing.T, known map[string][]parameter, own map[string][]string) {
	if len(known) < 100 {
		t.Errorf("az has only %d of sally's %d commands", len(known), len(own))
	}
	without := exempt(t)
	need := func(command, what string, there bool) {
		key := command + " | " + what
		_, excused := without[key]
		switch delete(without, key); {
		case !there && !excused:
			t.Errorf("equal.txt: az and sally have %q, and there is no row for: %s", command, what)
		case there && excused:
			t.Errorf("kinds.txt: there is a row for %q", key)
		}
	}
	used := map[string]bool{}
	for _, command := range slices.Sorted(maps.Keys(known)) {
		var rows []rowEnd
		options := map[string]bool{}
		for _, list := range e.seen {
			for _, r := range list {
				if !strings.HasPrefix(r.line+" ", command+" ") {
					continue
				}
				rows = append(rows, r)
				for _, w := range words(r.line) {
					w, _, _ = strings.Cut(w, "=")
					options[w], used[w] = true, true
				}
			}
		}
		if e.exceptions.has(command, "*") {
			continue
		}
		common := slices.DeleteFunc(slices.Clone(known[command]), func(p parameter) bool {
			return !slices.ContainsFunc(p.Options, func(o string) bool { return slices.Contains(own[command], o) })
		})
		for _, kind := range kindsOf(command, common) {
			need(command, kind, slices.ContainsFunc(rows, func(r rowEnd) bool { return r.kind(command) == kind }))
		}
		for _, p := range common {
			need(command, p.Options[0], slices.ContainsFunc(p.Options, func(o string) bool { return options[o] }))
		}
	}
	for _, global := range []string{"--output", "-o", "--query", "--subscription", "--only-show-errors", "--verbose", "--debug"} {
		if !used[global] {
			t.Errorf("equal.txt has no row with %s", global)
		}
	}
	for key := range without {
		t.Errorf("kinds.txt: nothing needs %q", key)
	}
}
