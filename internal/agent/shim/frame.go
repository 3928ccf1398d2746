package shim

import (
	"encoding/binary"
	"io"

	"sallyport/internal/fault"
)

// Limits of a whole frame in bytes, per socket.
const (
	limitPAM        = 4096
	limitPrincipals = 32768
)

const (
	frameMagic  = "SP01"
	frameHeader = 8
	frameFields = 8
)

// Types of frames; numbers are for ever.
const (
	typePAMRequest        = 0x01 // phase, service, user, ruser, rhost, tty
	typePAMAllow          = 0x02 // no field
	typePAMDeny           = 0x03 // text
	typePAMPrompt         = 0x04 // text; to begin alone
	typePAMWait           = 0x05 // no field; to check alone
	typePrincipalsRequest = 0x11 // user, key id, serial, certificate in base64
	typePrincipalsOne     = 0x12 // object id
	typePrincipalsNone    = 0x13 // no field
)

// frame is one message on a socket: "SP01", type u8, number of fields u8, length
// of the whole frame u16, then per field u16 length and its bytes; big-endian.
type frame struct {
	kind   byte
	fields []string
}

func malformed(format string, args ...any) error {
	return fault.New(fault.Invalid, "ShimFrameInvalid", format, args...)
}

// encode returns the bytes of f, at most limit of them.
func (f frame) encode(limit int) ([]byte, error) {
	if len(f.fields) > frameFields {
		return nil, malformed("a frame has at most %d fields, not %d", frameFields, len(f.fields))
	}
	total := frameHeader
	for _, v := range f.fields {
		total += 2 + len(v)
	}
	if total > limit || total > 0xffff {
		return nil, malformed("a frame of %d bytes exceeds the limit of %d", total, limit)
	}
	b := make([]byte, 0, total)
	b = append(b, frameMagic...)
	b = append(b, f.kind, byte(len(f.fields)))
	b = binary.BigEndian.AppendUint16(b, uint16(total))
	for _, v := range f.fields {
		b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	return b, nil
}

// frameLength reads a header and returns the length of the whole frame.
func frameLength(header []byte, limit int) (int, error) {
	if len(header) < frameHeader || string(header[:4]) != frameMagic {
		return 0, malformed("this is not a frame of version SP01")
	}
	total := int(binary.BigEndian.Uint16(header[6:]))
	if total < frameHeader || total > limit {
		return 0, malformed("a frame cannot be %d bytes; the limit is %d", total, limit)
	}
	return total, nil
}

// parseFrame decodes exactly b.
func parseFrame(b []byte, limit int) (frame, error) {
	total, err := frameLength(b, limit)
	if err != nil {
		return frame{}, err
	}
	if total != len(b) {
		return frame{}, malformed("the frame says %d bytes and has %d", total, len(b))
	}
	f, count, rest := frame{kind: b[4]}, int(b[5]), b[frameHeader:]
	if count > frameFields {
		return frame{}, malformed("a frame has at most %d fields, not %d", frameFields, count)
	}
	for range count {
		if len(rest) < 2 {
			return frame{}, malformed("the frame ends inside a length")
		}
		n := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; len(rest) < n {
			return frame{}, malformed("the frame ends inside a field")
		}
		f.fields, rest = append(f.fields, string(rest[:n])), rest[n:]
	}
	if len(rest) != 0 {
		return frame{}, malformed("%d bytes follow the last field", len(rest))
	}
	return f, nil
}

// readFrame reads one frame and nothing after it.
func readFrame(r io.Reader, limit int) (frame, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, fault.Wrap(err, fault.Invalid, "ShimFrameInvalid", "the connection ended before a frame")
	}
	total, err := frameLength(header[:], limit)
	if err != nil {
		return frame{}, err
	}
	b := make([]byte, total)
	copy(b, header[:])
	if _, err := io.ReadFull(r, b[frameHeader:]); err != nil {
		return frame{}, fault.Wrap(err, fault.Invalid, "ShimFrameInvalid", "the connection ended inside a frame")
	}
	return parseFrame(b, limit)
}
