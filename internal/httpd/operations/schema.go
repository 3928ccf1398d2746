package operations

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"sallyport/internal/route"
)

// schemas collects the JSON Schema of every named struct, by "package.Type".
type schemas struct{ named object }

func newSchemas() *schemas { return &schemas{named: object{}} }

// of returns the schema of a zero value, as encoding/json would write it.
func (s *schemas) of(v any) object { return s.schema(reflect.TypeOf(v)) }

func (s *schemas) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	case reflect.TypeFor[[]byte]():
		return nullable(object{"type": "string", "contentEncoding": "base64"})
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return nullable(s.schema(t.Elem()))
	case t.Implements(reflect.TypeFor[json.Marshaler]()):
		return object{} // it writes what it likes
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice: // nil is written as null
		return nullable(object{"type": "array", "items": s.schema(t.Elem())})
	case reflect.Array:
		return object{"type": "array", "items": s.schema(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return nullable(object{"type": "object", "additionalProperties": s.schema(t.Elem())})
	case reflect.Struct:
		return s.structure(t)
	default:
		return object{} // an interface: anything
	}
}

// structure defines a named struct once and refers to it. The name is taken
// before the fields are read, so that a type may contain itself.
func (s *schemas) structure(t reflect.Type) object {
	name := t.String()
	ref := object{"$ref": "#/components/schemas/" + name}
	if t.Name() != "" {
		if s.named[name] != nil {
			return ref
		}
		s.named[name] = object{}
	}
	properties, required := object{}, []string{}
	s.fields(t, properties, &required)
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	if t.Name() == "" {
		return schema
	}
	s.named[name] = schema
	return ref
}

// fields follows encoding/json: tags, omitempty, "-", and embedded structs
// without a tag, whose fields count as the outer one's.
func (s *schemas) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			s.fields(f.Type, properties, required)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		properties[name] = s.schema(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}

// nullable adds null to what a schema allows.
func nullable(schema object) object {
	if kind, ok := schema["type"].(string); ok {
		schema["type"] = []string{kind, "null"}
		return schema
	}
	return object{"anyOf": []object{schema, {"type": "null"}}}
}

// errorName is the response component of a surface's errors.
func errorName(surface route.Surface) string {
	switch surface {
	case route.OAuth:
		return "OAuthError"
	case route.ARM:
		return "ARMError"
	case route.Graph:
		return "GraphError"
	case route.Agent:
		return "AgentError"
	case route.Page:
	}
	return "PageError"
}

// errorResponses are the shapes that httpd renders, one for each surface.
func errorResponses() object {
	text := object{"type": "string"}
	body := func(properties object, required ...string) object {
		return object{"type": "object", "required": required, "properties": properties}
	}
	response := func(description string, schema object) object {
		return object{"description": description, "content": object{"application/json": object{"schema": schema}}}
	}
	inner := body(object{"date": text, "request-id": text, "client-request-id": text}, "date", "request-id", "client-request-id")
	return object{
		"PageError": object{"description": "A page that says what went wrong, with a correlation id.", "content": object{"text/html": object{}}},
		"OAuthError": response("RFC 6749 section 5.2 with Entra's extra fields.", body(object{"error": text, "error_description": text, "error_codes": object{"type": "array", "items": object{"type": "integer"}},
			"timestamp": text, "trace_id": text, "correlation_id": text, "suberror": text, "claims": text}, "error", "error_description", "error_codes", "timestamp", "trace_id", "correlation_id")),
		"ARMError":   response("Resource Manager's error.", body(object{"error": body(object{"code": text, "message": text, "target": text}, "code", "message")}, "error")),
		"GraphError": response("Microsoft Graph's error.", body(object{"error": body(object{"code": text, "message": text, "innerError": inner}, "code", "message", "innerError")}, "error")),
		"AgentError": response("A code and a sentence.", body(object{"code": text, "message": text, "correlationId": text}, "code", "message", "correlationId")),
	}
}
