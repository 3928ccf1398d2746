package rollout_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rollout"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

// park is the machines of a test.
type park struct{ members []rollout.Member }

func (p *park) Members() []rollout.Member { return p.members }
func (p *park) Member(id string) (rollout.Member, bool) {
	for _, m := range p.members {
		if m.ID == id {
			return m, true
		}
	}
	return rollout.Member{}, false
}

// conflict checks that something was refused, in the words of
// docs/troubleshooting.md.
func conflict(t *testing.T, err error, sentence string) {
	t.Helper()
	if !fault.Is(err, fault.Conflict) {
		t.Fatalf("%s: %v", sentence, err)
	}
	handbooktest.Said(t, fault.As(err).Public(), sentence)
}

// TestService_FromCreateToDelete: one at a time, from what the server hands out,
// step by step from what is stored, also by two servers at once.
func TestService_FromCreateToDelete(t *testing.T) {
	now := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	machines := &park{[]rollout.Member{{ID: "a", ResourceID: "/a", Agent: "1.0", Tags: map[string]string{"ring": "1"}, LastSeen: now}}}
	var s, second *rollout.Service
	st := storetest.New(t, func() time.Time { return now }, storetest.Index(func(r rollout.Reader, kind, key string) error { return s.Refresh(r, kind, key) }))
	config := rollout.Config{Machines: machines, Versions: func() ([]string, error) { return []string{"2.0"}, nil }, Rand: rand.Reader, Now: func() time.Time { return now },
		Write: func(ctx context.Context, f func(rollout.Tx) error) error {
			return st.Write(ctx, func(t *store.Tx) error { return f(t) })
		}}
	s, second = rollout.New(config), rollout.New(config)
	ctx, by := t.Context(), audit.By{Principal: "0aaaaaaa-0000-4000-8000-0000000000a1", Type: audit.User, CorrelationID: "0aaaaaaa-0000-4000-8000-0000000000a2", At: now}
	u := rollout.Upgrade{Name: "First", Version: "2.0", Rings: []rollout.Ring{"ring=1", "all"}, Soak: time.Minute, Wait: time.Minute, Timeout: time.Hour}
	other := u
	other.Version = "3.0"
	if err := s.Create(ctx, by, other); !fault.Is(err, fault.Invalid) {
		t.Errorf("a version that is not handed out: %v", err)
	}
	if err := s.Create(ctx, by, u); err != nil {
		t.Fatal(err)
	}
	other = u
	other.Name = "second"
	for sentence, again := range map[string]rollout.Upgrade{"arm.UpgradeExists": u, "arm.UpgradeUnderWay": other} {
		conflict(t, s.Create(ctx, by, again), sentence)
	}
	wish := s.Wish("a")
	if wish == nil || wish.Version != "2.0" || wish.Check() != nil || s.Wish("nobody") != nil {
		t.Fatalf("%+v", wish)
	}
	told := s.Told()
	if err := s.Pause(ctx, by, "first"); err != nil || s.Told() == told || s.Wish("a") != nil {
		t.Fatalf("%v; paused, and still wished", err)
	}
	if err := s.Resume(ctx, by, "first"); err != nil || s.Told() != told || s.Wish("a") == nil {
		t.Fatal(err)
	}
	machines.members[0].Agent, machines.members[0].Upgrade = "2.0", &protocol.UpgradeState{ID: wish.ID, Version: "2.0", State: protocol.UpgradeDone}
	if err := st.Read(ctx, func(t *store.Tx) error { return second.Load(t) }); err != nil {
		t.Fatal(err)
	}
	for _, one := range []*rollout.Service{s, second, s} {
		if err := one.Advance(ctx, by); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Get("first"); err != nil || got.DoneAt.IsZero() || s.Told() != told {
		t.Errorf("a ring that is watched tells nobody anything: %+v %+v %v", got, s.Told(), err)
	}
	now = now.Add(time.Minute)
	machines.members[0].LastSeen = now
	for _, one := range []*rollout.Service{s, second, s} { // the second one's knowledge is old: it does nothing
		if err := one.Advance(ctx, by); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Get("FIRST")
	if err != nil || got.Ring != 1 || got.State != rollout.Running || s.Told() == told {
		t.Fatalf("%+v %v", got, err)
	}
	if err := s.Delete(ctx, by, "first"); !fault.Is(err, fault.Conflict) {
		t.Errorf("deleted while it runs: %v", err)
	}
	if err := s.Cancel(ctx, by, "first"); err != nil || s.Wish("a") != nil {
		t.Fatal(err)
	}
	conflict(t, s.Resume(ctx, by, "first"), "arm.UpgradeState")
	if err := s.Create(ctx, by, other); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, by, "first"); err != nil || len(s.List()) != 1 {
		t.Fatal(err)
	}
	audited(t, st, 7)
}

// audited counts the records.
func audited(t *testing.T, st *storetest.Store, want int) {
	t.Helper()
	ctx := t.Context()
	var kinds []string
	if err := st.Read(ctx, func(t *store.Tx) error {
		list, err := t.AuditRecords(audit.Filter{Limit: 100})
		for _, r := range list {
			kinds = append(kinds, r.Type)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(kinds) != want {
		t.Errorf("audited: %v", kinds)
	}
}
