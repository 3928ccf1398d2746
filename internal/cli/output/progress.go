package output

import (
	"io"
	"sync"
	"time"
)

// Delays of the progress line: nobody needs one for a quick command.
const (
	progressDelay = 2 * time.Second
	progressTick  = 250 * time.Millisecond
)

// ProgressConfig says where and whether a progress line appears.
type ProgressConfig struct {
	// Writer is standard error.
	Writer io.Writer
	// Terminal says that Writer is a terminal; without one nothing is printed.
	Terminal bool
	// Width is the terminal's width; 80 when zero or less.
	Width int
	// After calls f once after d, as time.AfterFunc does, and returns what stops
	// it. It must not call f before it returns.
	After func(d time.Duration, f func()) (stop func() bool)
}

// Progress is one line that says what a slow command is doing. It appears two
// seconds after Start and erases itself at Stop. Its methods are safe for
// concurrent use. Writing to the same terminal between Start and Stop would
// mix with the line: Stop first.
type Progress struct {
	config ProgressConfig

	mu      sync.Mutex
	round   int // counts Start and Stop, so that a late timer finds itself outdated
	running bool
	visible bool
	text    string
	tick    int
	stop    func() bool
}

// NewProgress returns a progress line that is not running.
func NewProgress(c ProgressConfig) *Progress {
	if c.Width <= 0 {
		c.Width = 80
	}
	return &Progress{config: c}
}

// Start arms the line; called again it begins anew with the new text.
func (p *Progress) Start(text string) {
	if !p.config.Terminal {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	p.running, p.text, p.tick = true, text, 0
	p.arm(progressDelay)
}

// Stop erases the line. Once it has returned nothing more is printed. It may be
// called at any time and more than once.
func (p *Progress) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *Progress) arm(d time.Duration) {
	round := p.round
	p.stop = p.config.After(d, func() { p.show(round) })
}

func (p *Progress) show(round int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running || round != p.round {
		return
	}
	p.visible = true
	p.write("\r" + p.line() + "\x1b[K")
	p.tick++
	p.arm(progressTick)
}

// line fits the terminal: a line that wrapped could not be erased.
func (p *Progress) line() string {
	const wheel = `|/-\`
	line := []rune(" " + wheel[p.tick%len(wheel):][:1] + " " + CleanLine(p.text) + " ..")
	return string(line[:min(len(line), p.config.Width-1)])
}

func (p *Progress) end() {
	p.round++
	if !p.running {
		return
	}
	p.stop()
	if p.visible {
		p.write("\r\x1b[K")
	}
	p.running, p.visible = false, false
}

// write ignores errors: a progress line that cannot be shown is no reason to
// fail the command.
func (p *Progress) write(s string) { _, _ = io.WriteString(p.config.Writer, s) }
