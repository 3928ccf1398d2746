package collector

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"sallyport/internal/audit"
)

const (
	// facility is "log audit" (RFC 5424 6.2.1).
	facility = 13
	// settle is how long a stream is watched after a batch: a collector that went
	// away in the meantime has closed it, and the batch is sent again.
	settle   = 100 * time.Millisecond
	dialTime = 5 * time.Second
	// longestCut is how much is sent of a message that no datagram carries: what
	// many collectors take at most.
	longestCut = 8 << 10
)

// Syslog sends records in the form of RFC 5424, the record as JSON being the
// message: over a unix socket or UDP a datagram each (RFC 5426), over TCP and
// TLS with octet counting (RFC 6587 3.4.1, RFC 5425).
type Syslog struct {
	network, address, host string
	roots                  *tls.Config
	// rejected is told of records that a datagram could not carry whole.
	rejected func(n int64, why string)

	conn net.Conn
	gone chan struct{} // closed when the collector closed the stream
}

// NewSyslog checks the address. hostname is what the messages say; roots nil
// means those of the system.
func NewSyslog(address, hostname string, roots *x509.CertPool, rejected func(n int64, why string)) (*Syslog, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errAddress
	}
	s := &Syslog{network: u.Scheme, address: u.Host, host: hostname, rejected: rejected}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || len(u.Path) < 2 {
			return nil, errAddress
		}
		s.address = u.Path
		return s, nil
	case "tls":
		s.roots = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: u.Hostname()}
	case "tcp", "udp":
	default:
		return nil, errAddress
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 || u.Hostname() == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return nil, errAddress
	}
	return s, nil
}

// Send writes the records. It is called by one goroutine.
func (s *Syslog) Send(ctx context.Context, records []audit.Record) error {
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	err := s.write(ctx, records)
	if err == nil && s.gone != nil {
		t := time.NewTimer(settle)
		defer t.Stop()
		select {
		case <-s.gone:
			err = errors.New("the collector closed the connection")
		case <-ctx.Done():
			err = ctx.Err()
		case <-t.C:
		}
	}
	if err != nil {
		_ = s.conn.Close()
		s.conn, s.gone = nil, nil
	}
	return err
}

func (s *Syslog) write(ctx context.Context, records []audit.Record) error {
	if end, ok := ctx.Deadline(); ok {
		if err := s.conn.SetWriteDeadline(end); err != nil {
			return err
		}
	}
	var all bytes.Buffer
	for _, r := range records {
		m, err := message(r, s.host)
		if err != nil {
			return err
		}
		if s.gone == nil { // a datagram each
			if err := s.datagram(r, m); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(&all, "%d ", len(m))
		all.Write(m)
	}
	_, err := all.WriteTo(s.conn)
	return err
}

// datagram sends one message. Somebody who can make a record that no datagram
// carries, a machine that reports long facts say, must not hold up those behind
// it: such a message is cut (RFC 5424 6.1), and counted.
func (s *Syslog) datagram(r audit.Record, m []byte) error {
	_, err := s.conn.Write(m)
	if !errors.Is(err, syscall.EMSGSIZE) {
		return err
	}
	n := longestCut
	for n > 0 && !utf8.RuneStart(m[n]) {
		n--
	}
	if _, err := s.conn.Write(m[:n]); err != nil {
		return err
	}
	s.rejected(1, fmt.Sprintf("record %s/%d: %d bytes are too long for a datagram, the first %d were sent", r.Writer, r.Sequence, len(m), n))
	return nil
}

func (s *Syslog) dial(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	stream := true
	d := &net.Dialer{}
	switch s.network {
	case "unix":
		if s.conn, err = d.DialContext(ctx, "unixgram", s.address); err == nil {
			stream = false
			break
		}
		s.conn, err = d.DialContext(ctx, "unix", s.address)
	case "udp":
		s.conn, err = d.DialContext(ctx, "udp", s.address)
		stream = false
	case "tls":
		s.conn, err = (&tls.Dialer{NetDialer: d, Config: s.roots}).DialContext(ctx, "tcp", s.address)
	default:
		s.conn, err = d.DialContext(ctx, "tcp", s.address)
	}
	if err != nil {
		s.conn = nil // an interface that holds a nil pointer is not nil
		return err
	}
	if stream {
		conn, gone := s.conn, make(chan struct{})
		s.gone = gone
		go func() { // ends when either side closes
			defer close(gone)
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
	return nil
}

// message is one record as RFC 5424 has it. There is no structured data: its
// names need a number of IANA's, and the message says everything.
func message(r audit.Record, host string) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	severity := 6 // informational
	switch r.Outcome {
	case audit.Denied:
		severity = 4 // warning
	case audit.Failure:
		severity = 3 // error
	case audit.Success:
	}
	head := fmt.Sprintf("<%d>1 %s %s sallyport %s %s - ", facility*8+severity, r.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), printable(host, 255), printable(r.Writer, 128), printable(r.Type, 32))
	return append([]byte(head), body...), nil
}

// printable is a header field: visible ASCII, at most n, "-" for none.
func printable(text string, n int) string {
	out := []byte{}
	for i := range len(text) {
		if c := text[i]; c > ' ' && c <= '~' && len(out) < n {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return string(out)
}
