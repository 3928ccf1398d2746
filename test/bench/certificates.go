package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/directory"
	"sallyport/test/bench/load"
)

const (
	certificateClients = 16
	certificateRounds  = 3
	certificateMax     = 16_000 // of one client in a round
)

// rival is one issuer of certificates under load.
type rival struct {
	config load.Config
	read   func(status int, body []byte) ([]byte, error) // the certificate in an answer
	before func() error                                  // untimed, at the start of each round
	rates  []float64
	last   load.Report
	issued int
	pid    int // of the server
	ticks  int // of processor time that it took in the rounds
}

// certificates is issuance over HTTPS beside step-ca: the same clients, the same
// kind of key, alternating rounds, each answer checked to be a certificate.
func (b *bench) certificates(ctx context.Context) ([]Row, error) {
	w, err := b.served(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.stepca); err != nil {
		return nil, fmt.Errorf("step-ca is not built: %w", err)
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	ours, err := w.issuer(b.seconds, public)
	if err != nil {
		return nil, err
	}
	other, err := newStepCA(ctx, b.stepca, b.path("step"))
	if err != nil {
		return nil, fmt.Errorf("step-ca: %w", err)
	}
	defer other.close()
	theirs := other.issuer(b.seconds, key)
	records, err := w.records()
	if err != nil {
		return nil, err
	}
	for round := range certificateRounds {
		pair := []*rival{ours, theirs}
		if round%2 == 1 {
			pair[0], pair[1] = pair[1], pair[0]
		}
		for _, r := range pair {
			if err := r.round(ctx, key); err != nil {
				return nil, err
			}
		}
	}
	now, err := w.records()
	if err != nil {
		return nil, err
	}
	if now-records < ours.issued {
		return nil, fmt.Errorf("%d certificates left %d audit records", ours.issued, now-records)
	}
	return []Row{compare(ours, theirs, now-records)}, nil
}

func compare(ours, theirs *rival, records int) Row {
	ratio := median(ours.rates) / median(theirs.rates)
	return Row{Name: "certificates per second, 16 clients", Measured: fmt.Sprintf("%.0f/s", median(ours.rates)), Beside: fmt.Sprintf("step-ca v0.30.2 %.0f/s", median(theirs.rates)),
		Ratio: ratio, Bar: ">= 3 (aim 5)", Verdict: atLeast(ratio, 3),
		Note: fmt.Sprintf("%d alternating rounds of %s; ours %.0f, step-ca %.0f; last round p50 %s p99 %s, step-ca p50 %s p99 %s; processor time for one certificate %.0f us, step-ca %.0f us; %d certificates of ours, %d audit records added",
			len(ours.rates), ours.config.Duration, ours.rates, theirs.rates, short(ours.last.P50), short(ours.last.P99), short(theirs.last.P50), short(theirs.last.P99), ours.cost(), theirs.cost(), ours.issued, records)}
}

// cost is microseconds of the server's processor time for one certificate: unlike
// the rate, it does not depend on what else the computer does.
func (r *rival) cost() float64 { return float64(r.ticks) * 1e6 / ticksPerSecond / float64(r.issued) }

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// round runs once. Each client's first answer is parsed whole; the others must
// have the status and hold a certificate.
func (r *rival) round(ctx context.Context, key ssh.PublicKey) error {
	if r.before != nil {
		if err := r.before(); err != nil {
			return err
		}
	}
	cfg := r.config
	cfg.Check = func(_, n, status int, body []byte) error {
		blob, err := r.read(status, body)
		if err != nil || n > 0 {
			return err
		}
		return isCertificate(blob, key)
	}
	before, err := ticksOf(r.pid)
	if err != nil {
		return err
	}
	report, err := load.Run(ctx, cfg)
	if err != nil {
		return err
	}
	after, err := ticksOf(r.pid)
	if err != nil {
		return err
	}
	r.ticks += after - before
	if report.Failures > 0 {
		return fmt.Errorf("%d of %d requests failed, the first: %w", report.Failures, report.Failures+report.Answers, report.First)
	}
	if report.Elapsed < cfg.Duration {
		return errors.New("the prepared requests did not last for the round")
	}
	r.last = report
	r.rates = append(r.rates, report.Rate())
	r.issued += report.Answers
	return nil
}

func isCertificate(blob []byte, key ssh.PublicKey) error {
	parsed, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return err
	}
	c, ok := parsed.(*ssh.Certificate)
	if !ok || c.CertType != ssh.UserCert || c.SignatureKey.Type() != ssh.KeyAlgoED25519 || !bytes.Equal(c.Key.Marshal(), key.Marshal()) {
		return fmt.Errorf("the answer is not an Ed25519 user certificate for the key: %s", parsed.Type())
	}
	return nil
}

// issuer prepares our side: sixteen people, one refresh token each.
func (w *world) issuer(duration time.Duration, public ed25519.PublicKey) (*rival, error) {
	config, err := w.trust()
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	tokens, err := w.team(client)
	if err != nil {
		return nil, err
	}
	requests := make([][]byte, certificateClients)
	for i := range requests {
		form := certificateForm(tokens[i%len(tokens)], public)
		requests[i] = load.Post(fmt.Sprintf("localhost:%d", w.port), "/organizations/oauth2/v2.0/token", "application/x-www-form-urlencoded", []byte(form.Encode()))
	}
	read := func(status int, body []byte) ([]byte, error) {
		var answer struct {
			TokenType   string `json:"token_type"`
			AccessToken []byte `json:"access_token"` // standard base64 of the certificate
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("the server answered %d: %.300s", status, body)
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, err
		}
		if answer.TokenType != "ssh-cert" || len(answer.AccessToken) == 0 {
			return nil, fmt.Errorf("the answer holds no certificate: %.300s", body)
		}
		return answer.AccessToken, nil
	}
	return &rival{read: read, pid: w.server.Process.Pid, config: load.Config{Address: fmt.Sprintf("127.0.0.1:%d", w.port), TLS: config, Clients: certificateClients, Duration: duration, Now: time.Now,
		Next: func(client, _ int) []byte { return requests[client] }}}, nil
}

// certificateForm asks for a certificate for a key.
func certificateForm(refresh string, public ed25519.PublicKey) url.Values {
	jwk := fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":"%s","kid":"bench"}`, base64.RawURLEncoding.EncodeToString(public))
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {directory.SallyCLI}, "refresh_token": {refresh}, "scope": {sshScope}, "token_type": {"ssh-cert"}, "req_cnf": {jwk}, "key_id": {"bench"}}
}

// signIn returns a refresh token of somebody.
func (w *world) signIn(client *http.Client, who string) (string, error) {
	answer, err := client.PostForm(w.url+"/organizations/oauth2/v2.0/token", url.Values{"grant_type": {"password"}, "client_id": {directory.SallyCLI},
		"username": {who}, "password": {password}, "scope": {w.url + "/arm/.default offline_access openid profile"}})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var tokens struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &tokens); err != nil || tokens.Refresh == "" {
		return "", fmt.Errorf("sign-in answered %d: %.300s", answer.StatusCode, body)
	}
	return tokens.Refresh, nil
}

// records is the number of audit records, as the server's own check counts them.
func (w *world) records() (int, error) {
	out, err := w.run("audit", "verify", "-o", "json")
	if err != nil {
		return 0, err
	}
	var verified struct {
		OK      bool `json:"ok"`
		Records int  `json:"records"`
	}
	if err := json.Unmarshal([]byte(out), &verified); err != nil || !verified.OK {
		return 0, fmt.Errorf("sally audit verify: %s", out)
	}
	return verified.Records, nil
}

// issuer prepares step-ca's side: one-time tokens, new ones for each round.
func (s *stepCA) issuer(duration time.Duration, key ssh.PublicKey) *rival {
	var requests [][]byte
	each := min(certificateMax, int(duration.Seconds()+1)*600) // about six times what one client needs
	return &rival{
		read: s.certificate,
		pid:  s.process.Process.Pid,
		before: func() (err error) {
			requests, err = s.requests(each*certificateClients, key)
			return err
		},
		config: load.Config{Address: s.address, TLS: s.tls, Clients: certificateClients, Duration: duration, Now: time.Now,
			Next: func(client, n int) []byte {
				if n >= each {
					return nil
				}
				return requests[client*each+n]
			}},
	}
}
