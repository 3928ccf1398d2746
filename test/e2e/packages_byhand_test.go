//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// byHand takes the agent off as docs/troubleshooting.md says for one that is broken:
// who is logged in, the package, and the package without its script. What the
// machine was is kept aside, for what follows.
func byHand(t *testing.T, m *vm, p *person, before string) {
	t.Helper()
	m.apt(t, "install sallyport-agent")
	m.mustSuper(t, "systemctl enable --now sallyport-agent-root sallyport-agent")
	allowedSoon(t, p, m)
	steps := handbookSteps(t, "### By hand")
	want := []string{"who -u", "kill PID", "apt remove --purge sallyport-agent", "systemctl disable --now sallyport-agent sallyport-agent-root", "/usr/lib/sallyport/unwire",
		"rm /var/lib/dpkg/info/sallyport-agent.prerm", "dpkg --purge sallyport-agent"}
	if strings.Join(steps, "\n") != strings.Join(want, "\n") {
		t.Fatalf("the page has other steps, which this test does not know: %q", steps)
	}
	key := certificate(t, p)
	session := exec.Command("ssh", append([]string{"-tt", "-F", "none", "-p", m.port, "-l", p.name, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"}, append(key.options(), m.host)...)...)
	input, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()
	t.Cleanup(func() { _ = input.Close(); _ = session.Process.Kill() })
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(p.name) + ` .* (\d+) \S+$`)
	// A session that has just ended may still be listed, so each that is gets its end.
	listed := false
	if err := until(limitGrant, func() error {
		r := m.super(steps[0])
		for _, found := range line.FindAllStringSubmatch(r.out, -1) {
			listed = m.super(strings.ReplaceAll(steps[1], "PID", found[1])).code == 0 || listed
		}
		select {
		case <-ended:
			return nil
		default:
			return fmt.Errorf("%s's session goes on: %s", p.name, r)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if !listed {
		t.Fatal("the session ended before who -u named it")
	}
	m.mustSuper(t, "tar -C / -cf /root/machine.tar etc/sallyport var/lib/sallyport; printf '#!/bin/sh\\nexit 1\\n' >/var/lib/dpkg/info/sallyport-agent.prerm")
	if r := m.super("yes | " + steps[2]); r.code == 0 {
		t.Fatalf("removed although its script fails: %s", r)
	}
	for _, step := range steps[3:] {
		m.mustSuper(t, step)
	}
	if after := m.mustSuper(t, wiredFiles); after != before {
		t.Fatalf("something is left or lost: %s", difference(before, after))
	}
	m.mustSuper(t, "! ls -d /etc/sallyport/machine.json /lib/*-linux-gnu/libnss_sallyport.so.2 2>/dev/null; tar -C / -xf /root/machine.tar; rm /root/machine.tar")
}

// handbookSteps are the commands below a heading of the troubleshooting page.
func handbookSteps(t *testing.T, heading string) (list []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(page), "\n"+heading+"\n")
	if !found {
		t.Fatalf("the page has no %s", heading)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	for line := range strings.Lines(part) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok {
			list = append(list, command)
		}
	}
	return list
}
