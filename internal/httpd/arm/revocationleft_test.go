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
		correlation        string
	}{
		{"user.update", person, "accountEnabled=false", 1, "d"}, {"roleAssignment.delete", vm, "principal " + person, 1, "d"}, {"group.removeMember", "g", "member " + person, 1, "d"}, {"certificate.revoke", person, "serial 7", 1, "d"},
		{"machineSession.end", vm, "session s1", 1, "d"}, {"machineSession.end", vm, "session s2", 1, "c"}, {"resource.write", vm, "", 1, "d"}, {"resource.delete", vm + "/extensions/x", "", 1, "d"}, {"resource.move", vm, "from old", 1, "d"},
		{"user.update", "22222222-2222-4333-8444-555555555555", "", 0, "d"}, {"machineSession.end", vm, "session s2", 0, "d"}, {"resource.write", vm + "2", "", 0, "d"}, {"roleAssignment.delete", vm, "principal other", 0, "d"},
	} {
		left, err := h.leftBehind(t.Context(), machine.Pending{Revocation: machine.Revocation{CorrelationID: c.correlation, Type: c.kind, Target: c.target, What: c.what, At: at}})
		if err != nil || len(left) != c.n || c.n > 0 && left[0]["left"] != "a crontab" {
			t.Errorf("%s %s %s: %v %v", c.kind, c.target, c.what, left, err)
		}
	}
}
