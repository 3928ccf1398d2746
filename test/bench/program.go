package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cli is how long the program takes for a command that asks nobody, and then for
// those that ask the server.
func (b *bench) cli(ctx context.Context) ([]Row, error) {
	w, err := b.served(ctx)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, args := range [][]string{{"--version"}, {"account", "show"}} {
		ms, err := timed(50, func() *exec.Cmd { return w.command(args...) })
		if err != nil {
			return nil, err
		}
		row := Row{Name: "sally " + strings.Join(args, " "), Measured: fmt.Sprintf("%.1f ms", median(ms)), Bar: "<= 10 ms", Verdict: atMost(median(ms), 10),
			Note: fmt.Sprintf("50 runs, middle half %s ms", spread(ms, "%.1f"))}
		if _, err := exec.LookPath("az"); err == nil {
			other, err := timed(5, func() *exec.Cmd { return azure(ctx, b.path("azure"), args) })
			if err == nil {
				row.Beside = fmt.Sprintf("az %.0f ms", median(other))
				row.Ratio = median(ms) / median(other)
			}
		}
		rows = append(rows, row)
	}
	more, err := b.beside(ctx)
	return append(rows, more...), err
}

// azure is az with a folder of its own. Nobody is signed in there, so `account
// show` ends with an error after it has done its work.
func azure(ctx context.Context, dir string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `az "$@" || [ "$1" = account ]`, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "AZURE_CONFIG_DIR="+dir, "AZURE_CORE_COLLECT_TELEMETRY=false", "AZURE_CORE_SURVEY_MESSAGE=false")
	return cmd
}

// timed runs a command n times after one untimed run.
func timed(n int, make func() *exec.Cmd) ([]float64, error) {
	var ms []float64
	for i := range n + 1 {
		cmd := make()
		begin := time.Now()
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%v: %w", cmd.Args, err)
		}
		if i > 0 {
			ms = append(ms, float64(time.Since(begin).Microseconds())/1000)
		}
	}
	return ms, nil
}

// memory of one process, in MiB: resident, and with shared pages divided.
type memory struct{ rss, pss float64 }

func memoryOf(pid int) (memory, error) {
	var m memory
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "Rss:":
			m.rss = kib / 1024
		case "Pss:":
			m.pss = kib / 1024
		}
	}
	return m, nil
}

func (m memory) String() string { return fmt.Sprintf("%.1f MiB", m.rss) }

// memory is what server and agent hold while nobody asks for anything.
func (b *bench) memory(ctx context.Context) ([]Row, error) {
	w, err := b.need(ctx)
	if err != nil {
		return nil, err
	}
	after, err := memoryOf(w.server.Process.Pid)
	if err != nil {
		return nil, err
	}
	rows := []Row{
		{Name: "server memory, after its start", Measured: w.idle.String(), Bar: "<= 60 MiB", Verdict: atMost(w.idle.rss, 60), Note: fmt.Sprintf("resident; proportional %.1f MiB", w.idle.pss)},
		{Name: "server memory, idle after sign-ins", Measured: after.String(), Bar: "<= 60 MiB", Verdict: atMost(after.rss, 60),
			Note: fmt.Sprintf("resident, %.0f s after the last sign-in, with one machine; proportional %.1f MiB; a sign-in holds 64 MiB for argon2id, and the runtime gives it back in its own time", time.Since(w.signedIn).Seconds(), after.pss)},
	}
	agents, err := w.agents()
	if err != nil {
		return rows, err
	}
	var both float64
	var each []string
	for name, pid := range agents {
		m, err := memoryOf(pid)
		if err != nil {
			return rows, err
		}
		both += m.pss
		each = append(each, fmt.Sprintf("%s %.1f MiB resident", name, m.rss))
	}
	return append(rows, Row{Name: "agent memory, both parts", Measured: fmt.Sprintf("%.1f MiB", both), Bar: "<= 25 MiB", Verdict: atMost(both, 25),
		Note: "proportional: the two processes share the program's pages; " + strings.Join(each, ", ")}), nil
}

// ticksPerSecond is the unit of /proc/PID/stat on Linux, see proc(5).
const ticksPerSecond = 100

// ticksOf is the processor time of a process, user and system.
func ticksOf(pid int) (int, error) {
	fields, err := statOf(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return user + system, err
}

// statOf is the fields of a stat file behind the program's name, which may hold
// anything: the first one is the state, number 3 in proc(5).
func statOf(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("%s cannot be read", path)
	}
	return fields, nil
}

// agents finds the agent's two processes among the descendants of our lab.
func (w *world) agents() (map[string]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, path := range stats {
		fields, err := statOf(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	found := map[string]int{}
	for pid := range parents {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(line), "\x00")
		if err != nil || len(args) < 3 || args[1] != "agent" || !descends(parents, pid, w.lab.Process.Pid) {
			continue
		}
		found[args[2]] = pid
	}
	if found["root"] == 0 || found["run"] == 0 {
		return nil, errors.New("the agent's processes were not found")
	}
	return found, nil
}

func descends(parents map[int]int, pid, ancestor int) bool {
	for pid > 1 {
		if pid == ancestor {
			return true
		}
		pid = parents[pid]
	}
	return false
}
