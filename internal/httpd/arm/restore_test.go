package arm_test

import (
	"context"
	"net/http"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd/arm"
)

// restores is a deployment whose restore "r" waits.
type restores struct{ by audit.By }

func (r *restores) RestoreReview() (arm.RestoreReview, error) {
	return arm.RestoreReview{RestoreID: "r", Entries: []arm.ReviewedAccess{{What: "user", Principal: "alice@corp.example"}}}, nil
}

func (r *restores) ConfirmRestore(_ context.Context, by audit.By, id string) error {
	if id != "r" {
		return fault.New(fault.Conflict, "RestoreChanged", "another")
	}
	r.by = by
	return nil
}

// Who holds the action at the root reviews and confirms; the rows' negative
// cases are in TestAbuse.
func TestRestore_ReviewAndConfirm(t *testing.T) {
	s := newServer(t)
	a, v := s.call(admin, "GET", "/providers/Sallyport.Access/restore", "")
	if a.StatusCode != http.StatusOK || dig(v, "properties", "restoreId") != "r" || dig(v, "properties", "entries", 0, "principal") != "alice@corp.example" {
		t.Fatalf("%d %v", a.StatusCode, v)
	}
	for body, want := range map[string]int{`{"restoreId":"x"}`: http.StatusConflict, `{}`: http.StatusConflict, ``: http.StatusBadRequest, `{"restoreId":"r","more":1}`: http.StatusBadRequest} {
		if a, v := s.call(admin, "POST", "/providers/Sallyport.Access/confirmRestore", body); a.StatusCode != want || s.restores.by.Principal != "" {
			t.Errorf("%s: %d %v", body, a.StatusCode, v)
		}
	}
	if a, v := s.call(admin, "POST", "/providers/Sallyport.Access/confirmRestore", `{"restoreId":"r"}`); a.StatusCode != http.StatusNoContent || s.restores.by.Principal != admin {
		t.Fatalf("%d %v", a.StatusCode, v)
	}
}
