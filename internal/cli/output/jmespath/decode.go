package jmespath

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"sallyport/internal/fault"
)

// Limits on a document.
const (
	maxDocument = 64 << 20
	maxDepth    = 500
	maxNodes    = 5_000_000
)

// Decode parses one JSON document (RFC 8259) and keeps the order of keys and
// the text of numbers. Of a repeated key the last value counts. Its errors are
// faults of kind Invalid.
func Decode(doc []byte) (Value, error) {
	if len(doc) > maxDocument {
		return Value{}, badDocument("it is larger than %d MiB", maxDocument>>20)
	}
	if !utf8.Valid(doc) {
		return Value{}, badDocument("it is not UTF-8")
	}
	d := decoder{json: json.NewDecoder(bytes.NewReader(doc))}
	d.json.UseNumber()
	v, err := d.value(0)
	if err == nil {
		if _, err = d.json.Token(); errors.Is(err, io.EOF) {
			return v, nil
		}
		err = badDocument("something follows its end")
	}
	var public *fault.Error
	if errors.As(err, &public) {
		return Value{}, public
	}
	return Value{}, fault.Wrap(err, fault.Invalid, "InvalidJSON", "this is not JSON: error at byte %d", d.json.InputOffset())
}

func badDocument(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "InvalidJSON", "this JSON document is refused: "+format, args...)
}

type decoder struct {
	json  *json.Decoder
	nodes int
}

func (d *decoder) value(depth int) (Value, error) {
	if depth > maxDepth {
		return Value{}, badDocument("it nests deeper than %d levels", maxDepth)
	}
	if d.nodes++; d.nodes > maxNodes {
		return Value{}, badDocument("it holds more than %d values", maxNodes)
	}
	token, err := d.json.Token()
	if err != nil {
		return Value{}, err
	}
	switch t := token.(type) {
	case bool:
		return boolean(t), nil
	case json.Number:
		return number(t.String()), nil
	case string:
		return Text(t), nil
	case json.Delim:
		if t == '[' {
			return d.array(depth)
		}
		return d.object(depth)
	default:
		return Value{}, nil
	}
}

func (d *decoder) array(depth int) (Value, error) {
	items := []Value{}
	for d.json.More() {
		v, err := d.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		items = append(items, v)
	}
	_, err := d.json.Token()
	return List(items), err
}

func (d *decoder) object(depth int) (Value, error) {
	f := &fields{}
	for d.json.More() {
		key, err := d.json.Token()
		if err != nil {
			return Value{}, err
		}
		name, ok := key.(string)
		if !ok {
			return Value{}, badDocument("a key is not a string")
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		f.set(name, v)
	}
	_, err := d.json.Token()
	return Value{kind: Object, fields: f}, err
}
