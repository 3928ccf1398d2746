package output

import (
	"strings"

	"sallyport/internal/fault"
)

// Format is a value of --output.
type Format uint8

// The formats, in the order in which help lists them. The zero value is az's
// default.
const (
	JSON Format = iota
	JSONC
	YAML
	YAMLC
	Table
	TSV
	None
)

// Formats returns the names that ParseFormat accepts.
func Formats() []string { return []string{"json", "jsonc", "yaml", "yamlc", "table", "tsv", "none"} }

// String returns the name that ParseFormat accepts.
func (f Format) String() string {
	if names := Formats(); int(f) < len(names) {
		return names[f]
	}
	return "json"
}

// ParseFormat reads a value of --output; letters may be of either case, as in
// az. Anything else is a fault of kind Invalid that lists the allowed names.
func ParseFormat(s string) (Format, error) {
	for i, name := range Formats() {
		if strings.EqualFold(s, name) {
			return Format(i), nil
		}
	}
	return JSON, fault.New(fault.Invalid, "InvalidArgumentValue", "'%s' is not a valid value for '--output'.", CleanLine(s)).
		WithRemedy("Allowed values: %s.", strings.Join(Formats(), ", ")).WithTarget("--output")
}
