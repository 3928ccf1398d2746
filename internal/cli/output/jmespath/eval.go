package jmespath

import (
	"strings"

	"sallyport/internal/fault"
)

// maxSteps bounds the work of one search, counted in parts of values touched;
// what a flatten copies counts four times, for its memory. Honest queries over
// the largest accepted document stay below it.
const maxSteps = 20_000_000

// Search applies the query to v. Its errors are faults of kind Invalid.
func (q *Query) Search(v Value) (Value, error) {
	r := &run{steps: maxSteps}
	return q.root.eval(r, v)
}

// run is the state of one search: what is left of the work it may do.
type run struct{ steps int }

func (r *run) spend(n int) error {
	if r.steps -= n; r.steps < 0 {
		return fault.New(fault.Invalid, "QueryTooLarge", "this query needs too much work").WithRemedy("Select less with --query.")
	}
	return nil
}

// node is one part of a compiled expression.
type node interface {
	eval(r *run, v Value) (Value, error)
}

type (
	currentNode    struct{}
	literalNode    struct{ value Value }
	fieldNode      struct{ key string }
	chainNode      struct{ left, right node }
	orNode         struct{ left, right node }
	andNode        struct{ left, right node }
	notNode        struct{ operand node }
	flattenNode    struct{ left node }
	valuesNode     struct{ left node }
	projectionNode struct{ list, right node }
	filterNode     struct{ left, condition node }
	listNode       struct{ items []node }
	indexNode      struct {
		left  node
		index int
	}
	sliceNode struct {
		left        node
		start, stop *int
		step        int
	}
	hashNode struct {
		keys   []string
		values []node
	}
	compareNode struct {
		operator    tokenKind
		left, right node
	}
)

func (currentNode) eval(r *run, v Value) (Value, error) { return v, r.spend(1) }

func (n literalNode) eval(r *run, _ Value) (Value, error) { return n.value, r.spend(1) }

func (n fieldNode) eval(r *run, v Value) (Value, error) {
	found, _ := v.Get(n.key)
	return found, r.spend(1)
}

func (n chainNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil {
		return Value{}, err
	}
	return n.right.eval(r, left)
}

func (n orNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil || !left.falsy() {
		return left, err
	}
	return n.right.eval(r, v)
}

func (n andNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil || left.falsy() {
		return left, err
	}
	return n.right.eval(r, v)
}

func (n notNode) eval(r *run, v Value) (Value, error) {
	operand, err := n.operand.eval(r, v)
	return boolean(operand.falsy()), err
}

// eval lifts the elements of inner arrays one level up.
func (n flattenNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil || left.kind != Array {
		return Value{}, err
	}
	flat := []Value{}
	for _, item := range left.items {
		if item.kind != Array {
			flat = append(flat, item)
			continue
		}
		if err := r.spend(4 * len(item.items)); err != nil {
			return Value{}, err
		}
		flat = append(flat, item.items...)
	}
	return List(flat), r.spend(len(left.items))
}

func (n valuesNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil || left.kind != Object {
		return Value{}, err
	}
	return List(left.fields.values), nil
}

// eval applies the right side to each element and drops what gives null.
func (n projectionNode) eval(r *run, v Value) (Value, error) {
	list, err := n.list.eval(r, v)
	if err != nil || list.kind != Array {
		return Value{}, err
	}
	kept := make([]Value, 0, len(list.items))
	for _, item := range list.items {
		got, err := n.right.eval(r, item)
		if err != nil {
			return Value{}, err
		}
		if !got.IsNull() {
			kept = append(kept, got)
		}
	}
	return List(kept), nil
}

func (n filterNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil || left.kind != Array {
		return Value{}, err
	}
	kept := []Value{}
	for _, item := range left.items {
		holds, err := n.condition.eval(r, item)
		if err != nil {
			return Value{}, err
		}
		if !holds.falsy() {
			kept = append(kept, item)
		}
	}
	return List(kept), nil
}

func (n indexNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil {
		return Value{}, err
	}
	i := n.index
	if i < 0 {
		i += len(left.items)
	}
	if i < 0 || i >= len(left.items) {
		return Value{}, r.spend(1)
	}
	return left.items[i], r.spend(1)
}

// eval follows the specification's slices, which are Python's.
func (n sliceNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil || left.kind != Array {
		return Value{}, err
	}
	size := len(left.items)
	lowest, highest := 0, size
	start, stop := 0, size
	if n.step < 0 {
		lowest, highest = -1, size-1
		start, stop = size-1, -1
	}
	if n.start != nil {
		start = bound(*n.start, size, lowest, highest)
	}
	if n.stop != nil {
		stop = bound(*n.stop, size, lowest, highest)
	}
	cut := []Value{}
	for i := start; n.step > 0 && i < stop || n.step < 0 && i > stop; {
		cut = append(cut, left.items[i])
		if n.step > 0 && n.step > stop-i || n.step < 0 && n.step < stop-i {
			break
		}
		i += n.step
	}
	return List(cut), r.spend(len(cut))
}

func bound(i, size, lowest, highest int) int {
	if i < 0 {
		i += size
	}
	return min(max(i, lowest), highest)
}

func (n listNode) eval(r *run, v Value) (Value, error) {
	if v.IsNull() {
		return Value{}, nil
	}
	items := make([]Value, len(n.items))
	for i, item := range n.items {
		var err error
		if items[i], err = item.eval(r, v); err != nil {
			return Value{}, err
		}
	}
	return List(items), nil
}

func (n hashNode) eval(r *run, v Value) (Value, error) {
	if v.IsNull() {
		return Value{}, nil
	}
	f := &fields{projected: true}
	for i, key := range n.keys {
		got, err := n.values[i].eval(r, v)
		if err != nil {
			return Value{}, err
		}
		f.set(key, got)
	}
	return Value{kind: Object, fields: f}, nil
}

// eval compares. The specification orders numbers only; strings are ordered too,
// by code point, because az does and scripts rely on it. Everything else gives
// null.
func (n compareNode) eval(r *run, v Value) (Value, error) {
	left, err := n.left.eval(r, v)
	if err != nil {
		return Value{}, err
	}
	right, err := n.right.eval(r, v)
	if err != nil {
		return Value{}, err
	}
	if n.operator == tokenEqual || n.operator == tokenNotEqual {
		same, err := r.equal(left, right)
		return boolean(same == (n.operator == tokenEqual)), err
	}
	if left.kind != right.kind || left.kind != Number && left.kind != String {
		return Value{}, nil
	}
	order := compare(left, right)
	switch n.operator {
	case tokenLess:
		return boolean(order < 0), nil
	case tokenLessEqual:
		return boolean(order <= 0), nil
	case tokenGreater:
		return boolean(order > 0), nil
	default:
		return boolean(order >= 0), nil
	}
}

// compare orders two numbers or two strings.
func compare(a, b Value) int {
	if a.kind == Number {
		return compareNumbers(a.text, b.text)
	}
	return strings.Compare(a.text, b.text)
}

// equal compares deeply; the order of keys does not count.
func (r *run) equal(a, b Value) (bool, error) {
	if err := r.spend(1); err != nil || a.kind != b.kind {
		return false, err
	}
	switch a.kind {
	case Bool:
		return a.truth == b.truth, nil
	case Number, String:
		return compare(a, b) == 0, nil
	case Array:
		return r.equalLists(a.items, b.items)
	case Object:
		return r.equalFields(a, b)
	default:
		return true, nil
	}
}

func (r *run) equalLists(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := r.equal(a[i], b[i]); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *run) equalFields(a, b Value) (bool, error) {
	if len(a.fields.keys) != len(b.fields.keys) {
		return false, nil
	}
	for i, key := range a.fields.keys {
		other, ok := b.Get(key)
		if !ok {
			return false, nil
		}
		if same, err := r.equal(a.fields.values[i], other); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}
