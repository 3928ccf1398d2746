package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags of one run.
type options struct {
	top     string // the checkout
	out     string // folder of the results
	cache   string // root filesystem
	stepca  string // the step-ca program
	only    []string
	rounds  int           // of logins
	userCA  string        // algorithm of the user CA; empty for the usual one
	seconds time.Duration // of one round of certificates

	agents, machines, lives int // simulated agents, lab machines and rounds of live
	crowdSize               int // simulated agents of crowd
}

// bench is one run.
type bench struct {
	options
	dir   string // removed at the end
	world *world // nil until a measure needs it
}

// measure is one group of rows; names are what -only takes.
type measure struct {
	name string
	run  func(*bench, context.Context) ([]Row, error)
}

func measures() []measure {
	return []measure{
		{"names", (*bench).names},
		{"rbac", (*bench).rbac},
		{"push", (*bench).push},
		{"scale", (*bench).scale},
		{"first", (*bench).first}, // makes the world; before what puts load on it
		{"login", (*bench).login},
		{"create", (*bench).create},
		{"decision", (*bench).decision},
		{"cli", (*bench).cli},
		{"memory", (*bench).memory}, // nobody has asked the server anything for a while
		{"certificates", (*bench).certificates},
		{"overload", (*bench).overload},
		{"live", (*bench).live},
		{"crowd", (*bench).crowd},
	}
}

func main() {
	var o options
	var only string
	flag.StringVar(&o.top, "top", ".", "the checkout; out/sally and shim/out are built in it")
	flag.StringVar(&o.out, "out", "out/bench", "folder for results.json and results.md")
	flag.StringVar(&o.cache, "cache", "/var/cache/sallyport", "cache of the machines' root filesystem")
	flag.StringVar(&o.stepca, "step-ca", "", "the step-ca program to measure beside")
	flag.StringVar(&only, "only", "", "comma-separated: names rbac push scale first login create decision cli memory certificates overload live crowd")
	flag.IntVar(&o.rounds, "rounds", 60, "rounds of interleaved logins")
	flag.StringVar(&o.userCA, "user-ca", "", "algorithm of the user CA's key; without this what server init makes")
	flag.DurationVar(&o.seconds, "duration", 10*time.Second, "of one round of certificates")
	flag.IntVar(&o.agents, "agents", 1000, "connected agents of live")
	flag.IntVar(&o.machines, "machines", 10, "lab machines of live")
	flag.IntVar(&o.lives, "lives", 20, "rounds of live")
	flag.IntVar(&o.crowdSize, "crowd", 100_000, "connected agents of crowd")
	flag.Parse()
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if os.Geteuid() != 0 {
		return errors.New("run it as root: lab machines are made of namespaces and mounts")
	}
	for _, name := range o.only {
		if !slices.ContainsFunc(measures(), func(m measure) bool { return m.name == name }) {
			return fmt.Errorf("there is no measure %q", name)
		}
	}
	// Children are told to die with the thread that started them; this thread stays.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-bench-")
	if err != nil {
		return err
	}
	b := &bench{options: o, dir: dir}
	defer b.close()
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	report := describe(o.top)
	failed := b.all(ctx, &report)
	if err := report.write(o.out); err != nil {
		return err
	}
	fmt.Printf("\n%s\n%s\n", report.table(), filepath.Join(o.out, "results.md"))
	return errors.Join(failed, ctx.Err())
}

// all runs the measures in their order. One that fails leaves a row and does not
// stop the others.
func (b *bench) all(ctx context.Context, report *Report) error {
	begin := time.Now()
	defer func() { report.Took = time.Since(begin).Round(time.Second).String() }()
	var failed []error
	for _, m := range measures() {
		if len(b.only) > 0 && !slices.Contains(b.only, m.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: ", m.name)
		start := time.Now()
		rows, err := m.run(b, ctx)
		if err != nil {
			rows = append(rows, Row{Name: m.name, Measured: "not measured", Verdict: "failed", Note: strings.Join(strings.Fields(err.Error()), " ")})
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
		}
		report.Rows = append(report.Rows, rows...)
		fmt.Fprintf(os.Stderr, "%.1f s\n", time.Since(start).Seconds())
	}
	return errors.Join(failed...)
}

func (b *bench) close() {
	if b.world != nil {
		b.world.close()
	}
	if os.Getenv("SALLY_BENCH_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "kept", b.dir)
		return
	}
	_ = os.RemoveAll(b.dir)
}

func (b *bench) path(elements ...string) string {
	return filepath.Join(append([]string{b.dir}, elements...)...)
}

// describe says on what and of what this run is.
func describe(top string) Report {
	r := Report{At: time.Now().UTC()}
	if out, err := exec.Command("git", "-C", top, "describe", "--always", "--dirty").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	r.Computer = fmt.Sprintf("%d cores, %s, %s", runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.Load = strings.Join(strings.Fields(string(data))[:3], " ")
	}
	return r
}

// output runs a command and returns what it printed; an error carries the end of
// what it said on standard error.
func output(cmd *exec.Cmd) (string, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		said := strings.TrimSpace(errs.String())
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, said[max(0, len(said)-600):])
	}
	return strings.TrimSpace(string(out)), nil
}

// compile makes a program of one C file.
func (b *bench) compile(name string, libraries ...string) (string, error) {
	program := b.path(name)
	args := append([]string{"-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", program, filepath.Join(b.top, "test/bench/c", name+".c")}, libraries...)
	_, err := output(exec.Command("cc", args...))
	return program, err
}
