//go:build e2e

package lab

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"sallyport/internal/labwire"
)

func TestLab_TwoLabsAtOnce(t *testing.T) {
	const name = "web-1" // the same in both, with the same id
	one, two := newBench(t), newBench(t)
	first, second := one.machine(machineA, name), two.machine(machineA, name)
	if first.Address != second.Address || first.Loopback == second.Loopback {
		t.Errorf("addresses %v and %v", first, second)
	}
	if first.SSHPort != second.SSHPort {
		t.Errorf("the later lab got another port: %v and %v", first, second)
	}
	one.run(one.login(first), "echo one > /root/lab; sync")
	two.run(two.login(second), "echo two > /root/lab; sync")
	if _, err := two.client.Restart(t.Context(), machineA); err != nil {
		t.Fatal(err)
	}
	for _, lab := range []struct {
		*bench
		m    labwire.Machine
		want string
	}{{one, first, "one\n"}, {two, second, "two\n"}} {
		if out, _ := lab.run(lab.login(lab.m), "cat /root/lab"); out != lab.want {
			t.Errorf("at %s: %q, want %q", lab.m.Loopback, out, lab.want)
		}
	}
}

func TestLab_AddressesTakenMeanwhile(t *testing.T) {
	b := newBench(t)
	m := b.machine(machineA, "web-1")
	b.stop()
	at := net.ParseIP(m.Loopback).To4()
	at[3] = 1
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: at, Port: 22})
	if err != nil {
		t.Fatalf("the stopped lab's octet is not free: %v", err)
	}
	out, err := exec.Command("/proc/self/exe", b.args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another lab on this computer uses 127.77.") {
		t.Errorf("started without its addresses: %v %s", err, out)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	again, err := b.client.Status(t.Context(), machineA)
	if err != nil || again != m {
		t.Errorf("it came back as %v %v, was %v", again, err, m)
	}
}
