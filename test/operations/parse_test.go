package operations

import (
	"fmt"
	"regexp"
	"strings"
)

// Step is one command of the documentation and what it must print.
type Step struct {
	Document string // set by who reads several
	Line     int    // of the command in the document
	Chapter  string
	Computer string // which one runs it; "" is the first
	Root     bool   // "# " rather than "$ "
	Command  string
	Expect   []string // in this order, each a fragment; "..." stands for anything
	Exit     string   // "0", or what "exit status N" says
	// Word, where set, makes the command's output the meaning of this word in
	// the steps that follow. It is written in a comment that readers do not see.
	Word string
}

var (
	directive = regexp.MustCompile(`^<!-- (computer|word): *(.*?) *-->$`)
	status    = regexp.MustCompile(`^exit status (\d+)$`)
	word      = regexp.MustCompile(`^([A-Z][A-Z_-]+) = (.+)$`)
)

// Parse reads the steps of a document. Commands stand in fenced blocks of the
// language "console"; a command anywhere else that looks like a block is an
// error, because nobody would run it.
func Parse(text string) ([]Step, error) {
	p := parser{}
	for i, line := range strings.Split(text, "\n") {
		if err := p.line(i+1, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if p.fence != "" {
		return nil, fmt.Errorf("the last block has no end")
	}
	return p.steps, nil
}

type parser struct {
	steps             []Step
	chapter, computer string
	fence             string // language of the block that is open, "-" without one, "" outside
	open              bool   // the last line of a command ended in a backslash
}

func (p *parser) line(n int, line string) error {
	switch {
	case strings.HasPrefix(line, "```"):
		return p.border(strings.TrimPrefix(line, "```"))
	case p.fence == "console":
		return p.console(n, line)
	case p.fence != "":
		if strings.HasPrefix(line, "$ ") || strings.HasPrefix(line, "# ") && p.fence == "-" {
			return fmt.Errorf("a command in a block that is not ```console is run by nobody")
		}
		return nil
	case strings.HasPrefix(line, "## "):
		p.chapter = strings.TrimPrefix(line, "## ")
	case strings.HasPrefix(line, "    $ "), strings.HasPrefix(line, "    # "):
		return fmt.Errorf("an indented command is run by nobody; use a ```console block")
	case strings.HasPrefix(line, "<!-- computer:"), strings.HasPrefix(line, "<!-- word:"):
		return p.directive(n, line)
	}
	return nil
}

func (p *parser) border(language string) error {
	switch {
	case p.fence == "":
		p.fence, p.open = language, false
		if language == "" {
			p.fence = "-"
		}
	case language != "":
		return fmt.Errorf("a block begins inside another")
	case p.open:
		return fmt.Errorf("the block ends within a command")
	default:
		p.fence = ""
	}
	return nil
}

func (p *parser) directive(n int, line string) error {
	m := directive.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("this comment is no directive")
	}
	if m[1] == "computer" {
		p.computer = m[2]
		return nil
	}
	w := word.FindStringSubmatch(m[2])
	if w == nil {
		return fmt.Errorf("a word is written <!-- word: NAME = command -->")
	}
	p.steps = append(p.steps, Step{Line: n, Chapter: p.chapter, Computer: p.computer, Root: true, Command: w[2], Exit: "0", Word: w[1]})
	return nil
}

func (p *parser) console(n int, line string) error {
	if p.open {
		last := &p.steps[len(p.steps)-1]
		last.Command += "\n" + line
		p.open = strings.HasSuffix(line, "\\")
		return nil
	}
	if command, ok := strings.CutPrefix(line, "# "); ok {
		p.begin(n, command, true)
		return nil
	}
	if command, ok := strings.CutPrefix(line, "$ "); ok {
		p.begin(n, command, false)
		return nil
	}
	if strings.TrimSpace(line) == "" {
		return nil
	}
	if len(p.steps) == 0 {
		return fmt.Errorf("output without a command")
	}
	last := &p.steps[len(p.steps)-1]
	if m := status.FindStringSubmatch(line); m != nil {
		last.Exit = m[1]
		return nil
	}
	last.Expect = append(last.Expect, line)
	return nil
}

func (p *parser) begin(n int, command string, root bool) {
	p.steps = append(p.steps, Step{Line: n, Chapter: p.chapter, Computer: p.computer, Root: root, Command: command, Exit: "0"})
	p.open = strings.HasSuffix(command, "\\")
}

// Matches says which expected fragment an output lacks; "" when it has all of
// them in their order.
func (s Step) Matches(output string) (missing string) {
	rest := output
	for _, line := range s.Expect {
		for _, fragment := range strings.Split(line, "...") {
			fragment = strings.TrimSpace(fragment)
			at := strings.Index(rest, fragment)
			if at < 0 {
				return fragment
			}
			rest = rest[at+len(fragment):]
		}
	}
	return ""
}
