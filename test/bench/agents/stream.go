package agents

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Frames of HTTP/2 (RFC 9113 section 6), those that are used.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8

	flagEndStream  = 1
	flagAck        = 1
	flagEndHeaders = 4

	frameHeader = 9
	frameMax    = 16384 // what a receiver must take at least
	window      = 1 << 26
	answerMax   = 64 << 20
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// stream is one HTTP/2 connection with one request at a time.
type stream struct {
	conn      *tls.Conn
	reader    *bufio.Reader
	authority string
	next      uint32
}

// open begins HTTP/2 on a connection whose ALPN has chosen it.
func open(conn *tls.Conn, authority string) (*stream, error) {
	s := &stream{conn: conn, reader: bufio.NewReaderSize(conn, 512), authority: authority, next: 1}
	// SETTINGS_ENABLE_PUSH = 0, SETTINGS_INITIAL_WINDOW_SIZE; then the connection's window.
	settings := binary.BigEndian.AppendUint32([]byte{0, 2, 0, 0, 0, 0, 0, 4}, window)
	b := appendFrame([]byte(preface), frameSettings, 0, 0, settings)
	b = appendFrame(b, frameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, window))
	_, err := conn.Write(b)
	return s, err
}

func appendFrame(b []byte, kind, flags byte, id uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	b = binary.BigEndian.AppendUint32(b, id)
	return append(b, payload...)
}

// literal appends a header field without indexing whose name has a number in the
// static table (RFC 7541 section 6.2.2, appendix A).
func literal(b []byte, name int, value string) []byte {
	if name < 15 {
		b = append(b, byte(name))
	} else {
		b = append(b, 15, byte(name-15))
	}
	if len(value) < 127 {
		b = append(b, byte(len(value)))
	} else {
		b = append(b, 127, byte(len(value)-127)) // values here are shorter than 255
	}
	return append(b, value...)
}

// post sends a request and returns the body of its answer, which must be 200.
func (s *stream) post(path string, body []byte) ([]byte, error) {
	id := s.next
	s.next += 2
	headers := []byte{0x83, 0x87}       // :method POST, :scheme https
	headers = literal(headers, 4, path) // :path
	headers = literal(headers, 1, s.authority)
	headers = literal(headers, 28, strconv.Itoa(len(body)))
	headers = literal(headers, 31, "application/json")
	b := appendFrame(nil, frameHeaders, flagEndHeaders, id, headers)
	if len(body) > frameMax {
		return nil, errors.New("the request is too long for one frame")
	}
	b = appendFrame(b, frameData, flagEndStream, id, body)
	if _, err := s.conn.Write(b); err != nil {
		return nil, err
	}
	return s.answer(id)
}

// answer reads frames until the answer of one stream is whole.
func (s *stream) answer(id uint32) ([]byte, error) {
	var body []byte
	ok, got := false, 0
	for {
		var h [frameHeader]byte
		if _, err := io.ReadFull(s.reader, h[:]); err != nil {
			return nil, err
		}
		n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		kind, flags, on := h[3], h[4], binary.BigEndian.Uint32(h[5:])&0x7fffffff
		if n > frameMax || len(body)+n > answerMax {
			return nil, fmt.Errorf("a frame of %d bytes", n)
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(s.reader, payload); err != nil {
			return nil, err
		}
		switch {
		case kind == frameSettings && flags&flagAck == 0:
			if _, err := s.conn.Write(appendFrame(nil, frameSettings, flagAck, 0, nil)); err != nil {
				return nil, err
			}
		case kind == framePing && flags&flagAck == 0:
			if _, err := s.conn.Write(appendFrame(nil, framePing, flagAck, 0, payload)); err != nil {
				return nil, err
			}
		case kind == frameGoAway || kind == frameReset && on == id:
			return nil, fmt.Errorf("the server ends the stream: %x", payload)
		case kind == frameHeaders && on == id:
			ok = status200(payload)
		case kind == frameData && on == id:
			body = append(body, payload...)
			got += n
		}
		if on != id || kind != frameHeaders && kind != frameData || flags&flagEndStream == 0 {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("the server refuses: %.300s", body)
		}
		if got == 0 {
			return body, nil
		}
		_, err := s.conn.Write(appendFrame(nil, frameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(got))))
		return body, err
	}
}

// status200 reports whether a header block begins with :status 200 of the static
// table, behind changes of the table's size (RFC 7541 section 6.3), which the
// server makes once, to less than 31.
func status200(block []byte) bool {
	for len(block) > 0 && block[0]&0xe0 == 0x20 {
		block = block[1:]
	}
	return len(block) > 0 && block[0] == 0x88
}
