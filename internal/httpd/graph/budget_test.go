package graph

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

// crowd calls f for n people, as the walk of the directory does.
func crowd(n int, after string, f func(directory.User) bool) {
	when := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		u := directory.User{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), UPN: fmt.Sprintf("person%d@corp.example", i), DisplayName: fmt.Sprintf("Person Number %d", i), Enabled: true, CreatedAt: when}
		if u.ID > after && !f(u) {
			return
		}
	}
}

// terms is a filter of n terms that a single one of the crowd passes: the last.
func terms(n, of int) string {
	var out []string
	for i := range n - 1 {
		out = append(out, fmt.Sprintf("endswith(displayName,'x%d')", i))
	}
	return strings.Join(append(out, fmt.Sprintf("displayName eq 'Person Number %d'", of-1)), " or ")
}

// BenchmarkFilter is what the longest filter over a hundred thousand people takes, in
// the pages that it is answered in.
func BenchmarkFilter(b *testing.B) {
	for _, n := range []int{1, 20, maxNodes} {
		b.Run(fmt.Sprintf("%d terms", n), func(b *testing.B) {
			f, err := parseFilter(terms(n, 100_000), userEntity().schema)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				p := &page{q: query{filter: f, top: defaultPage}}
				crowd(100_000, "", func(u directory.User) bool { return p.add(u.ID, userObject(u)) })
			}
		})
	}
}

// TestFilter_Budget: a request does no more work than the budget. A list goes on at the
// address of its next page, and finds all in the end; a number is refused.
func TestFilter_Budget(t *testing.T) {
	const people = 40_000
	for _, n := range []int{1, 20, maxNodes} {
		f, err := parseFilter(terms(n, people), userEntity().schema)
		if err != nil {
			t.Fatal(err)
		}
		looked, pages, found, after := 0, 0, 0, ""
		for more := true; more && pages < 100; pages++ {
			p := &page{q: query{filter: f, top: defaultPage, after: after}}
			crowd(people, after, func(u directory.User) bool { looked++; return p.add(u.ID, userObject(u)) })
			if after, more = p.last, p.more; p.refused() != nil || more && after == "" {
				t.Fatalf("%d terms: page %d is refused, or has no end: %v", n, pages, p.refused())
			}
			found += len(p.items)
		}
		if one := people*(n+costOfObject) <= costOfPage; found != 1 || one != (pages == 1) {
			t.Errorf("%d terms: %d found in %d pages", n, found, pages)
		}
		if looked > people+pages {
			t.Errorf("%d terms: %d of %d people were looked at", n, looked, people)
		}
		only := &page{q: query{filter: f, top: defaultPage}} // as applications that do not match
		crowd(people, "", func(u directory.User) bool { return only.look(u.ID) })
		if only.more != (pages > 1) || only.more && only.last == "" {
			t.Errorf("%d terms: to look at all ends with %v, after %q", n, only.more, only.last)
		}
		p := &page{q: query{filter: f, top: defaultPage, count: true}}
		crowd(people, "", func(u directory.User) bool { return p.add(u.ID, userObject(u)) })
		if why := p.refused(); (why != nil) != (pages > 1) || why != nil && fault.As(why).Code != "Request_UnsupportedQuery" {
			t.Errorf("%d terms, counted: %v", n, why)
		}
	}
}
