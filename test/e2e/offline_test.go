//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// remote is a world whose server machines lose, with a machine of each system under
// systemd and one without.
type remote struct {
	*person
	front                 *front
	machines              []*vm
	alice, bob            *person
	his, other            identity      // certificates of alice and bob
	limitAdmin, limitUser time.Duration // how long what is held is good without the server
}

// TestOffline_ByRole: the server dies between a commit and its answer. Logins and
// sudo go on for as long as the tenant allows each, the status says until when and
// how old what is held is, then the sentence says why not; what happened meanwhile,
// with the agent killed in between, is in the audit log once when the server is
// back. Then the agents die between an answer and forgetting what it was about.
func TestOffline_ByRole(t *testing.T) {
	t.Parallel() // it waits, while other worlds work
	o := newRemote(t)
	o.loseAnswers(t)
	o.each(t, o.goOn)
	o.each(t, func(t *testing.T, m *vm) { o.grow(t, m) })
	if err := o.w.runServer(); err != nil {
		t.Fatal(err)
	}
	o.each(t, func(t *testing.T, m *vm) {
		if err := until(2*limitGrant, func() error { return wants(o.ssh(m, "sudo", "-n", "whoami"), "root") }); err != nil {
			t.Fatal(err)
		}
		onceInOrder(t, o.person, m, 2)
	})
	o.forgetNothing(t)
}

func newRemote(t *testing.T) *remote {
	t.Helper()
	o := &remote{}
	a, first := anotherWorld(t, func(w *world) (err error) {
		if o.front, err = newFront(w.port); err == nil {
			w.front = o.front.port()
		}
		return err
	})
	t.Cleanup(o.front.close)
	o.person, o.machines = a, []*vm{first}
	var all sync.WaitGroup
	var mu sync.Mutex
	for system := range suites {
		all.Go(func() {
			m := a.bareMachineOn(t, "away-"+system, platform{system, nspawn})
			m.extend(t)
			mu.Lock()
			defer mu.Unlock()
			o.machines = append(o.machines, m)
		})
	}
	all.Wait()
	// What happens before the one has passed, and between the two, takes longer on a
	// computer with much else to do.
	o.limitAdmin = min(crowded(time.Minute), 4*time.Minute).Truncate(time.Second)
	o.limitUser = (o.limitAdmin + o.limitAdmin/12).Truncate(time.Second)
	a.must(t, "tenant", "update", "--offline-user", o.limitUser.String(), "--offline-administrator", o.limitAdmin.String())
	o.alice, o.bob = o.somebody(t, "alice"), o.somebody(t, "bob")
	a.must(t, "role", "assignment", "create", "--role", roleAdmin, "--assignee", o.alice.name, "--scope", a.must(t, "group", "show", "-n", group, "--query", "id", "-o", "tsv"))
	o.his, o.other = o.certify(t, o.alice), o.certify(t, o.bob)
	o.each(t, func(t *testing.T, m *vm) {
		m.forgiving(t)
		allowedSoon(t, o.alice, m)
		if err := until(limitGrant, func() error {
			if r := m.root(t, "getent passwd "+o.bob.name+" && sally agent status --json"); !strings.Contains(r.out, fmt.Sprintf(`"adminStale": %d`, int(o.limitAdmin.Seconds()))) {
				return fmt.Errorf("the machine has not heard of it: %s", r)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
	return o
}

func (o *remote) somebody(t *testing.T, alias string) *person {
	t.Helper()
	p := o.w.person(alias+"@"+domain, "Copper-Harbor-41-Willow")
	o.must(t, "ad", "user", "create", "--display-name", alias, "--user-principal-name", p.name, "--password", p.password)
	if r := p.login(); r.code != 0 {
		t.Fatal(r)
	}
	return p
}

func (o *remote) certify(t *testing.T, p *person) identity {
	t.Helper()
	dir, err := os.MkdirTemp(o.w.dir, "id-")
	if err != nil {
		t.Fatal(err)
	}
	i := identity{key: newKey(t, dir), cert: dir + "/cert.pub"}
	p.must(t, "ssh", "cert", "--file", i.cert, "--public-key-file", i.key+".pub")
	return i
}

// ssh is a login of alice's.
func (o *remote) ssh(m *vm, command ...string) result {
	return m.ssh(o.alice.name, o.his.options(), command...)
}

// each does something on every machine at the same time.
func (o *remote) each(t *testing.T, do func(t *testing.T, m *vm)) {
	t.Helper()
	var all sync.WaitGroup
	for _, m := range o.machines {
		all.Go(func() { do(t, m) })
	}
	if all.Wait(); t.Failed() {
		t.FailNow()
	}
}

// loseAnswers: every machine refuses somebody, the server stores that, no machine
// hears of it, and the server is killed.
func (o *remote) loseAnswers(t *testing.T) {
	for try := 1; ; try++ {
		o.nothingWaits(t) // it would be what the lost answer is to
		before := o.heard(t)
		lost := time.Now()
		o.front.lose()
		o.each(t, func(t *testing.T, m *vm) {
			refused(t, m.ssh(o.bob.name, o.other.options(), "true"), "Azure role not assigned")
		})
		err := until(limitGrant, func() error { return o.hears(t, before) })
		if took := time.Since(lost); err == nil && took > o.limitAdmin/3 {
			err = fmt.Errorf("%s of %s are gone", took, o.limitAdmin)
		}
		if err == nil {
			break
		}
		if try == frontTries {
			t.Fatal(err)
		}
		// The answer to something else was lost, and the report waits behind it.
		o.front.find()
		if err := until(2*limitGrant, func() error { return o.hears(t, before) }); err != nil {
			t.Fatal(err)
		}
	}
	o.w.kill9()
	o.front.find()
	o.each(t, func(t *testing.T, m *vm) {
		says(t, m.mustRoot(t, "sally agent status"), "wait for the server")
	})
}

// frontTries is how often the front tries to catch what it is to catch: the
// machines say other things, too, and on a busy computer give up waiting.
const frontTries = 12

// nothingWaits returns when no machine has something that the server has not heard.
func (o *remote) nothingWaits(t *testing.T) {
	t.Helper()
	o.each(t, func(t *testing.T, m *vm) {
		if err := until(2*limitGrant, func() error {
			if r := m.root(t, "sally agent status"); r.code != 0 || strings.Contains(r.out, "wait for the server") {
				return fmt.Errorf("%s", r)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

// heard counts the server's events about bob on every machine.
func (o *remote) heard(t *testing.T) map[*vm]int {
	t.Helper()
	n := map[*vm]int{}
	for _, m := range o.machines {
		for _, r := range machineRecords(t, o.person, m) {
			if r.Detail["login"] == o.bob.name {
				n[m]++
			}
		}
	}
	return n
}

// hears says whether the server has more events about bob of every machine.
func (o *remote) hears(t *testing.T, before map[*vm]int) error {
	t.Helper()
	now := o.heard(t)
	for _, m := range o.machines {
		if now[m] <= before[m] {
			return fmt.Errorf("the server has not heard of %s on %s", o.bob.name, m.name)
		}
	}
	return nil
}

// goesOn wakes the root parts that reportsKept has stopped.
const goesOn = "pkill -CONT -f '[s]ally agent root'"

const killAgents = "pkill -KILL -f '[s]ally agent root'; pkill -KILL -f '[s]ally agent run'"

// goOn: right after the server died, also without the agents that heard it.
func (o *remote) goOn(t *testing.T, m *vm) {
	if r := o.ssh(m, "sudo", "-n", "whoami"); strings.TrimSpace(r.out) != "root" {
		t.Errorf("sudo right after the server died: %s", r)
		return
	}
	m.mustRoot(t, killAgents)
	if err := until(limitGrant, func() error { return wants(o.ssh(m, "whoami"), o.alice.name) }); err != nil {
		t.Errorf("the agent was killed without a server: %v", err)
		return
	}
	says(t, m.mustRoot(t, "sally agent status"), "s old", "logins           of users until", "sudo             of administrators until", "("+o.limitAdmin.String()+" without it)", "wait for the server")
}

// grow: what is held grows too old, for administrators first.
func (o *remote) grow(t *testing.T, m *vm) {
	for _, c := range []struct {
		command []string
		says    []string
	}{
		// One session sees the change: to begin one takes a part of what lies between the two.
		{[]string{"while sudo -n true; do sleep 1; done; exit 1"}, []string{"has not heard from the server", "grants hold for " + o.limitAdmin.String()}},
		{[]string{"true"}, []string{"grants hold for " + o.limitUser.String(), "sally agent status"}},
	} {
		if err := until(2*o.limitAdmin, func() error {
			r := o.ssh(m, c.command...)
			for _, s := range c.says {
				if r.code == 0 || !strings.Contains(r.err+r.out, s) {
					return fmt.Errorf("%s", r)
				}
			}
			return nil
		}); err != nil {
			t.Errorf("%v goes on on %s: %v", c.command, m.name, err)
			return
		}
	}
	says(t, m.mustRoot(t, "sally agent status"), "s old", "REFUSED: users", "REFUSED: administrators")
}

// forgetNothing: the server has answered, and the root part is killed before it
// has heard of it. What it did not forget it tells again, and the log has it once.
func (o *remote) forgetNothing(t *testing.T) {
	for try := 1; ; try++ {
		before := o.reportsKept(t)
		o.front.pass()
		err := until(2*limitGrant, func() error {
			for _, m := range o.machines {
				if n := highest(machineRecords(t, o.person, m)); n <= before[m] {
					return fmt.Errorf("the server of %s has heard up to %d", m.name, n)
				}
			}
			return nil
		})
		if err == nil {
			break
		}
		if try == frontTries {
			t.Fatal(err)
		}
		// What was kept told of a machine's state, and of nothing that it numbers.
		t.Logf("a report without events was kept: %v", err)
		o.each(t, func(t *testing.T, m *vm) { m.mustRoot(t, goesOn) })
	}
	o.each(t, func(t *testing.T, m *vm) {
		m.mustRoot(t, killAgents)
		if err := until(limitGrant, func() error { return wants(o.ssh(m, "whoami"), o.alice.name) }); err != nil {
			t.Error(err)
			return
		}
		onceInOrder(t, o.person, m, 0)
	})
}

// reportsKept returns when the front keeps a report of every machine and the root
// parts, which wait for the answers, are stopped. It returns the highest number
// that the server had heard of each.
func (o *remote) reportsKept(t *testing.T) map[*vm]int {
	t.Helper()
	const reported = 512 // a signed batch is longer, a question for news is not
	const patience = 20 * time.Second
	for try := 1; ; try++ {
		o.nothingWaits(t)
		before := make(map[*vm]int)
		for _, m := range o.machines {
			before[m] = highest(machineRecords(t, o.person, m))
		}
		o.front.keep()
		// Who is refused makes an event and no session: what tells of sessions may be a
		// report without events.
		o.each(t, func(t *testing.T, m *vm) {
			refused(t, m.ssh(o.bob.name, o.other.options(), "true"), "Azure role not assigned")
		})
		all := func() (err error) {
			if n := o.front.waiting(reported, patience); n < len(o.machines) {
				err = fmt.Errorf("%d of %d machines want to report", n, len(o.machines))
			}
			return err
		}
		err := until(limitGrant, all)
		if err == nil {
			o.each(t, func(t *testing.T, m *vm) { m.mustRoot(t, "pkill -STOP -f '[s]ally agent root'") })
			if err = all(); err == nil {
				return before
			}
			o.each(t, func(t *testing.T, m *vm) { m.mustRoot(t, goesOn) })
		}
		if try == frontTries {
			t.Fatal(err)
		}
		t.Logf("try %d: %v", try, err)
		o.front.pass()
	}
}

// record is an audit record of a machine's event.
type record struct {
	Type   string            `json:"type"`
	Detail map[string]string `json:"detail"`
}

func (r record) sequence() int {
	n, _ := strconv.Atoi(r.Detail["sequence"])
	return n
}

func machineRecords(t *testing.T, a *person, m *vm) (records []record) {
	t.Helper()
	r := a.run("audit", "list", "--resource", m.id, "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &records); err != nil {
		t.Errorf("%v: %.500s", err, r)
	}
	return records
}

func highest(records []record) (n int) {
	for _, r := range records {
		n = max(n, r.sequence())
	}
	return n
}

// onceInOrder: what the machine numbered is in the audit log, each number once and
// none missing, and its host key stands behind it.
func onceInOrder(t *testing.T, a *person, m *vm, aged int) {
	t.Helper()
	if err := until(2*limitGrant, func() error {
		if r := m.root(t, "sally agent status"); r.code != 0 || strings.Contains(r.out, "wait for the server") {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Error(err)
		return
	}
	records := machineRecords(t, a, m)
	seen, stale := map[int]bool{}, 0
	for _, r := range records {
		if strings.HasPrefix(r.Type, "machine.event") && r.Type != "machine.eventQueue.fail" {
			t.Errorf("%s: %v", r.Type, r.Detail)
		}
		n := r.sequence()
		if n == 0 {
			continue
		}
		if seen[n] {
			t.Errorf("%s: number %d is there twice", m.name, n)
		}
		seen[n] = true
		if r.Detail["reason"] == "stale" {
			stale++
			if r.Detail["proof"] != "hostKey" {
				t.Errorf("nobody stands behind %v", r)
			}
		}
	}
	if len(seen) != highest(records) || stale < aged {
		t.Errorf("%s: %d events up to number %d, %d refusals for age", m.name, len(seen), highest(records), stale)
	}
}
