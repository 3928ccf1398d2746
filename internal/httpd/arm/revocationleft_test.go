package arm

import (
	"context"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
)

// told is an audit log that hands out what a filter selects.
type told struct {
	Auditor
	records []audit.Record
}

func (a told) Records(_ context.Context, f audit.Filter) (out []audit.Record, _ error) {
	for _, r := range a.records {
		if f.Matches(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

// TestRevocation_SaysWhatWasLeft: a revocation shows what machines could not end of
// what it names, and nothing of others.
func TestRevocation_SaysWhatWasLeft(t *testing.T) {
	const vm, person = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm", "11111111-2222-4333-8444-555555555555"
	at := time.Unix(1_800_000_000, 0)
	end := func(after time.Duration, left string) audit.Record {
		return audit.Record{Type: "machine.session.end", Time: at.Add(after), Target: vm, CorrelationID: "c", Detail: map[string]string{"objectId": person, "login": "p@example.test", protocol.FactSession: "s1", protocol.FactLeft: left}}
	}
	h := &Handler{cfg: Config{Audit: told{records: []audit.Record{end(time.Second, "a crontab"), end(-time.Second, "before"), end(time.Second, ""), end(leftFor+time.Hour, "long after")}}}}
	for _, c := range []struct {
		kind, target, what string
		n                  int
	}{
		{"user.update", person, "accountEnabled=false", 1}, {"roleAssignment.delete", vm, "principal " + person, 1}, {"group.removeMember", "g", "member " + person, 1}, {"certificate.revoke", person, "serial 7", 1},
		{"machineSession.end", vm, "session s1", 1}, {"resource.write", vm, "", 1}, {"resource.delete", vm + "/extensions/x", "", 1}, {"resource.move", vm, "from old", 1},
		{"user.update", "22222222-2222-4333-8444-555555555555", "", 0}, {"machineSession.end", vm, "session s2", 0}, {"resource.write", vm + "2", "", 0}, {"roleAssignment.delete", vm, "principal other", 0},
	} {
		left, err := h.leftBehind(t.Context(), machine.Pending{Revocation: machine.Revocation{Type: c.kind, Target: c.target, What: c.what, At: at}})
		if err != nil || len(left) != c.n || c.n > 0 && left[0]["left"] != "a crontab" {
			t.Errorf("%s %s %s: %v %v", c.kind, c.target, c.what, left, err)
		}
	}
}
