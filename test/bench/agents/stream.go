package agents

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	lineMax   = 4096
	answerMax = 64 << 20
)

// stream is one connection over HTTP/1.1 with one request at a time.
type stream struct {
	conn      *tls.Conn
	reader    *bufio.Reader
	authority string
}

func open(conn *tls.Conn, authority string) *stream {
	return &stream{conn: conn, reader: bufio.NewReaderSize(conn, 512), authority: authority}
}

// post sends a request and returns the body of its answer, which must be 200.
func (s *stream) post(path string, body []byte) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, s.authority, len(body), body)
	if _, err := s.conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	return s.answer()
}

// answer reads one answer, whose length the server says.
func (s *stream) answer() ([]byte, error) {
	status, err := s.line()
	if err != nil {
		return nil, err
	}
	length, last := -1, false
	for {
		line, err := s.line()
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(value); err != nil || length < 0 || length > answerMax {
				return nil, fmt.Errorf("an answer of %q bytes", value)
			}
		case "connection":
			last = last || value == "close"
		}
	}
	if length < 0 {
		return nil, errors.New("the answer does not say its length")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(s.reader, body); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") || last {
		return nil, fmt.Errorf("the server refuses or ends the connection: %s: %.300s", status, body)
	}
	return body, nil
}

// line reads a line of the head.
func (s *stream) line() (string, error) {
	var line []byte
	for len(line) < lineMax {
		part, err := s.reader.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return strings.TrimRight(string(line), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
	return "", errors.New("a line of the answer is too long")
}
