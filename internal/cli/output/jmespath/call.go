package jmespath

import (
	"strconv"
	"strings"
)

// types is a set of argument types.
type types uint16

const (
	typeNull types = 1 << iota
	typeBool
	typeNumber
	typeString
	typeArray
	typeObject
	typeExpression
	typeNumbers // an array of numbers
	typeStrings // an array of strings
)

const typeAny = typeNull | typeBool | typeNumber | typeString | typeArray | typeObject

func (t types) String() string {
	names := [...]string{"null", "boolean", "number", "string", "array", "object", "&expression", "array of numbers", "array of strings"}
	var listed []string
	for i, name := range names {
		if t&(1<<i) != 0 {
			listed = append(listed, name)
		}
	}
	return strings.Join(listed, " or ")
}

// of returns the single type of a value.
func of(v Value) types { return 1 << v.kind }

// accepts reports whether v fits. An array of numbers or strings may be empty.
func (t types) accepts(v Value) bool {
	if t&of(v) != 0 {
		return true
	}
	return v.kind == Array && (t&typeNumbers != 0 && all(v.items, Number) || t&typeStrings != 0 && all(v.items, String))
}

func all(items []Value, k Kind) bool {
	for _, v := range items {
		if v.kind != k {
			return false
		}
	}
	return true
}

// function is one built-in: what it takes, and what it does once that is
// checked. The last parameter of a variadic one repeats.
type function struct {
	name     string
	params   []types
	variadic bool
	call     func(c call) (Value, error)
}

// argument is an expression to evaluate, or one handed over unevaluated.
type argument struct {
	node       node
	expression bool
}

type callNode struct {
	place
	function function
	args     []argument
}

// call is one invocation with arguments that fit their types. An unevaluated
// expression leaves null at its position.
type call struct {
	run  *run
	node callNode
	args []Value
}

func (c call) fault(code, format string, args ...any) error {
	return c.node.fault(code, format, args...)
}

func (n callNode) param(i int) types {
	return n.function.params[min(i, len(n.function.params)-1)]
}

// check finds at compile time what is wrong whatever the document.
func (n callNode) check() error {
	want, got := len(n.function.params), len(n.args)
	if got < want || got > want && !n.function.variadic {
		count := strconv.Itoa(want)
		if n.function.variadic {
			count = "at least " + count
		}
		return n.fault(CodeArity, "%s() takes %s, %d given", n.function.name, plural(count, want), got)
	}
	for i, a := range n.args {
		if wants := n.param(i) == typeExpression; wants != a.expression {
			return n.mismatch(i, map[bool]string{true: "an &expression", false: "a value"}[a.expression])
		}
	}
	return nil
}

func plural(count string, n int) string {
	if n == 1 {
		return count + " argument"
	}
	return count + " arguments"
}

func (n callNode) mismatch(i int, got string) error {
	return n.fault(CodeType, "argument %d of %s() is %s, not %s", i+1, n.function.name, n.param(i), got)
}

func (n callNode) eval(r *run, v Value) (Value, error) {
	if err := r.spend(1); err != nil {
		return Value{}, err
	}
	c := call{run: r, node: n, args: make([]Value, len(n.args))}
	for i, a := range n.args {
		if a.expression {
			continue
		}
		var err error
		if c.args[i], err = a.node.eval(r, v); err != nil {
			return Value{}, err
		}
		if err := r.spend(len(c.args[i].items)); err != nil {
			return Value{}, err
		}
		if !n.param(i).accepts(c.args[i]) {
			return Value{}, n.mismatch(i, c.args[i].kind.String())
		}
	}
	return n.function.call(c)
}

// sortKeys evaluates argument 1, an expression, for each element of argument 0.
// All keys are numbers or all are strings.
func (c call) sortKeys() ([]Value, error) {
	items := c.args[0].items
	keys := make([]Value, len(items))
	for i, item := range items {
		key, err := c.node.args[1].node.eval(c.run, item)
		if err != nil {
			return nil, err
		}
		if key.kind != Number && key.kind != String || key.kind != keys[0].kind && i > 0 {
			return nil, c.fault(CodeType, "the expression of %s() gives numbers only or strings only, not %s", c.node.function.name, key.kind)
		}
		keys[i] = key
	}
	return keys, nil
}
