package handbooktest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// RestBegins is the line of the page below which its tables are made from the source.
const RestBegins = "<!-- everything below is made from the source -->\n"

// row is a sentence of the page's tables: a hole stands for any text.
type row struct {
	text    string
	first   string // what stands before the first hole
	letters int    // of what is no hole
	whole   *regexp.Regexp
}

const hole = "…"

var (
	number = regexp.MustCompile(`^AADSTS[0-9…]+: `)
	line   = regexp.MustCompile("(?m)^\\| (?:`[^`]+`)? \\| (.+) \\|$")
)

// rows are the sentences of the tables, each once.
func rows(page string) []row {
	_, rest, _ := strings.Cut(page, RestBegins)
	var list []row
	seen := map[string]bool{}
	for _, m := range line.FindAllStringSubmatch(rest, -1) {
		if text := m[1]; text != "what is said" && !seen[text] {
			seen[text] = true
			list = append(list, newRow(text))
		}
	}
	return list
}

func newRow(text string) row {
	said := number.ReplaceAllString(strings.NewReplacer(`\|`, "|", "&lt;", "<").Replace(text), "")
	pattern := strings.ReplaceAll(regexp.QuoteMeta(said), regexp.QuoteMeta(hole), ".*")
	first, _, _ := strings.Cut(said, hole)
	return row{text: text, first: first, letters: len(strings.ReplaceAll(said, hole, "")), whole: regexp.MustCompile("^(?s:" + pattern + ")$")}
}

// in reports whether what was said, and nothing else, is the row's sentence.
func (r row) in(said string) bool {
	return strings.HasPrefix(said, r.first) && r.whole.MatchString(said)
}

// best is the row that says most of what was said.
func best(list []row, said string) (row, bool) {
	said = number.ReplaceAllString(strings.ReplaceAll(said, "\n", " "), "")
	var most row
	for _, r := range list {
		if r.letters > most.letters && r.in(said) {
			most = r
		}
	}
	return most, most.letters > 0
}

// word is what stands in a log before what was said, quoted as Go does.
const word = "said: "

var (
	spoke  = regexp.MustCompile(`(?m)(?:^|: )` + word + `(".*")$`)
	marked = regexp.MustCompile(`(?m)` + mark + `([A-Za-z0-9._-]+)$`)
)

// Unheard are the sentences of a page that no test has heard, by what the tests
// wrote into their logs: those that it explains, by their ids, and the rows of its
// tables. It returns how many sentences the page has.
func Unheard(page string, logs ...string) (unheard []string, all int, err error) {
	explained, err := Parse(page)
	if err != nil {
		return nil, 0, err
	}
	table, heard := rows(page), map[string]bool{}
	for _, log := range logs {
		for _, m := range marked.FindAllStringSubmatch(log, -1) {
			heard[m[1]] = true
		}
		for _, m := range spoke.FindAllStringSubmatch(log, -1) {
			said, err := strconv.Unquote(m[1])
			if r, ok := best(table, said); err == nil && ok {
				heard[r.text] = true
			}
		}
	}
	for id := range explained {
		if !heard[id] {
			unheard = append(unheard, id)
		}
	}
	slices.Sort(unheard)
	for _, r := range table {
		if !heard[r.text] {
			unheard = append(unheard, r.text)
		}
	}
	return unheard, len(explained) + len(table), nil
}
