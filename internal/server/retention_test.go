package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

// Records go after their time, behind a signed checkpoint that the check starts
// from and names; a deletion without one is found.
func TestRetention_DeletesBehindACheckpointOnly(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	later := func(days int) { mu.Lock(); defer mu.Unlock(); now = now.AddDate(0, 0, days) }
	verify := func() (audit.Verdict, error) { return auditor{d}.Verify(t.Context()) }
	d.happen(t, 1200)
	later(40)
	d.happen(t, 10)
	before, err := verify()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.retainOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := verify(); err != nil || v.Records != before.Records {
		t.Fatal("something was deleted without a setting", v.Records, err)
	}
	if err := (auditor{d}).SetRetention(t.Context(), audit.By{Principal: "p", Type: audit.User, At: now}, 30); err != nil {
		t.Fatal(err)
	}
	for range 3 { // again changes nothing
		if err := d.retainOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	v, err := verify()
	if err != nil || len(v.Starts) != 1 || v.Records != 12 || v.Starts[0].Checkpoint.Sequence != v.Starts[0].Sequence-1 || v.Starts[0].Checkpoint.Count != before.Records-10 {
		t.Fatalf("%+v %v", v, err)
	}
	list, err := auditor{d}.Records(t.Context(), audit.Filter{Limit: 2})
	if err != nil || list[0].Type != "audit.checkpoint" || list[1].Type != "audit.retention" || list[1].Detail["days"] != "30" {
		t.Fatal(list, err)
	}
	p, err := auditor{d}.Proof(t.Context())
	if err != nil || len(p.Checkpoints) != 1 {
		t.Fatal(p, err)
	}
	later(400) // everything is old: the last record stays all the same
	if err := d.retainOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err = verify(); err != nil || v.Records != 2 {
		t.Fatalf("%+v %v", v, err)
	}
	d.happen(t, 3)
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	tamper(t, d, "DELETE FROM audit_checkpoint")
	if d.store, err = store.Open(context.Background(), d.cfg.storeConfig(d.meter)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.store.Close() })
	var broken *audit.Broken
	if _, err = verify(); !errors.As(err, &broken) || broken.Sequence != 1 || !strings.Contains(broken.Reason, "no signed checkpoint") {
		t.Fatal(err)
	}
}

// Under another audit key the newest checkpoints are signed again, so that they
// count when the old key is retired.
func TestRetention_SignsCheckpointsAgain(t *testing.T) {
	c := newCA(t)
	c.happen(t, 5)
	c.must(c.checkpoint(t.Context(), writerName, c.now.read().Add(time.Hour)))
	signers := func() (keys []string) {
		p, err := auditor{c.deployment}.Proof(t.Context())
		c.must(err)
		for _, e := range p.Checkpoints {
			keys = append(keys, e.KeyID)
		}
		return keys
	}
	old := c.active(protocol.Audit)
	c.must(c.resign(t.Context()))
	if got := signers(); !slices.Equal(got, []string{old}) {
		t.Fatal(got)
	}
	c.must(c.rotate(arm.Rotation{Purpose: "audit", Force: true}))
	for range 10 {
		c.now.add(time.Minute)
		c.look()
	}
	c.must(c.resign(t.Context()))
	if got := signers(); c.active(protocol.Audit) == old || !slices.Equal(got, []string{c.active(protocol.Audit)}) {
		t.Fatal(got, old)
	}
	if _, err := (auditor{c.deployment}).Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What the collector of another server has not is kept by this one too, which
// may have none.
func TestRetention_WaitsForCollectorsOfOtherServers(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	d.happen(t, 20)
	if err := (auditor{d}).SetRetention(t.Context(), audit.By{Principal: "p", Type: audit.User, At: now}, 30); err != nil {
		t.Fatal(err)
	}
	records := func() int64 {
		v, err := auditor{d}.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v.Records
	}
	mu.Lock()
	now = now.AddDate(0, 0, 40)
	mu.Unlock()
	q, before := auditQueue{d.store}, records()
	if ok, err := q.Hold(t.Context(), "syslog", "another server", now.Add(-time.Minute)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := d.retainOnce(t.Context()); err != nil || records() != before {
		t.Fatal("undelivered records were deleted", err, records(), before)
	}
	if _, err := q.Hold(t.Context(), "syslog", "another server", now.Add(-othersFor-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := d.retainOnce(t.Context()); err != nil || records() >= before {
		t.Fatal("a collector that nobody delivers to keeps records", err, records(), before)
	}
}
