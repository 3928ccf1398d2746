package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// first is the time from a running server and lab to the first login with a
// certificate, through the same commands as the demo.
func (b *bench) first(ctx context.Context) ([]Row, error) {
	w, err := b.need(ctx)
	if err != nil {
		return nil, err
	}
	s := w.firstLogin.Seconds()
	return []Row{{Name: "server up to the first certificate login", Measured: fmt.Sprintf("%.2f s", s), Bar: "<= 5 s", Verdict: atMost(s, 5),
		Note: "one run: password change, sign-in, group, machine, extension, role, sally ssh; the root filesystem was prepared"}}, nil
}

// system is one that machines can be.
type system struct{ name, suite, image string }

func systems() []system {
	return []system{{"debian11", "bullseye", "Debian11"}, {"debian12", "bookworm", "Debian12"}, {"debian13", "trixie", "Debian13"}}
}

// login measures the whole login on the world's machine, whose processes are all
// that is in it, and on a whole system of each kind, where logind makes a session
// of every login.
func (b *bench) login(ctx context.Context) ([]Row, error) {
	w, err := b.need(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.certificate(); err != nil {
		return nil, err
	}
	row, err := b.loginOn(ctx, w, w.host, "ssh machine true")
	rows := []Row{row}
	for _, s := range systems() {
		if err != nil {
			return nil, err
		}
		row, err = b.loginToSystem(ctx, w, s)
		rows = append(rows, row)
	}
	return rows, err
}

// loginToSystem makes a machine for the measure and stops it again: it would
// share the processors with what comes after.
func (b *bench) loginToSystem(ctx context.Context, w *world, s system) (Row, error) {
	name := "bench-" + s.name
	for _, args := range w.makeMachine(name, s.image, "Sallyport_nspawn") {
		if _, err := w.run(args...); err != nil {
			return Row{}, fmt.Errorf("sally %s %s: %w", args[0], args[1], err)
		}
	}
	h, err := w.find(name)
	if err != nil {
		return Row{}, err
	}
	// The role of the resource group reaches the new machine within a moment.
	if err := until(ctx, 20*time.Second, func() error {
		_, err := output(exec.CommandContext(ctx, "ssh", w.certified(h)...))
		return err
	}); err != nil {
		return Row{}, err
	}
	row, err := b.loginOn(ctx, w, h, "ssh machine true, "+s.name+" with systemd")
	if err != nil {
		return Row{}, err
	}
	_, err = w.run("vm", "stop", "-g", group, "-n", name)
	return row, err
}

// certified is a login with a certificate of ours.
func (w *world) certified(h host) []string {
	return w.sshTo(h, upn, "-o", "CertificateFile="+w.path("certificate/ours.pub"), "-i", w.path("ours"), "true")
}

// loginOn is the whole `ssh machine true`: a certificate of ours through the
// principals command, NSS, PAM and the agent, beside a local user's
// authorized_keys on the same sshd. Rounds are interleaved and change places.
func (b *bench) loginOn(ctx context.Context, w *world, h host, name string) (Row, error) {
	logins := [2][]string{w.sshTo(h, "azureuser", "-i", w.path("static"), "true"), w.certified(h)}
	var ms [2][]float64
	for round := range b.rounds + 3 {
		for turn := range 2 {
			who := (round + turn) % 2
			begin := time.Now()
			if _, err := output(exec.CommandContext(ctx, "ssh", logins[who]...)); err != nil {
				return Row{}, err
			}
			if round >= 3 { // the first rounds make homes and fill caches
				ms[who] = append(ms[who], float64(time.Since(begin).Microseconds())/1000)
			}
		}
	}
	ratio := median(ms[1]) / median(ms[0])
	return Row{Name: name, Measured: fmt.Sprintf("%.1f ms", median(ms[1])), Beside: fmt.Sprintf("authorized_keys %.1f ms", median(ms[0])),
		Ratio: ratio, Bar: "<= 1.05", Verdict: atMost(ratio, 1.05),
		Note: fmt.Sprintf("%d interleaved rounds; middle half %s ms and %s ms; ratio of the fastest tenths %.3f", b.rounds, spread(ms[1], "%.1f"), spread(ms[0], "%.1f"), quantile(ms[1], 0.1)/quantile(ms[0], 0.1))}, nil
}

// certificate gets one for a key of the same kind as the static user's. It lies
// apart from the key, so that ssh offers it first and nothing else.
func (w *world) certificate() error {
	if err := os.MkdirAll(w.path("certificate"), 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(w.path("ours")); err != nil {
		if _, err := output(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.path("ours"))); err != nil {
			return err
		}
	}
	_, err := w.run("ssh", "cert", "--file", w.path("certificate/ours.pub"), "--public-key-file", w.path("ours.pub"))
	return err
}

// ssh is sshTo the world's machine.
func (w *world) ssh(login string, args ...string) []string { return w.sshTo(w.host, login, args...) }

// sshTo is the arguments of plain OpenSSH, the same for everybody.
func (w *world) sshTo(h host, login string, args ...string) []string {
	base := []string{"-F", "none", "-p", strconv.Itoa(h.Port), "-l", login, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "ConnectTimeout=10",
		"-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=" + h.Principal, "-o", "UserKnownHostsFile=" + w.knownHosts(h), "-o", "GlobalKnownHostsFile=/dev/null"}
	options, command := args[:len(args)-1], args[len(args)-1]
	return append(append(append(base, options...), h.Address), command)
}

// root runs a script as root on the machine, with what it reads.
func (w *world) root(script string, input *os.File) (string, error) {
	cmd := exec.Command("ssh", w.ssh("azureuser", "-i", w.path("static"), "sudo sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"'")...)
	cmd.Stdin = input
	return output(cmd)
}

// decisionPause is the milliseconds between two checks: nobody calls sudo back to
// back, and the agent reports each decision to the server after it.
const decisionPause = 20

// decisionScript times PAM's account phase of sudo for our administrator, with
// the machine's own files and with the same files less our line.
const decisionScript = `set -eu
rm -rf /root/bench && mkdir -m 0700 /root/bench && cd /root/bench
cp -a /etc/pam.d with && cp -a with without
sed -i '/^# BEGIN Sallyport/,/^# END Sallyport/d' without/*
grep -q pam_sallyport with/sudo && ! grep -rq pam_sallyport without
cat >account && chmod 0700 account
exec ./account sudo %s %d %d /root/bench/with /root/bench/without`

// decision is what our PAM account line adds.
func (b *bench) decision(ctx context.Context) ([]Row, error) {
	w, err := b.need(ctx)
	if err != nil {
		return nil, err
	}
	program, err := b.compile("account", "-lpam")
	if err != nil {
		return nil, err
	}
	f, err := os.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out, err := w.root(fmt.Sprintf(decisionScript, upn, 300, decisionPause), f)
	if err != nil {
		return nil, err
	}
	start, again := map[string][]float64{}, map[string][]float64{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[1] != "0" {
			return nil, fmt.Errorf("PAM did not allow sudo: %s", line)
		}
		for i, into := range []map[string][]float64{start, again} {
			ns, err := strconv.ParseFloat(fields[2+i], 64)
			if err != nil {
				return nil, err
			}
			folder := fields[0][strings.LastIndexByte(fields[0], '/')+1:]
			into[folder] = append(into[folder], ns/1e6)
		}
	}
	added := median(start["with"]) - median(start["without"])
	return []Row{{Name: "PAM account decision, added", Measured: fmt.Sprintf("%.3f ms", added), Beside: fmt.Sprintf("%.3f ms without our line", median(start["without"])), Bar: "<= 0.3 ms", Verdict: atMost(added, 0.3),
		Note: fmt.Sprintf("service sudo on the machine, real agent, %d processes each, interleaved, %d ms apart; pam_start and pam_acct_mgmt; a second check on the same handle adds %.3f ms",
			len(start["with"]), decisionPause, median(again["with"])-median(again["without"]))}}, nil
}
