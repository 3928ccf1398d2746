//go:build e2e

package wiring

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

// drift is something that somebody changes after the installation.
type drift struct {
	name string
	make string
	read []string // words that alice reads; nil: sshd refuses her without a sentence
	says []string // words of doctor and of the event
}

func drifts() []drift {
	const sentence = "no longer protects directory accounts"
	return []drift{
		{"sshd's PAM lines removed", "sed -i '/allyport/d' /etc/pam.d/sshd", nil, []string{"/etc/pam.d/sshd:"}},
		{"a PAM line before ours", "sed -i '1i account sufficient pam_permit.so' /etc/pam.d/sshd", nil, []string{"/etc/pam.d/sshd:"}},
		{"sudo's PAM line removed", "sed -i '/pam_sallyport/d' /etc/pam.d/sudo", []string{sentence, "/etc/pam.d/sudo:", "sally agent doctor"}, []string{"/etc/pam.d/sudo:", "is missing or was changed"}},
		{"the name service forgets us", "sed -i 's/ sallyport//' /etc/nsswitch.conf", nil, []string{"/etc/nsswitch.conf:"}},
		{"a Match before ours", "printf 'Match User *\\n  AuthorizedKeysFile .ssh/authorized_keys\\n' > /etc/ssh/sshd_config.d/00-a.conf", []string{sentence, "/etc/ssh/sshd_config.d/00-a.conf:2"}, []string{"authorizedkeysfile", "/etc/ssh/sshd_config.d/00-a.conf:2"}},
		{"UsePAM no", "sed -i 's/^UsePAM.*/UsePAM no/' /etc/ssh/sshd_config; " + hup, nil, []string{"UsePAM no (/etc/ssh/sshd_config:"}},
		{"our block removed", "rm /etc/ssh/sshd_config.d/00-sallyport.conf; " + hup, nil, []string{"/etc/ssh/sshd_config.d/00-sallyport.conf is gone"}},
		{"another CA", "cat /root/.ssh/id.pub >> /etc/ssh/sallyport_user_ca.pub", []string{sentence, "/etc/ssh/sallyport_user_ca.pub:"}, []string{"/etc/ssh/sallyport_user_ca.pub:"}},
		{"the sudo rule changed", "echo '%#2147483640 ALL=(ALL) NOPASSWD: ALL' >> /etc/sudoers.d/sallyport", []string{sentence, "/etc/sudoers.d/sallyport:"}, []string{"/etc/sudoers.d/sallyport:"}},
		{"a file of ours for everybody to change", "chmod 0666 /etc/ssh/sallyport_user_ca.pub", []string{sentence, "can be changed by others than root"}, []string{"/etc/ssh/sallyport_user_ca.pub can be changed", "chmod go-w"}},
		{"the PAM module removed", "rm " + library("security/pam_sallyport.so"), nil, []string{"pam_sallyport.so is not installed"}},
		{"the name service module removed", "rm " + library("libnss_sallyport.so.2"), nil, []string{"libnss_sallyport.so.2 is not installed"}},
		{"the principals command removed", "rm /usr/libexec/sallyport-principals", nil, []string{"sallyport-principals is not installed"}},
	}
}

func library(name string) string { return "$(ls /lib/*-linux-gnu*/" + name + " | head -1)" }

// prompt is how long after a change people are refused, or let in again, on a
// computer with nothing else to do.
const prompt = 30 * time.Second

// TestWiring_Drift: what somebody changes after the installation closes the
// directory's accounts, says where in a sentence, in doctor and in an event, and
// is not written over; local people never notice; undone, all is as before.
func TestWiring_Drift(t *testing.T) {
	eachSystem(t, func(t *testing.T, b *box) {
		b.join()
		a := b.agent()
		if _, ok := a.state(); !ok {
			t.Fatal("no agent")
		}
		if st := a.say("on"); st.Provisioned != "Succeeded" {
			t.Fatalf("%+v", st)
		}
		b.aliceComesIn("installed")
		b.must("rsync -aAX --delete /etc/ /saved-etc/; cp -a /usr/libexec/sallyport-principals " + library("security/pam_sallyport.so") + " " + library("libnss_sallyport.so.2") + " /root/")
		for _, d := range drifts() {
			t.Run(d.name, func(t *testing.T) { d.try(t, b.in(t)) })
		}
	})
}

func (d drift) try(t *testing.T, b *box) {
	t.Helper()
	b.must(": > /run/agent.log; " + d.make)
	changed := b.picture()
	start := time.Now()
	for {
		out, err := b.alice()
		// A connection that sshd loses when it starts anew is no refusal.
		lost := strings.Contains(out, "Connection refused") || strings.Contains(out, "kex_exchange_identification")
		if err != nil && !lost && contains(out, d.read) {
			break
		}
		if time.Since(start) > crowdtest.Limit(prompt) {
			t.Fatalf("alice is not refused so: %v\n%s\n%s", err, out, b.must("cat /run/agent.log"))
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("refused after %s", time.Since(start).Round(10*time.Millisecond))
	b.localsComeIn(d.name)
	out, err := b.sh("sally agent doctor")
	if err == nil || !contains(out, d.says) {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	if reason := b.must("grep -h '\"drift.fail\"' -r /var/lib/sallyport/root | tail -1"); !contains(reason, d.says[:1]) {
		t.Errorf("the event says: %s", reason)
	}
	if now := b.picture(); now != changed {
		t.Errorf("the agent wrote over it:\n%s", difference(changed, now))
	}
	b.must("rsync -aAXc --delete /saved-etc/ /etc/; cp -a /root/sallyport-principals /usr/libexec/; for f in pam_sallyport.so:/security/ libnss_sallyport.so.2:/; do for d in /lib/*-linux-gnu*; do [ ! -d $d/security ] || [ -e $d${f#*:}${f%%:*} ] || cp -a /root/${f%%:*} $d${f#*:}; done; done; " + hup)
	for start = time.Now(); ; {
		out, err := b.alice()
		if err == nil {
			break
		}
		if time.Since(start) > crowdtest.Limit(prompt) {
			t.Fatalf("undone, and alice does not get in: %v\n%s\n%s", err, out, b.must("cat /run/agent.log"))
		}
	}
	healed := b.must("grep -h '\"drift.heal\"' -r /var/lib/sallyport/root | tail -1")
	if !contains(healed, d.says[:1]) {
		t.Errorf("the end is not told: %s", healed)
	}
}

func contains(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
