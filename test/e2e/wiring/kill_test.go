//go:build e2e

package wiring

import (
	"fmt"
	"strings"
	"testing"
)

// saved copies what the agent changes, so that each death begins from the same.
const (
	save    = `mkdir -p /saved/%[1]s && rsync -aAX --delete /etc/ /saved/%[1]s/etc/ && rsync -aAX --delete /var/lib/sallyport/ /saved/%[1]s/state/`
	restore = `rm -f /var/filler; rsync -aAXc --delete /saved/%[1]s/etc/ /etc/ && rsync -aAXc --delete /saved/%[1]s/state/ /var/lib/sallyport/`
)

func (b *box) save(name string)    { b.t.Helper(); b.must(fmt.Sprintf(save, name)) }
func (b *box) restore(name string) { b.t.Helper(); b.must(fmt.Sprintf(restore, name)) }

// prepared is a machine with four saved states: off and on, each with the snapshot
// that wants it so, and each with the snapshot that wants the other.
func prepared(b *box) (off, on string) {
	b.t.Helper()
	b.join()
	off = b.picture()
	a := b.agent()
	if _, ok := a.state(); !ok {
		b.t.Fatal("no agent")
	}
	a.say("off")
	b.save("off")
	if st := a.say("on"); st.Provisioned != "Succeeded" {
		b.t.Fatalf("%+v\n%s", st, b.must("tail -50 /run/agent.log"))
	}
	on = b.picture()
	b.save("on")
	a.kill()
	// The snapshot of one with the files of the other.
	b.must(`cd /saved && cp -a off install && cp -a on remove && cp -a on/state/root/held.json install/state/root/held.json && cp -a off/state/root/held.json remove/state/root/held.json`)
	return off, on
}

// steps are the numbered steps from one of the saved states, in order. The last
// state is that of the whole change.
func (b *box) steps(from string) []string {
	b.t.Helper()
	b.restore(from)
	b.must(": > /run/agent.log")
	a := b.agent()
	if st, ok := a.state(); !ok || st.Extension != (from == "install") {
		b.t.Fatalf("%s: %+v", from, st)
	}
	a.kill()
	return strings.Split(b.must(`sed -n 's/^step [0-9]*: //p' /run/agent.log`), "\n")
}

// taken reports whether a system tries a step. Each system takes a third of those
// before anything is in force, of which there is one for every file, and all others.
func (b *box) taken(k int, step string) bool {
	early := strings.HasPrefix(step, "1 keep") || strings.HasPrefix(step, "3 stage")
	return !early || suites[k%len(suites)] == b.suite
}

// TestWiring_KilledAtEveryStep: the agent dies by SIGKILL at each numbered step of
// an installation and of a removal. A local key login works at once, and after the
// next start /etc is what it was, or all of what it was to become.
func TestWiring_KilledAtEveryStep(t *testing.T) {
	eachSystem(t, func(t *testing.T, b *box) {
		off, on := prepared(b)
		for _, from := range []string{"install", "remove"} {
			ends := map[string]int{}
			for k, step := range b.steps(from) {
				if !b.taken(k, step) {
					continue
				}
				b.restore(from)
				a := b.agent(fmt.Sprintf("KILL_AT=%d", k+1))
				if _, alive := a.state(); alive {
					t.Fatalf("%s: it did not die at step %d, %s", from, k+1, step)
				}
				when := fmt.Sprintf("%s, killed at step %d, %s", from, k+1, step)
				b.oneComesIn(when)
				b.must("tester agent recover")
				ends[b.whole(when, off, on)]++
			}
			b.localsComeIn(from)
			t.Logf("%s: %v", from, ends)
			if ends["off"] == 0 || ends["on"] == 0 {
				t.Errorf("%s: %v: one of the two was never reached", from, ends)
			}
		}
	})
}

// whole fails unless /etc is one of the two, and says which.
func (b *box) whole(when, off, on string) string {
	b.t.Helper()
	switch after := b.picture(); after {
	case on:
		return "on"
	case off:
		return "off"
	default:
		b.t.Fatalf("%s: /etc is neither:\nto off:\n%s\nto on:\n%s", when, difference(off, after), difference(on, after))
		return ""
	}
}

// TestWiring_FullDiskAtEveryStep: the disk fills at a numbered step, to the last
// block. A local key login works, then and after a start on the full disk, which
// leaves /etc whole; with room again the machine gets where it should. Each system
// takes its share of the steps.
func TestWiring_FullDiskAtEveryStep(t *testing.T) {
	eachSystem(t, func(t *testing.T, b *box) {
		off, on := prepared(b)
		for _, from := range []string{"install", "remove"} {
			for k, step := range b.steps(from) {
				if suites[k%len(suites)] != b.suite {
					continue
				}
				b.restore(from)
				a := b.agent(fmt.Sprintf("FULL_AT=%d", k+1))
				_, alive := a.state()
				a.kill()
				when := fmt.Sprintf("%s, disk full at step %d, %s", from, k+1, step)
				if !alive {
					t.Fatalf("%s: the agent died", when)
				}
				b.oneComesIn(when)
				_, _ = b.sh("test -e /var/filler && tester agent recover")
				b.whole(when, off, on)
				b.must("rm /var/filler")
			}
			a := b.agent()
			if st, ok := a.state(); !ok || st.Extension != (from == "install") {
				t.Fatalf("%s with room again: %+v", from, st)
			}
			a.kill()
			b.localsComeIn(from)
		}
	})
}
