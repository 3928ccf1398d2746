package operations

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"sallyport/internal/route"
)

// object is a JSON object; encoding/json sorts its keys, which makes the
// document the same each time.
type object map[string]any

// Document returns the OpenAPI 3.1.1 description of rows, indented JSON. The
// same rows give the same bytes. Where a row names no body type, the body is
// described by its media type alone.
func Document(rows []route.Row, serverURL string) ([]byte, error) {
	paths, schemas := object{}, newSchemas()
	for _, row := range rows {
		path, parameters, err := pathOf(row)
		if err != nil {
			return nil, err
		}
		item, found := paths[path].(object)
		if !found {
			item = object{}
			if len(parameters) > 0 {
				item["parameters"] = parameters
			}
			paths[path] = item
		}
		method := strings.ToLower(row.Method)
		if item[method] != nil {
			return nil, fmt.Errorf("rows %s and another both answer %s %s", row.ID, row.Method, path)
		}
		item[method] = operation(row, schemas)
	}
	document := object{
		"openapi": "3.1.1",
		"info": object{"title": "Sallyport", "version": "1",
			"description": "Everything that this server answers. OAuth 2.0, Azure Resource Manager and Microsoft Graph have Azure's paths, shapes and error codes; what Azure lacks is in the namespace Sallyport.Access. " +
				"Literal path segments of Resource Manager match in any case."},
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"paths":             paths,
		"components":        object{"schemas": schemas.named, "responses": errorResponses(), "securitySchemes": securitySchemes()},
	}
	if serverURL != "" {
		document["servers"] = []object{{"url": serverURL}}
	}
	return json.MarshalIndent(document, "", "  ")
}

// pathOf translates a row's pattern. OpenAPI has no variable of several
// segments; such a one bears an extension that says so.
func pathOf(row route.Row) (string, []object, error) {
	var parameters []object
	segments := strings.Split(strings.TrimPrefix(row.Pattern, "/"), "/")
	for i, s := range segments {
		name, isVar := strings.CutPrefix(s, "{")
		if !isVar {
			if strings.ContainsAny(s, "{}") {
				return "", nil, fmt.Errorf("row %s: segment %q is neither literal nor variable", row.ID, s)
			}
			continue
		}
		name = strings.TrimSuffix(name, "}")
		name, several := strings.CutSuffix(name, "...")
		p := object{"name": name, "in": "path", "required": true, "schema": object{"type": "string", "minLength": 1}}
		if several {
			p["description"] = "One or more path segments; the slashes between them are not encoded."
			p["x-sallyport-segments"] = "several"
		}
		parameters = append(parameters, p)
		segments[i] = "{" + name + "}"
	}
	return "/" + strings.Join(segments, "/"), parameters, nil
}

func operation(row route.Row, schemas *schemas) object {
	tag, _, _ := strings.Cut(row.ID, ".")
	op := object{"operationId": row.ID, "tags": []string{tag}, "description": describe(row), "security": security(row),
		"responses": responses(row, schemas), "x-sallyport-door": doorName(row.Door), "x-sallyport-limiter": row.Limiter}
	if row.Action != "" {
		op["x-sallyport-action"] = row.Action
	}
	if parameters := queryOf(row); len(parameters) > 0 {
		op["parameters"] = parameters
	}
	if b := requestBody(row, schemas); b != nil {
		op["requestBody"] = b
	}
	return op
}

// queryOf describes what a row reads of its query, and the conditions on what it
// writes: another one is refused.
func queryOf(row route.Row) []object {
	var out []object
	names := row.DirectoryOptions()
	if row.Surface == route.ARM {
		out = append(out, object{"name": "api-version", "in": "query", "required": false, "schema": object{"type": "string"}, "description": "Azure's version of the interface, a date."})
		names = append(row.Options(), row.Parameters()...)
	}
	for _, name := range names {
		out = append(out, object{"name": name, "in": "query", "required": false, "schema": valueOf(name, row.Surface)})
	}
	if row.Conditional() {
		for name, text := range map[string]string{"If-Match": "The ETag that what is there must have, or * for any.", "If-None-Match": "* where nothing may be there."} {
			out = append(out, object{"name": name, "in": "header", "required": false, "schema": object{"type": "string"}, "description": text})
		}
		slices.SortFunc(out, func(a, b object) int {
			return strings.Compare(fmt.Sprint(a["in"], a["name"]), fmt.Sprint(b["in"], b["name"]))
		})
	}
	return out
}

// valueOf is what a query option may hold. Filters, searches and expansions have
// grammars of their own, and what is wrong in them is refused by name.
func valueOf(name string, surface route.Surface) object {
	switch name {
	case "$top":
		if surface == route.Graph {
			return object{"type": "integer", "minimum": 1, "maximum": 999}
		}
		return object{"type": "integer", "minimum": 1}
	case "$recurse", "$count", "all":
		return object{"type": "boolean"}
	case "startTime", "endTime":
		return object{"type": "string", "format": "date-time"}
	case "wait":
		return object{"type": "integer", "minimum": 0}
	case "from":
		return object{"type": "string", "enum": []string{"end"}}
	case route.SkipShutdown, route.Hibernate, route.ForceDeletion:
		return object{"type": "boolean", "enum": []bool{false}}
	}
	return object{"type": "string"}
}

func describe(row route.Row) string {
	switch {
	case row.Action != "" && row.Why != "":
		return "Needs the action " + row.Action + ": " + row.Why + "."
	case row.Action != "":
		return "Needs the action " + row.Action + "."
	}
	return "Needs no action: " + row.Why + "."
}

func doorName(d route.Door) string {
	switch d {
	case route.Public:
		return "public"
	case route.Client:
		return "client"
	case route.Caller:
		return "caller"
	case route.Machine:
		return "machine"
	case route.Closed:
	}
	return "closed"
}

// security is the proof that the door takes. A client proves itself inside the
// request, which OpenAPI has no scheme for.
func security(row route.Row) []object {
	switch row.Door {
	case route.Caller:
		if row.Surface == route.Graph {
			return []object{{"graphToken": []string{}}}
		}
		return []object{{"armToken": []string{}}}
	case route.Machine:
		return []object{{"machineKey": []string{}}}
	default:
		return []object{}
	}
}

func securitySchemes() object {
	return object{
		"armToken":   object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token for Resource Manager."},
		"graphToken": object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token for Microsoft Graph."},
		"machineKey": object{"type": "mutualTLS", "description": "The key with which the machine joined; never a bearer token."},
	}
}

func requestBody(row route.Row, schemas *schemas) object {
	if row.Method == http.MethodGet || row.Method == http.MethodHead || row.Method == http.MethodDelete {
		return nil
	}
	if row.Request != nil {
		return object{"required": true, "content": object{"application/json": object{"schema": schemas.of(row.Request)}}}
	}
	media := "application/json"
	if row.Surface == route.OAuth || row.Surface == route.Page {
		media = "application/x-www-form-urlencoded"
	}
	return object{"required": false, "content": object{media: object{"schema": object{"type": "object"}}}}
}

// refusals are the statuses that a row may refuse with, so that a reader knows
// which will not come. 500 is a fault of ours and not listed.
func refusals(row route.Row) []int {
	out := []int{http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusTooManyRequests, http.StatusServiceUnavailable}
	if row.Door != route.Public || row.Surface == route.Agent || row.Surface == route.Page {
		out = append(out, http.StatusUnauthorized, http.StatusForbidden)
	}
	if row.Door != route.Public && row.Surface != route.OAuth {
		out = append(out, http.StatusConflict, http.StatusPreconditionFailed)
	}
	return out
}

// responses: what comes when all goes well, and the surface's error for each
// refusal.
func responses(row route.Row, schemas *schemas) object {
	well := object{"description": "Success."}
	status := "2XX"
	_, file := row.Response.(route.File)
	switch {
	case file:
		well["content"] = object{"*/*": object{}}
	case row.Response != nil:
		status = "200"
		well["content"] = object{"application/json": object{"schema": schemas.of(row.Response)}}
	case row.Method == http.MethodHead || row.Request != nil: // no body
	case row.Surface == route.Page:
		well["content"] = object{"text/html": object{}}
	default:
		well["content"] = object{"application/json": object{}}
	}
	out := object{status: well}
	for _, refusal := range refusals(row) {
		out[strconv.Itoa(refusal)] = object{"$ref": "#/components/responses/" + errorName(row.Surface)}
	}
	if row.Method != http.MethodGet && row.Method != http.MethodHead {
		out["202"] = object{"description": "Begun; where there is a body or a header, it says where to ask for the end."}
		out["204"] = object{"description": "Done; there is nothing more to say."}
	}
	if row.Surface == route.Page {
		out["3XX"] = object{"description": "The next step is at another address."}
	}
	if file {
		out["304"] = object{"description": "What the client holds is what there is."}
		out["416"] = object{"description": "There is no such part of the file."}
	}
	if r, ready := row.Response.(route.Readiness); ready {
		out["503"] = object{"description": "A check is not ok.", "content": object{"application/json": object{"schema": schemas.of(r)}}}
	}
	return out
}
