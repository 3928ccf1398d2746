//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// Programs that fork without end. Each says in a file that it goes on. The first
// fills the table up to a limit, the second leaves session and parent at each
// step, the third is its own child again and again and is never there for long.
const bombs = `cat >~/plain.sh <<'X'
>~/alive
while :; do sh ~/plain.sh & done 2>/dev/null
X
cat >~/setsid.sh <<'X'
>~/alive
setsid -f sh ~/setsid.sh 2>/dev/null
setsid -f sh ~/setsid.sh 2>/dev/null
X
cat >~/hop.sh <<'X'
>"$1"
setsid -f sh "$0" "$1"
X
echo planted`

// TestLive_ForkBombs: what forks without pause ends with the part of a person that
// it belongs to, be it one session or what the administrator's role gave; what is
// not concerned goes on, and the machine's own people work meanwhile. On every
// system, with systemd and without.
func TestLive_ForkBombs(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		for _, on := range []struct{ machine, backend string }{{"sd-", nspawn}, {"net-", netns}} {
			t.Run(on.backend, func(t *testing.T) {
				m := machineOn(t, on.machine+system, platform{system, on.backend})
				p := newUser(t, "bomb-"+on.backend+"-"+system)
				role := grant(t, roleAdmin, p.name, m.id)
				grant(t, roleUser, p.name, m.id)
				allowedSoon(t, p, m)
				b := &bombed{vm: m, person: p, own: certificate(t, p)}
				if r := m.ssh(p.name, b.own.options(), bombs); !strings.Contains(r.out, "planted") {
					t.Fatalf("%s", r)
				}
				out := strings.Fields(m.ssh(p.name, b.own.options(), "id -u; pwd").out)
				b.uid, b.home = out[0], out[1]
				stays := m.client(t, "exec", p.name, b.own.options(), "echo began; sleep 361")
				if on.backend == nspawn {
					b.goesOn(t, stays)
				}
				b.session(t)
				b.elevated(t, role)
				if stays.over() {
					t.Errorf("what is not concerned ended: %s", stays.text())
				}
			})
		}
	})
}

type bombed struct {
	*vm
	*person
	own       identity
	uid, home string
}

// oneBomb lets one machine burn at a time: what is measured is the machine.
var oneBomb sync.Mutex

// burns waits until a bomb goes on, and shows that the machine's own people work
// beside it.
func (b *bombed) burns(t *testing.T, file string) {
	t.Helper()
	if err := until(limitEnd, func() error {
		return b.root(t, "rm -f "+file+"; i=0; until [ -e "+file+" ]; do i=$((i+1)); [ $i -lt 2000 ] || exit 1; done").failure()
	}); err != nil {
		t.Fatal(err)
	}
}

// over waits until nothing writes the file any more and only what stays is left.
// On a busy computer a step of a bomb takes longer, and so does the look.
func (b *bombed) over(t *testing.T, file string, stays ...string) {
	t.Helper()
	began := time.Now()
	if err := until(limitEnd, func() error {
		left := b.remains(t, b.uid)
		for _, gone := range []string{"plain.sh", "setsid", "hop.sh"} {
			if strings.Contains(left, gone) {
				return fmt.Errorf("it goes on: %s", left)
			}
		}
		for _, s := range stays {
			if !strings.Contains(left, s) {
				t.Fatalf("%s ended, too: %s", s, left)
			}
		}
		return b.root(t, fmt.Sprintf("rm -f %s; sleep %.1f; [ ! -e %s ]", file, min(crowded(300*time.Millisecond), 3*time.Second).Seconds(), file)).failure()
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("over %s after the command's answer", time.Since(began).Round(time.Millisecond))
}

// goesOn: what the agent stops is there and writable for it, and what a killed
// agent left stopped goes on with the next one.
func (b *bombed) goesOn(t *testing.T, stays *running) {
	t.Helper()
	if err := until(limitEnd, func() error {
		if !strings.Contains(stays.text(), "began") {
			return fmt.Errorf("the session has not begun: %s", stays.text())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	file := "/sys/fs/cgroup/user.slice/user-" + b.uid + ".slice/cgroup.freeze"
	b.mustRoot(t, `test -w /proc/$(systemctl show -P MainPID sallyport-agent-root)/root`+file+` && echo 1 >`+file+` && systemctl kill -s KILL sallyport-agent-root`)
	if err := until(limitEnd, func() error { return wants(b.root(t, "cat "+file), "0") }); err != nil {
		t.Errorf("a stopped slice: %v", err)
	}
}

// session ends one session that three bombs run in. The limit holds those that
// grow, and they may die of it; the one that does not grow begins before it.
func (b *bombed) session(t *testing.T) {
	oneBomb.Lock()
	defer oneBomb.Unlock()
	bomb := b.client(t, "pty", b.person.name, append(b.own.options(), "-tt"), "sh ~/hop.sh ~/alive; ulimit -u 100; sh ~/setsid.sh; sh ~/plain.sh & echo began; sleep 362")
	id := ""
	if err := until(limitEnd, func() error {
		all, err := sessionsOf(t, b.vm, b.person)
		for _, l := range all {
			if l.Properties.Kind == "pty" {
				id = l.Name
			}
		}
		if err == nil && id == "" {
			err = fmt.Errorf("listed are %+v\n%s", all, bomb.text())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.burns(t, b.home+"/alive")
	b.must(t, "session", "end", id)
	select {
	case <-bomb.gone:
	case <-time.After(crowded(limitEnd)):
		t.Fatalf("the session goes on: %s", bomb.text())
	}
	says(t, bomb.text(), "this session was ended by an administrator")
	b.over(t, b.home+"/alive", "sleep 361")
}

// elevated takes the administrator's role away, with which bombs run as root.
// These do not grow: no limit of a person's holds root.
func (b *bombed) elevated(t *testing.T, role string) {
	oneBomb.Lock()
	defer oneBomb.Unlock()
	bomb := b.client(t, "pty", b.person.name, append(b.own.options(), "-tt"), `sudo sh -c "sh `+b.home+`/hop.sh /run/burns; sh `+b.home+`/hop.sh /run/burns"; echo began; sleep 363`)
	b.burns(t, "/run/burns")
	admin(t).must(t, "role", "assignment", "delete", "--ids", role)
	bomb.reads(t, "your administrator role on this machine was removed")
	b.over(t, "/run/burns", "sleep 361", "sleep 363")
	if bomb.over() {
		t.Error("the plain session ended")
	}
}
