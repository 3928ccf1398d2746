package arm_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	machines "sallyport/internal/machine"
)

// revoked is one revocation that one of two machines has not acknowledged.
type revoked struct{ behind machines.RevocationPlace }

func (*revoked) one() machines.Pending {
	return machines.Pending{Revocation: machines.Revocation{ID: "server-1-7", Position: 9, Type: "user.delete", At: time.Unix(1, 0)}, Machines: []string{sessionMachine}}
}

func (r *revoked) Revocations(_ context.Context, behind machines.RevocationPlace, _ time.Time, limit int) ([]machines.Pending, error) {
	if r.behind = behind; behind.Position > 0 {
		return nil, nil
	}
	return []machines.Pending{r.one()}[:min(1, limit)], nil
}

func (r *revoked) RevocationByID(_ context.Context, id string) (machines.Pending, int, bool, error) {
	return r.one(), 2, id == "server-1-7", nil
}

func (*revoked) State(id string) (machines.State, bool) { return (&openSessions{}).State(id) }

func TestRevocations_ShownToReaders(t *testing.T) {
	s := newServer(t)
	const list = "/providers/Sallyport.Access/revocations"
	for path, want := range map[string]int{list: 200, list + "/server-1-7": 200, list + "/server-1-8": 404, list + "?$skipToken=x": 400, list + "?$skipToken=9.server-1-7": 200, list + "?$top=0": 400} {
		if answer, v := s.call(admin, http.MethodGet, path, ""); answer.StatusCode != want {
			t.Errorf("%s: %d %v", path, answer.StatusCode, v)
		}
		if answer, _ := s.call(nobody, http.MethodGet, path, ""); answer.StatusCode != http.StatusForbidden {
			t.Errorf("%s as nobody: %d", path, answer.StatusCode)
		}
	}
	_, v := s.call(admin, http.MethodGet, list+"?$top=1", "")
	if dig(v, "value", 0, "properties", "acknowledged") != false || dig(v, "value", 0, "properties", "machinesWaiting") != float64(1) || dig(v, "nextLink") == nil {
		t.Error(v)
	}
	if s.call(admin, http.MethodGet, list+"?$skipToken=9.server-1-7", ""); s.revoked.behind != (machines.RevocationPlace{Position: 9, ID: "server-1-7"}) {
		t.Error(s.revoked.behind)
	}
	_, v = s.call(admin, http.MethodGet, list+"/server-1-7", "")
	if dig(v, "properties", "machines") != float64(2) || dig(v, "properties", "waiting", 0, "machine") != "myVM" {
		t.Error(v)
	}
}
