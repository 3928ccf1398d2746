package output

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// timers fire when the test says so.
type timers struct {
	delays []time.Duration
	fire   []func()
	live   []bool
}

func (c *timers) after(d time.Duration, f func()) func() bool {
	i := len(c.fire)
	c.delays, c.fire, c.live = append(c.delays, d), append(c.fire, f), append(c.live, true)
	return func() bool {
		was := c.live[i]
		c.live[i] = false
		return was
	}
}

func newTestProgress(terminal bool, width int) (*Progress, *timers, *bytes.Buffer) {
	c, out := &timers{}, &bytes.Buffer{}
	return NewProgress(ProgressConfig{Writer: out, Terminal: terminal, Width: width, After: c.after}), c, out
}

func TestProgress_AppearsAfterTwoSecondsAndErasesItself(t *testing.T) {
	p, c, out := newTestProgress(true, 0)
	p.Start("Creating machine\x1b[2J")
	if out.Len() != 0 || len(c.delays) != 1 || c.delays[0] != 2*time.Second {
		t.Fatalf("printed %q, delays %v", out.String(), c.delays)
	}
	c.fire[0]()
	c.fire[1]()
	p.Stop()
	want := "\r | Creating machine\\x1b[2J ..\x1b[K\r / Creating machine\\x1b[2J ..\x1b[K\r\x1b[K"
	if out.String() != want {
		t.Fatalf("got %q", out.String())
	}
	if c.live[2] {
		t.Fatal("the timer outlives Stop")
	}
	c.fire[2]()
	p.Stop()
	if out.String() != want {
		t.Fatalf("printed after Stop: %q", out.String())
	}
}

func TestProgress_QuickCommandPrintsNothing(t *testing.T) {
	p, c, out := newTestProgress(true, 0)
	p.Start("x")
	p.Stop()
	c.fire[0]()
	if out.Len() != 0 {
		t.Fatalf("got %q", out.String())
	}
}

func TestProgress_NoTerminalNoTimer(t *testing.T) {
	p, c, out := newTestProgress(false, 0)
	p.Start("x")
	p.Stop()
	if out.Len() != 0 || len(c.fire) != 0 {
		t.Fatalf("got %q and %d timers", out.String(), len(c.fire))
	}
}

func TestProgress_StartAgainDropsTheOldTimer(t *testing.T) {
	p, c, out := newTestProgress(true, 0)
	p.Start("one")
	p.Start("two")
	c.fire[0]()
	if out.Len() != 0 || c.live[0] {
		t.Fatalf("the old timer still prints %q", out.String())
	}
	c.fire[1]()
	if !strings.Contains(out.String(), "two") {
		t.Fatalf("got %q", out.String())
	}
}

func TestProgress_FitsTheTerminal(t *testing.T) {
	p, c, out := newTestProgress(true, 10)
	p.Start("é a long text")
	c.fire[0]()
	if got := out.String(); got != "\r | é a lo\x1b[K" {
		t.Fatalf("got %q", got)
	}
}

func TestProgress_ConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(ProgressConfig{Writer: &out, Terminal: true, After: func(_ time.Duration, f func()) func() bool {
		go f()
		return func() bool { return false }
	}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			p.Start("b")
			p.Stop()
		}
	}()
	for range 200 {
		p.Start("a")
	}
	<-done
	p.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := out.String(); s != "" && !strings.HasSuffix(s, "\r\x1b[K") {
		t.Fatalf("ends with %q", s[max(0, len(s)-20):])
	}
}
