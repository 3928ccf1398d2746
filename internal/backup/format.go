package backup

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"sallyport/internal/fault"
)

// Format is the version of the plain text that this build writes and reads.
const Format = 1

// Kind says what a file holds.
type Kind string

// The kinds. No file holds both: whoever finds one has not found the other.
const (
	Data Kind = "data" // everything in the store: who exists, roles, hashes, audit; no private key
	Keys Kind = "keys" // the key folder
)

// Header is the beginning of a file.
type Header struct {
	Format          int       `json:"format"`
	Kind            Kind      `json:"kind"`
	ID              string    `json:"id"`    // GUID of the run; data and keys of one run share it
	Build           string    `json:"build"` // version of sally
	Tenant          string    `json:"tenant"`
	ManifestPin     string    `json:"manifestPin"` // thumbprint of the manifest key
	Epoch           int64     `json:"epoch"`
	ManifestVersion int64     `json:"manifestVersion"`
	Position        int64     `json:"position"` // of the change feed
	At              time.Time `json:"at"`
	Migrations      []string  `json:"migrations,omitempty"` // schema files that the rows were written under
}

// Summary is what a file was found to hold.
type Summary struct {
	Tables int   `json:"tables"`
	Rows   int64 `json:"rows"`
}

// A file is frames: one byte that says which, the length of the payload in four
// bytes, big-endian, and the payload.
const (
	frameHeader  = 'H' // JSON of Header
	frameTable   = 'T' // JSON of table
	frameRow     = 'R' // the values of a row of that table
	frameTrailer = 'Z' // JSON of Summary
)

// maxFrame bounds one frame: no row of the store comes near it.
const maxFrame = 64 << 20

// maxColumns bounds what a table may have.
const maxColumns = 256

type table struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
}

// The types of values in a row.
const (
	valueNull   = 0
	valueInt    = 1
	valueText   = 2
	valueBinary = 3
)

// frames writes the plain text.
type frames struct {
	out     *bufio.Writer
	current table
	seen    map[string]bool
	found   Summary
	buf     []byte
}

func newFrames(w io.Writer, h Header) (*frames, error) {
	f := &frames{out: bufio.NewWriterSize(w, 64<<10), seen: map[string]bool{}}
	return f, f.document(frameHeader, h)
}

func (f *frames) document(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.frame(kind, b)
}

func (f *frames) frame(kind byte, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("a row of %d bytes is larger than a backup can hold", len(payload))
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))) //nolint:gosec // bounded above
	if _, err := f.out.Write(head); err != nil {
		return err
	}
	_, err := f.out.Write(payload)
	return err
}

// row writes one row, and before the first of a table what the table is.
func (f *frames) row(name string, columns []string, values []any) error {
	if len(values) != len(columns) {
		return fmt.Errorf("table %s: %d values for %d columns", name, len(values), len(columns))
	}
	if f.found.Tables == 0 || f.current.Name != name {
		if f.seen[name] {
			return fmt.Errorf("the rows of table %s do not come together", name)
		}
		f.seen[name] = true
		f.current = table{Name: name, Columns: slices.Clone(columns)}
		f.found.Tables++
		if err := f.document(frameTable, f.current); err != nil {
			return err
		}
	} else if !slices.Equal(f.current.Columns, columns) {
		return fmt.Errorf("table %s has other columns than a row before", name)
	}
	var err error
	if f.buf, err = appendRow(f.buf[:0], values); err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	f.found.Rows++
	return f.frame(frameRow, f.buf)
}

func (f *frames) end() error {
	if err := f.document(frameTrailer, f.found); err != nil {
		return err
	}
	return f.out.Flush()
}

func appendRow(b []byte, values []any) ([]byte, error) {
	text := func(kind byte, n int) { b = binary.BigEndian.AppendUint32(append(b, kind), uint32(n)) } //nolint:gosec // maxFrame bounds the whole
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			b = append(b, valueNull)
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, valueInt), uint64(v)) //nolint:gosec // bits, not a number
		case string:
			if len(v) > maxFrame {
				return nil, errors.New("a text is too long")
			}
			text(valueText, len(v))
			b = append(b, v...)
		case []byte:
			if len(v) > maxFrame {
				return nil, errors.New("a value is too long")
			}
			text(valueBinary, len(v))
			b = append(b, v...)
		default:
			return nil, fmt.Errorf("a value is a %T", v)
		}
	}
	return b, nil
}

func errDamaged(format string, args ...any) error {
	return fault.New(fault.Invalid, "BackupDamaged", "the backup cannot be used: %s", fmt.Sprintf(format, args...)).
		WithRemedy("Nothing was changed. Take another copy of the file, or an older backup.")
}

// parser reads the plain text.
type parser struct {
	in      *bufio.Reader
	current table
	seen    map[string]bool
	found   Summary
	buf     []byte
}

func newParser(r io.Reader) (*parser, Header, error) {
	p := &parser{in: bufio.NewReaderSize(r, 64<<10), seen: map[string]bool{}}
	var h Header
	kind, payload, err := p.frame()
	if err != nil {
		return nil, h, err
	}
	if kind != frameHeader || json.Unmarshal(payload, &h) != nil {
		return nil, h, errDamaged("it does not begin as a backup")
	}
	if h.Format != Format {
		return nil, h, fault.New(fault.Invalid, "BackupFormat", "the backup has format %d, this build reads format %d", h.Format, Format).WithRemedy("Use the sally that wrote it: %s.", printable(h.Build))
	}
	if h.Kind != Data && h.Kind != Keys || h.ID == "" || h.Tenant == "" || h.ManifestPin == "" || h.Epoch < 1 || h.ManifestVersion < 1 || h.Position < 0 || h.At.IsZero() {
		return nil, h, errDamaged("its header lacks something")
	}
	return p, h, nil
}

// printable bounds what a foreign text can do to a message.
func printable(text string) string {
	out := []rune{}
	for _, r := range text {
		if r > ' ' && r <= '~' && len(out) < 40 {
			out = append(out, r)
		}
	}
	return string(out)
}

// frame reads one frame; the payload is valid until the next.
func (p *parser) frame() (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return 0, nil, readError(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, errDamaged("a part of it claims %d bytes", n)
	}
	// The buffer grows with what is there, not with what is claimed.
	p.buf = p.buf[:0]
	for len(p.buf) < int(n) {
		step := min(int(n)-len(p.buf), 1<<20)
		at := len(p.buf)
		p.buf = slices.Grow(p.buf, step)[:at+step]
		if _, err := io.ReadFull(p.in, p.buf[at:]); err != nil {
			return 0, nil, readError(err)
		}
	}
	return head[0], p.buf, nil
}

// readError tells a file that ends from one that cannot be read.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged("it is cut off")
	}
	if fault.Is(err, fault.Invalid) {
		return err
	}
	return fault.Wrap(err, fault.Invalid, "BackupDamaged", "the backup cannot be used: it was altered or cut off, or its disk has a fault").
		WithRemedy("Nothing was changed. Take another copy of the file, or an older backup.")
}

// rows calls put with every row up to the trailer, and checks that nothing
// follows. Neither slice may be kept; texts and bytes in values may.
func (p *parser) rows(put func(table string, columns []string, values []any) error) (Summary, error) {
	for {
		kind, payload, err := p.frame()
		if err != nil {
			return p.found, err
		}
		switch kind {
		case frameTable:
			if err := p.table(payload); err != nil {
				return p.found, err
			}
		case frameRow:
			values, err := parseRow(payload, len(p.current.Columns))
			if err != nil || p.found.Tables == 0 {
				return p.found, errDamaged("a row is malformed")
			}
			p.found.Rows++
			if err := put(p.current.Name, p.current.Columns, values); err != nil {
				return p.found, err
			}
		case frameTrailer:
			return p.found, p.trailer(payload)
		default:
			return p.found, errDamaged("it has a part that this build does not know")
		}
	}
}

func (p *parser) table(payload []byte) error {
	var t table
	if json.Unmarshal(payload, &t) != nil || t.Name == "" || len(t.Columns) == 0 || len(t.Columns) > maxColumns || p.seen[t.Name] {
		return errDamaged("a table is malformed or there twice")
	}
	p.seen[t.Name] = true
	p.current = t
	p.found.Tables++
	return nil
}

func (p *parser) trailer(payload []byte) error {
	var claimed Summary
	if json.Unmarshal(payload, &claimed) != nil || claimed != p.found {
		return errDamaged("rows are missing")
	}
	// This also makes age look at its last chunk.
	if _, err := p.in.ReadByte(); err == nil {
		return errDamaged("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		return readError(err)
	}
	return nil
}

var errRow = errors.New("malformed row")

func parseRow(b []byte, columns int) ([]any, error) {
	values := make([]any, 0, columns)
	for len(values) < columns {
		if len(b) == 0 {
			return nil, errRow
		}
		kind := b[0]
		b = b[1:]
		switch kind {
		case valueNull:
			values = append(values, nil)
		case valueInt:
			if len(b) < 8 {
				return nil, errRow
			}
			values = append(values, int64(binary.BigEndian.Uint64(b))) //nolint:gosec // bits, not a number
			b = b[8:]
		case valueText, valueBinary:
			if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
				return nil, errRow
			}
			n := int(binary.BigEndian.Uint32(b))
			body := b[4 : 4+n]
			b = b[4+n:]
			if kind == valueText {
				values = append(values, string(body))
			} else {
				values = append(values, slices.Clone(body))
			}
		default:
			return nil, errRow
		}
	}
	if len(b) != 0 {
		return nil, errRow
	}
	return values, nil
}
