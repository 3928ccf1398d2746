package arm_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/audit/proof"
	"sallyport/internal/store"
)

type auditor struct{ s *store.Store }

func (a auditor) Records(ctx context.Context, f audit.Filter) (out []audit.Record, err error) {
	err = a.s.Read(ctx, func(tx *store.Tx) error { out, err = tx.AuditRecords(f); return err })
	return out, err
}

func (a auditor) Follow(ctx context.Context, _ audit.Filter, c audit.Cursor, _ time.Duration) (out []audit.Record, _ bool, err error) {
	err = a.s.Read(ctx, func(tx *store.Tx) error { out, err = tx.AuditAfter(c, 3); return err })
	return out, len(out) == 0, err
}

func (a auditor) Heads(ctx context.Context) (out []audit.Head, err error) {
	err = a.s.Read(ctx, func(tx *store.Tx) error { out, err = tx.AuditHeads(); return err })
	return out, err
}

func (auditor) Retention(context.Context) (int, error) { return 0, nil }

func (a auditor) SetRetention(ctx context.Context, by audit.By, days int) error {
	return a.s.Write(ctx, func(tx *store.Tx) error { return tx.SetAuditRetention(days) })
}

func (auditor) Proof(context.Context) (proof.Proof, error) { return proof.Proof{}, nil }

func (a auditor) Verify(ctx context.Context) (v audit.Verdict, err error) {
	err = a.s.Read(ctx, func(tx *store.Tx) error { v.Records, v.Heads, err = tx.VerifyAudit(); return err })
	return v, err
}

// Following from a place: every record once, in order, and from the end none
// that was there before.
func TestAudit_FollowNeitherSkipsNorRepeats(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		s.call(admin, http.MethodPut, fmt.Sprintf("/subscriptions/%s/resourceGroups/g%d", subID, i), `{"location":"westeurope"}`)
	}
	const follow = "/providers/Sallyport.Access/auditRecords/follow"
	var seen []float64
	link := follow
	for {
		_, v := s.call(admin, http.MethodGet, link, "")
		list, _ := dig(v, "value").([]any)
		if dig(v, "caughtUp") == true {
			break
		}
		for _, r := range list {
			seen = append(seen, dig(r, "sequence").(float64))
		}
		link = follow + "?$skipToken=" + dig(v, "skipToken").(string)
	}
	for i, n := range seen {
		if n != float64(i+1) {
			t.Fatal(seen)
		}
	}
	_, v := s.call(admin, http.MethodGet, follow+"?from=end&$top=2", "")
	if list, _ := dig(v, "value").([]any); len(seen) < 6 || len(list) != 2 || dig(v, "value", 1, "sequence") != seen[len(seen)-1] {
		t.Errorf("%v", v)
	}
	link = follow + "?$skipToken=" + dig(v, "skipToken").(string)
	s.call(admin, http.MethodPut, "/subscriptions/"+subID+"/resourceGroups/g6", `{"location":"westeurope"}`)
	if _, v = s.call(admin, http.MethodGet, link, ""); dig(v, "value", 0, "sequence") != seen[len(seen)-1]+1 {
		t.Errorf("%v", v)
	}
}

// History is deleted by who may write role assignments, and by nobody within a
// month (for Contributor see rbac).
func TestAuditRetention_OwnersOnlyAndNotAtOnce(t *testing.T) {
	s := newServer(t)
	const path = "/providers/Sallyport.Access/auditRetention"
	for body, code := range map[string]int{`{"days":90}`: 200, `{"days":0}`: 200, `{"days":1}`: 400, `{"days":29}`: 400, `{"days":-1}`: 400, `{}`: 400, `{"days":99999}`: 400} {
		if answer, v := s.call(admin, http.MethodPut, path, body); answer.StatusCode != code {
			t.Errorf("%s: %d %v", body, answer.StatusCode, v)
		}
		if answer, _ := s.call(nobody, http.MethodPut, path, body); answer.StatusCode != http.StatusForbidden {
			t.Errorf("%s by nobody: %d", body, answer.StatusCode)
		}
	}
}
