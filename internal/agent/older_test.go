package agent

import (
	"testing"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/machine/protocol"
)

// A server of the first protocol version refuses what it does not know: it is
// spoken to in its own form for a while, and then asked again.
func TestPoll_ServerOfTheFirstVersion(t *testing.T) {
	s, r := newServer(t), &rootPart{status: control.Status{Epoch: 1, Version: 7, AppliedEpoch: 1, AppliedManifest: 1}}
	a := newAgent(t, s, r)
	now := time.Unix(1_800_000_000, 0)
	a.cfg.Now = func() time.Time { return now }
	s.poll = func(q protocol.PollRequest) (protocol.PollAnswer, int) {
		if q.Capability > 1 || q.AppliedManifest != 0 || q.ManifestEpoch != 0 {
			return protocol.PollAnswer{}, 400
		}
		return protocol.PollAnswer{}, 200
	}
	for range 3 {
		if err := a.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.polls) != 3 || s.polls[0].Capability != protocol.Capability || s.polls[0].AppliedManifest != 1 || s.polls[1].Capability != 1 || s.polls[2].Capability != 1 {
		t.Fatalf("%+v", s.polls)
	}
	now = now.Add(olderTime)
	if err := a.poll(t.Context()); err != nil || s.polls[3].Capability != protocol.Capability {
		t.Fatalf("%v: not asked again", err)
	}
}

// What a server refuses in a report says nothing about its snapshots: those go on
// in the newest form, which has the sessions that were ended.
func TestReport_RefusedChangesNoPoll(t *testing.T) {
	s, r := newServer(t), &rootPart{status: control.Status{Epoch: 1, Version: 7}}
	a := newAgent(t, s, r)
	s.poll = func(protocol.PollRequest) (protocol.PollAnswer, int) { return protocol.PollAnswer{}, 200 }
	a.speakFirst(&a.olderReports)
	if err := a.poll(t.Context()); err != nil || s.polls[0].Capability != protocol.Capability {
		t.Fatalf("%v %+v", err, s.polls)
	}
}
