package crowdtest

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// Limit is a limit as it is on this computer now: it grows in proportion when more
// programs want to run than there are processors.
func Limit(limit time.Duration) time.Duration { return time.Duration(float64(limit) * crowd()) }

// crowd is how many programs want each processor, at least 1.
func crowd() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 1
	}
	var load float64
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		return 1
	}
	return max(1, load/float64(runtime.NumCPU()))
}

// Until polls for a condition of the outside world; it gives up with the last error
// after the limit, which is that of a computer with nothing else to do. What the
// limit is now is asked anew each time, since the load average lags, and one try is
// never the only one: it may have been slow itself. It rests as long as it asked:
// who waits for us needs the processor, too.
func Until(limit time.Duration, try func() error) error {
	for start, n := time.Now(), 1; ; n++ {
		began := time.Now()
		err := try()
		if err == nil {
			return nil
		}
		if waited := time.Since(start); n > 1 && waited > Limit(limit) {
			return fmt.Errorf("after %s: %w", waited.Round(time.Millisecond), err)
		}
		time.Sleep(min(max(time.Since(began), 20*time.Millisecond), 200*time.Millisecond))
	}
}
