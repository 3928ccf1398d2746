// Package load asks one HTTPS server the same kind of question from several
// clients at once and counts the answers.
//
// Each client has one kept-alive HTTP/1.1 connection and sends its next request
// when the answer to the last one has been read: a closed loop, so that the rate
// is what the server gives and not what was asked for. Requests are bytes that
// the caller made before; the generator does as little as it can, because it
// shares the cores with what it measures. It dials loopback addresses only.
package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// bodyMax is the longest answer that is read.
const bodyMax = 1 << 20

// Config says what to ask, of whom, and for how long.
type Config struct {
	Address  string // host:port of a loopback address
	TLS      *tls.Config
	Clients  int
	Duration time.Duration
	// Next returns the whole request n of a client, or nil to end this client.
	Next func(client, n int) []byte
	// Check refuses an answer that is not what was asked for.
	Check func(client, n, status int, body []byte) error
	Now   func() time.Time
	// Busy is the status of an answer that is counted apart and not checked; 0
	// for none.
	Busy int
	// From, where set, is the loopback address that a client asks from.
	From func(client int) string
}

// Report is what happened.
type Report struct {
	Answers  int           // accepted by Check
	Elapsed  time.Duration // from the first request to the last answer
	P50, P99 time.Duration // of one question and its answer
	Busy     int           // answers with the status Busy
	BusyP99  time.Duration
	Failures int
	First    error // the first failure
}

// BusyRate is answers with the status Busy per second.
func (r Report) BusyRate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Busy) / r.Elapsed.Seconds()
}

// Rate is answers per second.
func (r Report) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Answers) / r.Elapsed.Seconds()
}

// Run opens all connections, then measures. A failed request is counted and the
// client goes on with a new connection; ten failures end the client.
func Run(ctx context.Context, cfg Config) (Report, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return Report{}, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return Report{}, fmt.Errorf("%s is not a loopback address", cfg.Address)
	}
	clients := make([]*client, cfg.Clients)
	for i := range clients {
		clients[i] = &client{cfg: cfg, number: i}
		defer clients[i].close()
		if err := clients[i].dial(ctx); err != nil {
			return Report{}, err
		}
	}
	begin := cfg.Now()
	end := begin.Add(cfg.Duration)
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() { c.loop(ctx, end) })
	}
	all.Wait()
	return sum(clients, cfg.Now().Sub(begin)), ctx.Err()
}

func sum(clients []*client, elapsed time.Duration) Report {
	report := Report{Elapsed: elapsed}
	var times, busy []time.Duration
	for _, c := range clients {
		times = append(times, c.times...)
		busy = append(busy, c.busy...)
		report.Failures += c.failures
		if report.First == nil {
			report.First = c.first
		}
	}
	slices.Sort(times)
	report.Answers = len(times)
	if n := len(times); n > 0 {
		report.P50, report.P99 = times[n/2], times[n*99/100]
	}
	slices.Sort(busy)
	report.Busy = len(busy)
	if n := len(busy); n > 0 {
		report.BusyP99 = busy[n*99/100]
	}
	return report
}

// client is one connection and what it counted.
type client struct {
	cfg      Config
	number   int
	conn     *tls.Conn
	reader   *bufio.Reader
	times    []time.Duration
	busy     []time.Duration
	failures int
	first    error
}

func (c *client) dial(ctx context.Context) error {
	plain := &net.Dialer{Timeout: 5 * time.Second}
	if c.cfg.From != nil {
		ip := net.ParseIP(c.cfg.From(c.number))
		if ip == nil || !ip.IsLoopback() {
			return fmt.Errorf("%s is not a loopback address", c.cfg.From(c.number))
		}
		plain.LocalAddr = &net.TCPAddr{IP: ip}
	}
	d := tls.Dialer{NetDialer: plain, Config: c.cfg.TLS}
	conn, err := d.DialContext(ctx, "tcp", c.cfg.Address)
	if err != nil {
		return err
	}
	c.conn = conn.(*tls.Conn)
	c.reader = bufio.NewReader(c.conn)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

func (c *client) loop(ctx context.Context, end time.Time) {
	for n := 0; c.failures < 10 && ctx.Err() == nil; n++ {
		begin := c.cfg.Now()
		if !begin.Before(end) {
			return
		}
		request := c.cfg.Next(c.number, n)
		if request == nil {
			return
		}
		status, err := c.ask(n, request)
		if err != nil {
			c.fail(ctx, err)
			continue
		}
		if took := c.cfg.Now().Sub(begin); status != 0 && status == c.cfg.Busy {
			c.busy = append(c.busy, took)
		} else {
			c.times = append(c.times, took)
		}
	}
}

func (c *client) fail(ctx context.Context, err error) {
	c.failures++
	if c.first == nil {
		c.first = err
	}
	var refused *Refused
	if errors.As(err, &refused) {
		return
	}
	c.close()
	if err := c.dial(ctx); err != nil {
		c.failures = 10
	}
}

// Refused is an answer that Check did not accept.
type Refused struct{ Err error }

func (r *Refused) Error() string { return r.Err.Error() }

func (r *Refused) Unwrap() error { return r.Err }

func (c *client) ask(n int, request []byte) (status int, err error) {
	if err := c.conn.SetDeadline(c.cfg.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, bodyMax))
	if err != nil {
		return 0, err
	}
	if err := answer.Body.Close(); err != nil {
		return 0, err
	}
	if answer.StatusCode == c.cfg.Busy {
		return answer.StatusCode, nil
	}
	if err := c.cfg.Check(c.number, n, answer.StatusCode, body); err != nil {
		return 0, &Refused{err}
	}
	return answer.StatusCode, nil
}

// Post makes the bytes of one POST request.
func Post(host, path, contentType string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nAccept: application/json\r\n\r\n", path, host, contentType, len(body))
	b.Write(body)
	return b.Bytes()
}
