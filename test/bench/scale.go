package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	scaleStarts    = 3
	scaleQuestions = 200
)

// scale is a server on a large company's store: how long it takes to start, what
// it holds in memory, and how long it takes to say who may log in to a machine.
func (b *bench) scale(ctx context.Context) ([]Row, error) {
	if b.world != nil && b.world.server != nil {
		return nil, errors.New("it runs before the other server is up")
	}
	w := &world{dir: b.path("scale"), top: b.top, cache: b.cache}
	defer func() { stop(w.server) }()
	if err := errors.Join(os.Mkdir(w.dir, 0o711), w.startServer(ctx), w.people()); err != nil {
		return nil, err
	}
	stop(w.server)
	machine, err := b.fill(ctx, w)
	if err != nil {
		return nil, err
	}
	var starts []float64
	for range scaleStarts {
		begin := time.Now()
		if err := w.restart(ctx); err != nil {
			return nil, err
		}
		starts = append(starts, time.Since(begin).Seconds())
		if len(starts) < scaleStarts {
			stop(w.server)
		}
	}
	held, err := memoryOf(w.server.Process.Pid)
	if err != nil {
		return nil, err
	}
	ms, people, err := w.who(ctx, machine)
	if err != nil {
		return nil, err
	}
	company := "1,000,000 role assignments, 200,000 users, 20,000 groups, 100,000 machines with identities and extensions in 10,000 resource groups"
	return []Row{
		{Name: "server start on a large company", Measured: fmt.Sprintf("%.1f s", median(starts)), Bar: "<= 20 s", Verdict: atMost(median(starts), 20),
			Note: fmt.Sprintf("median of %d, from the start of the process to /readyz; %s; SQLite", scaleStarts, company)},
		{Name: "its memory", Measured: held.String(), Verdict: "-", Note: "resident, right after the start"},
		{Name: "who may log in to one of its machines", Measured: fmt.Sprintf("%.2f ms", median(ms)), Bar: "<= 5 ms", Verdict: atMost(median(ms), 5),
			Note: fmt.Sprintf("median of %d whole HTTPS requests on one connection, p99 %.2f ms; the answer names %d entries", scaleQuestions, quantile(ms, 0.99), people)},
	}, nil
}

// fill stores the company as the server's uid and returns one machine's id.
func (b *bench) fill(ctx context.Context, w *world) (string, error) {
	program := w.path("fill")
	if _, err := output(exec.CommandContext(ctx, "go", "build", "-C", b.top, "-o", program, "./test/bench/fill")); err != nil {
		return "", err
	}
	return output(daemon(serverUID, program, w.path("server")))
}

// restart starts the server that startServer has set up, without a lab.
func (w *world) restart(ctx context.Context) error {
	w.server = daemon(serverUID, w.sally, "server", "run", "--state", w.path("server"), "--listen", fmt.Sprintf("127.0.0.1:%d", w.port))
	if err := errors.Join(logTo(w.server, w.path("server.log")), w.server.Start()); err != nil {
		return err
	}
	return said(until(ctx, 2*time.Minute, func() error {
		_, err := w.manifest()
		return err
	}), w.path("server.log"))
}

// who asks who may log in to a machine, over and over.
func (w *world) who(ctx context.Context, machine string) (ms []float64, entries int, err error) {
	token, err := w.run("account", "get-access-token", "--query", "accessToken", "-o", "tsv")
	if err != nil {
		return nil, 0, err
	}
	config, err := w.trust()
	if err != nil {
		return nil, 0, err
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
	for range scaleQuestions {
		begin := time.Now()
		body, err := get(ctx, client, w.url+machine+"/providers/Sallyport.Access/whoCanLogIn?api-version=2026-11-01", token)
		if err != nil {
			return nil, 0, err
		}
		ms = append(ms, float64(time.Since(begin).Microseconds())/1000)
		entries = strings.Count(body, `"roleAssignmentId"`)
	}
	return ms, entries, nil
}

// get asks with a token and reads the whole answer.
func get(ctx context.Context, client *http.Client, url, token string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return string(body), err
}
