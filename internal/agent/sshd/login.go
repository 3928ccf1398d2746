package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/proc"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

// Desk is where a visitor of the self-test is received: the part of the agent that
// answers sshd and PAM.
type Desk interface {
	// Receive makes the visitor's name known to the name service, and answers for it
	// until leave is called: to the one process of sshd that the visit names, for
	// the one certificate, and to nobody else.
	Receive(v Visitor) (leave func() Asked, err error)
}

// Visitor is somebody who exists for one login of the self-test.
type Visitor struct {
	Login       string
	ObjectID    string
	Certificate []byte // in SSH's wire form
	Daemon      proc.Process
	// Preview: PAM asks who it is, in a child of Daemon, and no certificate is shown.
	// Refused: the desk must say no to this one.
	Preview, Refused bool
}

// Asked is what sshd and PAM asked the desk about a visitor.
type Asked struct {
	Principals, Account, Session bool // Principals: or who it is, in the preview
}

// Started is a program that Config.Start started.
type Started struct {
	Process proc.Process
	// Wait ends the program, should it still run, and returns what it wrote.
	Wait func() []byte
}

// Seat names the desk. It is called once, before anything else.
func (w *Wiring) Seat(d Desk) { w.desk = d }

const (
	visitTime   = 10 * time.Second
	searchTime  = 20 * time.Second
	visitorLife = 2 * time.Minute
)

// SelfTest shows that local people can still log in, and that somebody of the
// directory can: a login through the whole of sshd, the name service and PAM as
// they are configured now. It opens nothing: see visit.
func (w *Wiring) SelfTest(ctx context.Context, want Wanted) error {
	if w.cfg.Try != nil {
		if err := w.cfg.Try(ctx); err != nil {
			return err
		}
	}
	if w.cfg.Start == nil || w.desk == nil {
		return nil
	}
	p, err := w.parts()
	if err != nil {
		return err
	}
	c, err := w.candidate()
	if err != nil {
		return err
	}
	p.manner.preview = want.Preview
	err = w.visit(ctx, p, c)
	if err == nil || !errors.Is(err, errRefused) {
		return err
	}
	return w.reason(ctx, p, c, err)
}

// errRefused is the end of a visit that sshd or PAM refused.
var errRefused = errors.New("refused")

func failedTest(cause error, format string, args ...any) error {
	return fault.Wrap(cause, fault.Conflict, codeSelfTest, format, args...).WithRemedy("Correct that, then set the extension again.")
}

// visit logs in once as it must succeed, and once as it must not.
//
// Nothing is opened by it. The sshd is a process of its own that this one has
// started, on one connection of which both ends are ours; it reads the machine's
// configuration as it is but for one word, the file of the trusted CA, which is a
// key that was made a moment ago and is forgotten with this call. The sshd that
// listens never trusts that key, and the desk answers for the visitor to this one
// process only.
func (w *Wiring) visit(ctx context.Context, p parts, c candidate) error {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	_, authority, err := ed25519.GenerateKey(w.cfg.Rand)
	if err != nil {
		return err
	}
	ca, err := ssh.NewSignerFromSigner(authority)
	if err != nil {
		return err
	}
	folder := w.at(probeFolder)
	if err := c.write(folder, ca.PublicKey()); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := w.enter(ctx, p, ca, true); err != nil {
		return err
	}
	// The login name is a principal of the second certificate, and the object id is
	// not: it opens the account where the principals command is not asked.
	if err := w.enter(ctx, p, ca, false); !errors.Is(err, errRefused) {
		if err != nil {
			return err
		}
		if p.manner.preview {
			return failedTest(nil, "sshd let in somebody whom Sallyport refused: the auth phase of %s/sshd does not end with Sallyport's answer", pamFolder)
		}
		return failedTest(nil, "sshd let in a certificate that does not name the account's object id: its principals are not asked of Sallyport")
	}
	return nil
}

// enter makes one connection. proper: with the certificate that the desk expects.
func (w *Wiring) enter(ctx context.Context, p parts, ca ssh.Signer, proper bool) (err error) {
	login, err := guid.New(w.cfg.Rand)
	if err != nil {
		return err
	}
	objectID, err := guid.New(w.cfg.Rand)
	if err != nil {
		return err
	}
	principals := []string{login, objectID}
	signer, blob, err := w.visitorKey(ca, principals)
	if err == nil && !proper {
		signer, _, err = w.visitorKey(ca, principals[:1])
	}
	if err != nil {
		return err
	}
	ours, theirs, err := pair(ctx)
	if err != nil {
		return err
	}
	defer ours.Close()
	started, err := w.cfg.Start(ctx, theirs, p.sshd, "-i", "-e", "-o", "LogLevel=VERBOSE", "-f", w.at(probeFolder)+"/sshd_config")
	if err = errors.Join(err, theirs.Close()); err != nil {
		return fmt.Errorf("self-test: start sshd: %w", err)
	}
	leave, err := w.desk.Receive(Visitor{Login: login, ObjectID: objectID, Certificate: blob, Daemon: started.Process, Preview: p.manner.preview, Refused: p.manner.preview && !proper})
	if err != nil {
		return errors.Join(err, ours.Close())
	}
	said, err := talk(ctx, ours, login, p.manner.proof(signer))
	_ = ours.Close() // sshd ends by itself then
	log := started.Wait()
	asked := leave()
	r := &refusal{asked: asked, log: visible(log), said: said, cause: err}
	if err != nil || r.pam() {
		return r
	}
	switch {
	case !proper:
		return nil
	case !asked.Principals && p.manner.preview:
		return failedTest(nil, "sshd let the self-test in although PAM did not ask Sallyport who it is: the auth phase of %s/sshd is not reached", pamFolder)
	case !asked.Principals:
		return failedTest(nil, "sshd let the self-test in without asking Sallyport whom the certificate may name")
	case !asked.Account:
		return failedTest(nil, "sshd let the self-test in although PAM did not ask Sallyport: the account phase of %s/sshd is not reached", pamFolder)
	}
	return nil
}

// visitorKey makes a key and a certificate of it, which forces a command that does
// nothing.
func (w *Wiring) visitorKey(ca ssh.Signer, principals []string) (ssh.Signer, []byte, error) {
	_, key, err := ed25519.GenerateKey(w.cfg.Rand)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, KeyId: "self-test", Serial: 1, ValidPrincipals: principals,
		ValidAfter: uint64(now.Add(-visitorLife).Unix()), ValidBefore: uint64(now.Add(visitorLife).Unix()),
		Permissions: ssh.Permissions{CriticalOptions: map[string]string{"force-command": "exit 0"}}}
	if err := cert.SignCert(w.cfg.Rand, ca); err != nil {
		return nil, nil, err
	}
	s, err := ssh.NewCertSigner(cert, signer)
	return s, cert.Marshal(), err
}

// pair makes a TCP connection of this process with itself, so that sshd sees the
// addresses of a connection. Whoever else connects to the port is not it.
func pair(ctx context.Context) (net.Conn, *os.File, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("self-test: %w", err)
	}
	defer l.Close()
	var d net.Dialer
	ours, err := d.DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return nil, nil, fmt.Errorf("self-test: %w", err)
	}
	for range 16 {
		theirs, err := l.Accept()
		if err != nil {
			return nil, nil, errors.Join(err, ours.Close())
		}
		if theirs.RemoteAddr().String() != ours.LocalAddr().String() {
			_ = theirs.Close()
			continue
		}
		f, err := theirs.(*net.TCPConn).File()
		if err = errors.Join(err, theirs.Close()); err != nil {
			return nil, nil, errors.Join(err, ours.Close())
		}
		return ours, f, nil
	}
	return nil, nil, errors.Join(errors.New("self-test: others took its connection"), ours.Close())
}

// proof is how the visitor logs in.
func (m manner) proof(key ssh.Signer) func(*strings.Builder) ssh.AuthMethod {
	return func(shown *strings.Builder) ssh.AuthMethod {
		if !m.preview {
			return ssh.PublicKeys(key)
		}
		return ssh.KeyboardInteractive(func(_, instruction string, questions []string, _ []bool) ([]string, error) {
			shown.WriteString(instruction)
			return make([]string, len(questions)), nil
		})
	}
}

// talk is the visitor's ssh: it shows the certificate or presses Enter, opens a session and runs the
// command. Its status does not matter, only that there is one: a ForceCommand of
// the machine's own runs in its stead. said is what sshd showed before the end.
func talk(ctx context.Context, conn net.Conn, login string, proof func(shown *strings.Builder) ssh.AuthMethod) (said string, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	var shown strings.Builder
	cfg := &ssh.ClientConfig{User: login, Auth: []ssh.AuthMethod{proof(&shown)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // the other end is a process that this one has started
		BannerCallback:  func(text string) error { shown.WriteString(text); return nil }}
	c, channels, requests, err := ssh.NewClientConn(conn, "self-test", cfg)
	if err != nil {
		return shown.String(), err
	}
	client := ssh.NewClient(c, channels, requests)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return shown.String(), err
	}
	session.Stdin = bytes.NewReader(nil)
	session.Stdout = io.Discard
	err = session.Run("exit 0")
	var exit *ssh.ExitError
	if errors.As(err, &exit) && exit.Signal() == "" {
		err = nil
	}
	return shown.String(), err
}

// refusal is a visit that was refused, with everything that tells why.
type refusal struct {
	asked Asked
	log   string // sshd's
	said  string // to the visitor
	cause error
}

// pam reports whether the session phase failed. sshd goes on then, and ends the
// session with a status of its own instead of running anything.
func (r *refusal) pam() bool { return strings.Contains(r.log, "pam_open_session()") }

func (r *refusal) Error() string {
	return fmt.Sprintf("the login of the self-test was refused: %v; sshd said: %s", r.cause, r.log)
}
func (r *refusal) Unwrap() []error { return []error{errRefused, r.cause} }

// visible keeps the end of a log, as one line of printable characters.
func visible(log []byte) string {
	var lines []string
	for l := range strings.Lines(string(log)) {
		if l = firstLine([]byte(l)); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-12):], "; ")
}
