package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/machine/protocol"
)

const upgradeID = "0aaaaaaa-0000-4000-8000-000000000001"

func start() time.Time { return time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC) }

func upgradeOf(rings ...Ring) Upgrade {
	return Upgrade{Name: "u", ID: upgradeID, Version: "2.0", Rings: rings, Soak: time.Minute, Wait: time.Minute, Timeout: time.Hour, State: Running, RingAt: start()}
}

func member(id, ring, state string, seen time.Time) Member {
	m := Member{ID: id, ResourceID: "/" + id, Agent: "1.0", Tags: map[string]string{"Ring": ring}, LastSeen: seen, ReportedAt: seen}
	if state != "" {
		m.Upgrade = &protocol.UpgradeState{ID: upgradeID, Version: "2.0", From: "1.0", State: state}
	}
	if state == protocol.UpgradeDone {
		m.Agent = "2.0"
	}
	return m
}

// TestNext_GoesRingByRing: a ring gets through, is watched, and only then the next
// one is told; the last one ends it.
func TestNext_GoesRingByRing(t *testing.T) {
	u, at := upgradeOf("ring=1", "all"), start()
	a, b := member("a", "1", "", at), member("b", "2", "", at)
	if u.Wish(a) == nil || u.Wish(b) != nil {
		t.Fatal("the first ring, and it alone, is told")
	}
	if _, changed := u.Next([]Member{a, b}, at); changed {
		t.Fatal("nobody is through")
	}
	a = member("a", "1", protocol.UpgradeDone, at)
	u, changed := u.Next([]Member{a, b}, at)
	if !changed || u.DoneAt.IsZero() || u.Ring != 0 {
		t.Fatalf("%+v", u)
	}
	if _, changed := u.Next([]Member{a, b}, at.Add(59*time.Second)); changed {
		t.Fatal("not watched for long enough")
	}
	at = at.Add(time.Minute)
	u, _ = u.Next([]Member{a, b}, at)
	if u.Ring != 1 || u.Wish(b) == nil || !u.DoneAt.IsZero() {
		t.Fatalf("%+v", u)
	}
	b = member("b", "2", protocol.UpgradeDone, at)
	u, _ = u.Next([]Member{a, b}, at)
	if u, _ = u.Next([]Member{a, b}, at.Add(time.Minute)); u.State != Succeeded || u.Wish(member("c", "", "", at)) == nil {
		t.Fatalf("%+v; who comes later follows", u)
	}
}

// TestNext_Stops: the first return ends it, and nobody is told any more.
func TestNext_Stops(t *testing.T) {
	at := start()
	for name, c := range map[string]struct {
		most    int
		members []Member
		at      time.Time
		want    State
	}{
		"a return":            {0, []Member{member("a", "1", protocol.UpgradeReturned, at)}, at, Stopped},
		"an allowed return":   {1, []Member{member("a", "1", protocol.UpgradeReturned, at), member("b", "1", protocol.UpgradeDone, at)}, at, Running},
		"one return more":     {1, []Member{member("a", "1", protocol.UpgradeReturned, at), member("b", "1", protocol.UpgradeReturned, at)}, at, Stopped},
		"no end in time":      {0, []Member{{ID: "a", Tags: map[string]string{"ring": "1"}, LastSeen: at.Add(2 * time.Hour), ReportedAt: at, Upgrade: member("a", "", protocol.UpgradeTrying, at).Upgrade}}, at.Add(2 * time.Hour), Stopped},
		"lost while it tries": {0, []Member{member("a", "1", protocol.UpgradeTrying, at), member("b", "1", protocol.UpgradeDone, at.Add(2*time.Hour))}, at.Add(2 * time.Hour), Stopped},
		"a return elsewhere":  {0, []Member{member("a", "9", protocol.UpgradeReturned, at)}, at, Running},
	} {
		u := upgradeOf("ring=1")
		u.MaxFailures = c.most
		next, _ := u.Next(c.members, c.at)
		if next.State != c.want {
			t.Errorf("%s: %s %s", name, next.State, next.Reason)
		}
		if next.State == Stopped && (next.Wish(member("z", "1", "", at)) != nil || next.Reason == "") {
			t.Errorf("%s: stopped, and still told, or without a reason", name)
		}
	}
}

// TestNext_NeedsSomebodyWhoGotThrough: neither an empty ring, nor one whose
// machines are away, too old or refuse, lets the next one's turn come.
func TestNext_NeedsSomebodyWhoGotThrough(t *testing.T) {
	at := start()
	late := at.Add(2 * time.Hour)
	old := member("old", "1", "", late)
	for name, members := range map[string][]Member{
		"empty": nil, "away": {member("a", "1", "", at.Add(-time.Hour))}, "too old": {old}, "refuses": {member("a", "1", protocol.UpgradeRefused, late)},
		"through and silent": {member("a", "1", protocol.UpgradeDone, at)}, "says done and runs another": {func() Member { m := member("a", "1", protocol.UpgradeDone, late); m.Agent = "1.0"; return m }()},
	} {
		u := upgradeOf("ring=1", "all")
		next, changed := u.Next(members, late)
		if next.Ring != 0 || !next.DoneAt.IsZero() {
			t.Errorf("%s: %+v", name, next)
		}
		if waits := name == "through and silent" || name == "says done and runs another"; !waits && (!changed || !strings.Contains(next.Reason, "no machine of the ring ring=1")) {
			t.Errorf("%s: it does not say why it does not go on: %+v", name, next)
		}
		if _, again := next.Next(members, late); again {
			t.Errorf("%s: the same is told again", name)
		}
		if next, _ = next.Next([]Member{member("b", "1", protocol.UpgradeDone, late)}, late); next.Reason != "" || next.DoneAt.IsZero() {
			t.Errorf("%s: it goes on, and still says why it does not: %+v", name, next)
		}
	}
	through := member("b", "1", protocol.UpgradeDone, late)
	lost := member("a", "1", protocol.UpgradeTrying, late.Add(-30*time.Minute))
	u := upgradeOf("ring=1", "all")
	if next, _ := u.Next([]Member{lost, through}, late); !next.DoneAt.IsZero() || next.State != Running {
		t.Errorf("one that was lost while it tried is not waited for: %+v", next)
	}
	if next, changed := u.Next([]Member{old, through, member("c", "1", "", at.Add(-time.Hour))}, late); !changed || next.DoneAt.IsZero() {
		t.Errorf("those that are left out or away hold up the others: %+v", next)
	}
}

func TestRing_PartsOfAllMachinesGrow(t *testing.T) {
	counts := map[Ring]int{}
	for i := range 1000 {
		m := Member{ID: fmt.Sprint(i)}
		for _, r := range []Ring{"1%", "25%", "100%"} {
			if r.Holds(upgradeID, m) {
				counts[r]++
			}
		}
		if Ring("1%").Holds(upgradeID, m) && !Ring("25%").Holds(upgradeID, m) {
			t.Error("a smaller part is not in the larger one")
		}
	}
	if counts["100%"] != 1000 || counts["25%"] < 180 || counts["25%"] > 320 || counts["1%"] > 30 {
		t.Errorf("%v", counts)
	}
}

func TestCheck_Refuses(t *testing.T) {
	if err := upgradeOf("ring=1", "25%", "all").Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Upgrade){
		"no rings": func(u *Upgrade) { u.Rings = nil }, "twice": func(u *Upgrade) { u.Rings = []Ring{"all", "all"} }, "no ring": func(u *Upgrade) { u.Rings = []Ring{"everybody"} },
		"0%": func(u *Upgrade) { u.Rings = []Ring{"0%"} }, "101%": func(u *Upgrade) { u.Rings = []Ring{"101%"} }, "line": func(u *Upgrade) { u.Rings = []Ring{"a=b\nall"} },
		"version": func(u *Upgrade) { u.Version = "../x" }, "wait": func(u *Upgrade) { u.Wait = time.Second }, "soak": func(u *Upgrade) { u.Soak = -1 }, "timeout": func(u *Upgrade) { u.Timeout = 0 }, "failures": func(u *Upgrade) { u.MaxFailures = -1 },
	} {
		u := upgradeOf("all")
		if change(&u); u.Check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
