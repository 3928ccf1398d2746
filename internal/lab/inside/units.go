package inside

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
)

// maxUnits bounds the unit list; it is far above what a machine runs.
const maxUnits = 32

// A unit is one line of the unit list:
//
//	KIND NAME USER CONDITION ARGV...
//
// KIND is service (restarted whenever it ends) or oneshot (repeated until it
// succeeds once). CONDITION is a path that must exist for the unit to start, or
// "-". Words are separated by blanks; there is no quoting, because there is no
// shell. Lines that begin with '#' are comments.
type unit struct {
	name, user, condition string
	oneshot               bool
	argv                  []string
}

// parseUnits reads a unit list. Units start in the order of the file.
func parseUnits(text []byte) ([]unit, error) {
	var units []unit
	seen := map[string]bool{}
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; scanner.Scan(); number++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		u, err := parseUnit(strings.Fields(line))
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", number, err)
		case seen[u.name]:
			return nil, fmt.Errorf("line %d: a second unit named %q", number, u.name)
		case len(units) == maxUnits:
			return nil, fmt.Errorf("line %d: more than %d units", number, maxUnits)
		}
		seen[u.name] = true
		units = append(units, u)
	}
	return units, scanner.Err()
}

func parseUnit(words []string) (unit, error) {
	if len(words) < 5 {
		return unit{}, fmt.Errorf("a unit is: KIND NAME USER CONDITION ARGV..., got %d words", len(words))
	}
	u := unit{name: words[1], user: words[2], condition: words[3], argv: words[4:], oneshot: words[0] == "oneshot"}
	switch {
	case !u.oneshot && words[0] != "service":
		return unit{}, fmt.Errorf("a unit's kind is service or oneshot, got %q", words[0])
	case strings.Trim(u.name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		// The name becomes part of a log file's path.
		return unit{}, fmt.Errorf("a unit's name is made of a-z, 0-9 and hyphen, got %q", u.name)
	case u.condition != "-" && !strings.HasPrefix(u.condition, "/"):
		return unit{}, fmt.Errorf("a condition is an absolute path or '-', got %q", u.condition)
	case !strings.HasPrefix(u.argv[0], "/"):
		return unit{}, fmt.Errorf("a program is an absolute path, got %q", u.argv[0])
	}
	return u, nil
}
