package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"sallyport/internal/directory"
	"sallyport/test/bench/load"
)

const (
	crew = 16 // people who ask for certificates and tokens
	// overloaded is how many times the clients that fill the server ask at once.
	overloaded = 10
)

// flood is one kind of request, from many places at once.
type flood struct {
	name     string
	fill     int // clients that keep the server busy
	requests [][]byte
}

// overload asks for ten times of what the server can do, from ten times the
// clients that fill it, each from an address of its own and none of them
// waiting: what is admitted must be answered soon, the rest refused with 429,
// and nothing may fail in another way.
func (b *bench) overload(ctx context.Context) ([]Row, error) {
	w, err := b.served(ctx)
	if err != nil {
		return nil, err
	}
	floods, err := w.floods()
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, f := range floods {
		row, err := w.flood(ctx, f, b.seconds)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// floods: certificates and tokens end in a write of the store, passwords in a
// hash, a directory page in the indexes.
func (w *world) floods() ([]flood, error) {
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
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	post := func(form url.Values) []byte {
		return load.Post(fmt.Sprintf("localhost:%d", w.port), "/organizations/oauth2/v2.0/token", "application/x-www-form-urlencoded", []byte(form.Encode()))
	}
	certificates, passwords := flood{name: "certificates", fill: 64}, flood{name: "passwords", fill: 8}
	for i, refresh := range tokens {
		certificates.requests = append(certificates.requests, post(certificateForm(refresh, public)))
		passwords.requests = append(passwords.requests, post(url.Values{"grant_type": {"password"}, "client_id": {directory.SallyCLI}, "username": {member(i)}, "password": {password},
			"scope": {w.url + "/arm/.default"}}))
	}
	return []flood{certificates, passwords}, nil
}

func (w *world) flood(ctx context.Context, f flood, duration time.Duration) (Row, error) {
	config, err := w.trust()
	if err != nil {
		return Row{}, err
	}
	ask := func(clients int) (load.Report, error) {
		report, err := load.Run(ctx, load.Config{
			Address: fmt.Sprintf("127.0.0.1:%d", w.port), TLS: config, Clients: clients, Duration: duration, Now: time.Now, Busy: http.StatusTooManyRequests,
			From: func(client int) string { return fmt.Sprintf("127.1.%d.%d", client/200, client%200+1) },
			Next: func(client, _ int) []byte { return f.requests[client%len(f.requests)] },
			Check: func(_, _, status int, body []byte) error {
				if status != http.StatusOK {
					return fmt.Errorf("the server answered %d: %.300s", status, body)
				}
				return nil
			}})
		if err == nil && report.Failures > 0 {
			err = fmt.Errorf("%d requests failed, the first: %w", report.Failures, report.First)
		}
		return report, err
	}
	full, err := ask(f.fill)
	if err != nil {
		return Row{}, err
	}
	over, err := ask(f.fill * overloaded)
	if err != nil {
		return Row{}, err
	}
	return Row{Name: "overload, " + f.name + ": p99 of what is admitted", Measured: short(over.P99), Bar: "<= 1 s, no 5xx", Verdict: atMost(over.P99.Seconds(), 1),
		Note: fmt.Sprintf("%d clients get %.0f/s with p99 %s; %d clients, none of them waiting, get %.0f/s with p50 %s p99 %s, and 429 %.0f times a second with p99 %s; nothing else",
			f.fill, full.Rate(), short(full.P99), f.fill*overloaded, over.Rate(), short(over.P50), short(over.P99), over.BusyRate(), short(over.BusyP99))}, nil
}

func member(i int) string { return fmt.Sprintf("member%d@%s", i, domain) }

// team makes the crew on first use and signs every one in.
func (w *world) team(client *http.Client) ([]string, error) {
	tokens := make([]string, crew)
	for i := range tokens {
		if !w.crewMade {
			if _, err := w.run("ad", "user", "create", "--display-name", fmt.Sprintf("Member %d", i), "--user-principal-name", member(i), "--password", password); err != nil {
				return nil, err
			}
		}
		var err error
		if tokens[i], err = w.signIn(client, member(i)); err != nil {
			return nil, err
		}
	}
	w.crewMade = true
	return tokens, nil
}
