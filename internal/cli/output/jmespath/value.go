package jmespath

// Kind is the JSON type of a Value.
type Kind uint8

// The kinds. The zero Value is null.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// String returns the type's name in the words of the JMESPath specification.
func (k Kind) String() string {
	switch k {
	case Bool:
		return "boolean"
	case Number:
		return "number"
	case String:
		return "string"
	case Array:
		return "array"
	case Object:
		return "object"
	default:
		return "null"
	}
}

// Value is one immutable JSON value. Copies share their contents.
type Value struct {
	kind   Kind
	truth  bool
	text   string
	items  []Value
	fields *fields
}

// fields are an object's members in order. The index exists once a linear
// search would cost more than it.
type fields struct {
	keys      []string
	values    []Value
	index     map[string]int
	projected bool
}

const indexFrom = 12

// Kind returns the JSON type.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether v is null.
func (v Value) IsNull() bool { return v.kind == Null }

// Truth returns a boolean's value, and false for every other kind.
func (v Value) Truth() bool { return v.truth }

// Text returns a string's contents or a number's literal, and "" for every
// other kind.
func (v Value) Text() string { return v.text }

// Items returns an array's elements. The caller does not change them.
func (v Value) Items() []Value { return v.items }

// Keys returns an object's keys in order. The caller does not change them.
func (v Value) Keys() []string {
	if v.fields == nil {
		return nil
	}
	return v.fields.keys
}

// Values returns an object's values in the order of Keys. The caller does not
// change them.
func (v Value) Values() []Value {
	if v.fields == nil {
		return nil
	}
	return v.fields.values
}

// Get returns the value under key and whether the object has it.
func (v Value) Get(key string) (Value, bool) {
	if v.fields == nil {
		return Value{}, false
	}
	i := v.fields.find(key)
	if i < 0 {
		return Value{}, false
	}
	return v.fields.values[i], true
}

// Projected reports whether v is an object that a query built with {key: ...},
// so that the order of its keys is the person's own choice.
func (v Value) Projected() bool { return v.fields != nil && v.fields.projected }

// Text makes a string value.
func Text(s string) Value { return Value{kind: String, text: s} }

// List makes an array value, which owns items from then on.
func List(items []Value) Value { return Value{kind: Array, items: items} }

func boolean(b bool) Value { return Value{kind: Bool, truth: b} }

func number(literal string) Value { return Value{kind: Number, text: literal} }

func (f *fields) find(key string) int {
	if f.index != nil {
		if i, ok := f.index[key]; ok {
			return i
		}
		return -1
	}
	for i, k := range f.keys {
		if k == key {
			return i
		}
	}
	return -1
}

// set stores a member; a key met again keeps its place and takes the new value,
// as Python's dict does.
func (f *fields) set(key string, v Value) {
	if i := f.find(key); i >= 0 {
		f.values[i] = v
		return
	}
	f.keys, f.values = append(f.keys, key), append(f.values, v)
	if f.index != nil {
		f.index[key] = len(f.keys) - 1
		return
	}
	if len(f.keys) < indexFrom {
		return
	}
	f.index = make(map[string]int, 2*indexFrom)
	for i, k := range f.keys {
		f.index[k] = i
	}
}

// falsy follows the specification: false, null and everything empty. Zero is
// true.
func (v Value) falsy() bool {
	switch v.kind {
	case Null:
		return true
	case Bool:
		return !v.truth
	case String:
		return v.text == ""
	case Array:
		return len(v.items) == 0
	case Object:
		return len(v.fields.keys) == 0
	default:
		return false
	}
}
