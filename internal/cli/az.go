package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/internal/cli/client"
)

// What az does to every answer, and to errors of a kind, whatever the command.

// clientError is a mistake in the command line that az finds only when the command
// runs: its exit code is that of an error, and not of usage.
type clientError struct{ text string }

func (e clientError) Error() string { return e.text }

// azCode is az's exit code for an error: 3 where Resource Manager does not find
// something, and where a show command does not. `rest` hands answers through.
func azCode(command string, err error) int {
	var api *client.APIError
	if !errors.As(err, &api) || api.Status != http.StatusNotFound || command == "rest" {
		return exitFailure
	}
	if command == "show" || !strings.HasPrefix(api.Code, "Request_") {
		return exitNotFound
	}
	return exitFailure
}

// azShape gives every object with a Resource Manager id below a group its
// resourceGroup, as az does at any depth, and sorts keys.
func azShape(doc []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	groups(v)
	return encode(v)
}

func groups(v any) {
	switch x := v.(type) {
	case []any:
		for _, item := range x {
			groups(item)
		}
	case map[string]any:
		if g := groupIn(x); g != "" {
			x["resourceGroup"] = g
		}
		for _, member := range x {
			groups(member)
		}
	}
}

// groupIn is the group of an object's id, unless the object names one.
func groupIn(doc map[string]any) string {
	for key := range doc {
		if strings.EqualFold(key, "resourceGroup") {
			return ""
		}
	}
	id, _ := doc["id"].(string)
	parts := strings.Split(id, "/")
	if len(parts) < 9 || !strings.EqualFold(parts[3], "resourceGroups") {
		return ""
	}
	return parts[4]
}

// nulls adds the members that az's models have and the answer leaves out.
func nulls(doc map[string]any, members ...string) {
	for _, m := range members {
		if _, there := doc[m]; !there {
			doc[m] = nil
		}
	}
}

// nullsIn is nulls for a member that is an object.
func nullsIn(doc map[string]any, name string, members ...string) {
	if inner, ok := doc[name].(map[string]any); ok {
		nulls(inner, members...)
	}
}

// without drops members that az's models do not have.
func without(doc map[string]any, members ...string) {
	for _, m := range members {
		delete(doc, m)
	}
}

// azTimes writes times as Python does, which az's older models go through.
func azTimes(doc map[string]any, members ...string) {
	for _, m := range members {
		if t, err := time.Parse(time.RFC3339Nano, text(doc, m)); err == nil {
			form := "2006-01-02T15:04:05.000000-07:00"
			if t.Nanosecond() < 1000 {
				form = "2006-01-02T15:04:05-07:00"
			}
			doc[m] = t.Format(form)
		}
	}
}

// flattenDeep moves the members of "properties" up in every object below v.
func flattenDeep(v any) {
	switch x := v.(type) {
	case []any:
		for _, item := range x {
			flattenDeep(item)
		}
	case map[string]any:
		flatten(x)
		for _, member := range x {
			flattenDeep(member)
		}
	}
}
