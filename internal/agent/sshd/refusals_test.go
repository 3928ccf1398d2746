package sshd

import (
	"testing"

	"sallyport/internal/fault"
)

// TestApply_WithoutDomainOrKey: a machine that knows neither is not wired.
func TestApply_WithoutDomainOrKey(t *testing.T) {
	for name, change := range map[string]func(*Wanted){"no domain": func(w *Wanted) { w.Domains = nil }, "no key": func(w *Wanted) { w.UserCAs = nil }} {
		_, f, w := machineRoot(t)
		want := wanted()
		change(&want)
		if err := w.Apply(t.Context(), want); err == nil || fault.As(err).Code != "ExtensionIncomplete" || f.reloads > 0 {
			t.Errorf("%s: %v, %d reloads", name, err, f.reloads)
		}
	}
}
