package rollout_test

import (
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/rollout"
)

func TestCreate_Names(t *testing.T) {
	s := rollout.New(rollout.Config{})
	for _, name := range []string{"", "-a", "a b", "ä", strings.Repeat("a", 64)} {
		if err := s.Create(t.Context(), audit.By{}, rollout.Upgrade{Name: name}); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.As(err).Public(), "is no name for an upgrade. Use up to 63 letters") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
