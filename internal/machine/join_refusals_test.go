package machine_test

import (
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// A token that the server made for its own machine takes nothing of what a person's
// token takes, and is as good as before.
func TestJoin_ServersOwnTokenTakesNothing(t *testing.T) {
	r := newRig(t)
	token := r.mint(machineID)
	for name, change := range map[string]func(*protocol.JoinRequest){
		"name": func(q *protocol.JoinRequest) { q.Name = "other" }, "group": func(q *protocol.JoinRequest) { q.Group = "other" },
		"tags": func(q *protocol.JoinRequest) { q.Tags = map[string]string{"a": "b"} }, "extension": func(q *protocol.JoinRequest) { q.EnableLogin = true },
	} {
		q := join(token)
		change(&q)
		_, err := r.Join(t.Context(), audit.By{}, q, "key")
		const said = "this token is for a machine that the server made; it takes no name, group, tags or extension"
		if f := fault.As(err); err == nil || f.Code != "InvalidJoinRequest" || f.Text != said {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Join(t.Context(), audit.By{}, join(token), "key"); err != nil {
		t.Error(err)
	}
}
