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
	"syscall"
	"time"

	"sallyport/internal/agent/shim"
)

const (
	nameLines  = 30
	nameRounds = 5
	nameCount  = 5000 // lookups of one process
)

// private runs the program on the machine with a name service of its own: $1 is the
// folder, $2 the users of our file, $3 the source, $4 which names. The agent keeps
// its file.
const private = `set -eu
mount --bind "$1/nss.db.$2" /var/lib/sallyport/nss.db
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/nsswitch.$3" /etc/nsswitch.conf
exec "$1/getpwnam" "$1/names.$3.$4.$2" "$5"`

func nameUsers() []int { return []int{30, 10_000, 100_000} }

// agentState is what the machine's agent does during a measure; undo takes it back.
type agentState struct {
	name string
	make func(pids []int) (undo func() error, err error)
}

func agentStates() []agentState {
	return []agentState{
		{"alive", func([]int) (func() error, error) { return func() error { return nil }, nil }},
		{"hung", func(pids []int) (func() error, error) {
			return func() error { return signalAll(pids, syscall.SIGCONT) }, signalAll(pids, syscall.SIGSTOP)
		}},
		{"dead", func(pids []int) (func() error, error) {
			init, err := parent(pids[0])
			if err != nil {
				return nil, err
			}
			inside := []string{"--target", strconv.Itoa(init), "--mount", "--pid"} // umount reads /proc/self
			// What starts it again starts something else.
			if _, err := output(exec.Command("nsenter", append(inside, "mount", "--bind", "/bin/false", "/usr/bin/sally")...)); err != nil {
				return nil, err
			}
			return func() error {
				_, err := output(exec.Command("nsenter", append(inside, "umount", "/usr/bin/sally")...))
				return err
			}, signalAll(pids, syscall.SIGKILL)
		}},
	}
}

func signalAll(pids []int, s syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil {
			return err
		}
	}
	return nil
}

// names measures getpwnam through our module on the lab machine, by the number of
// users in its file and by what the agent does, beside nss_files with 30 lines.
func (b *bench) names(ctx context.Context) ([]Row, error) {
	w, err := b.need(ctx)
	if err != nil {
		return nil, err
	}
	agents := descendants(w.lab.Process.Pid, "/usr/bin/sally\x00agent\x00")
	if len(agents) != 2 {
		return nil, fmt.Errorf("the machine's agent has the processes %v", agents)
	}
	init, err := parent(agents[0])
	if err != nil {
		return nil, err
	}
	if err := b.nameFiles(fmt.Sprintf("/proc/%d/root%s", init, nameFolder)); err != nil {
		return nil, err
	}
	var rows []Row
	for _, state := range agentStates() {
		undo, err := state.make(agents)
		if err != nil {
			return nil, err
		}
		got, err := b.namesIn(ctx, init, state.name)
		if err := errors.Join(err, undo()); err != nil {
			return nil, err
		}
		rows = append(rows, got...)
	}
	return rows, b.agentBack(ctx, init)
}

// agentBack waits until the machine's agent answers again: who measures next logs in.
func (b *bench) agentBack(ctx context.Context, init int) error {
	return until(ctx, time.Minute, func() error {
		_, err := output(exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(init), "--mount", "--pid", "sally", "agent", "status"))
		return err
	})
}

// namesIn measures in one state of the agent.
func (b *bench) namesIn(ctx context.Context, init int, state string) ([]Row, error) {
	us := map[string][]float64{}
	cell := func(users int, source, kind string) string { return fmt.Sprint(users, source, kind) }
	for range nameRounds {
		for _, users := range nameUsers() {
			for _, source := range []string{"files", "sallyport"} {
				for _, kind := range []string{"hit", "miss"} {
					took, err := b.lookups(ctx, init, users, source, kind)
					if err != nil {
						return nil, fmt.Errorf("agent %s, %d users, %s: %w", state, users, source, err)
					}
					us[cell(users, source, kind)] = append(us[cell(users, source, kind)], median(took))
				}
			}
		}
	}
	var rows []Row
	for _, users := range nameUsers() {
		ours, files := us[cell(users, "sallyport", "hit")], us[cell(users, "files", "hit")]
		stranger, unknown := us[cell(users, "sallyport", "miss")], us[cell(users, "files", "miss")]
		ratio, absent := median(ours)/median(files), median(stranger)/median(unknown)
		rows = append(rows, Row{Name: fmt.Sprintf("getpwnam, %d users, agent %s", users, state), Measured: fmt.Sprintf("%.2f us", median(ours)), Beside: fmt.Sprintf("nss_files %.2f us", median(files)),
			Ratio: ratio, Bar: "<= 1.5", Verdict: atMost(max(ratio, absent), 1.5),
			Note: fmt.Sprintf("each source alone in nsswitch.conf, %d lines in passwd, medians of %d rounds; an unknown name of our shape and domain %.2f us, in files %.2f us, ratio %.3f", nameLines, nameRounds, median(stranger), median(unknown), absent)})
	}
	return rows, nil
}

const nameFolder = "/root/names"

// nameFiles writes what the machine's private name service consists of into dir.
func (b *bench) nameFiles(dir string) error {
	program, err := b.compile("getpwnam")
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if _, err := output(exec.Command("install", "-m", "0755", program, filepath.Join(dir, "getpwnam"))); err != nil {
		return err
	}
	files := map[string]string{"nsswitch.files": "passwd: files\n", "nsswitch.sallyport": "passwd: sallyport\n"}
	var passwd, local strings.Builder
	for i := range nameLines {
		fmt.Fprintf(&passwd, "account%02d:x:%d:%d:An Account:/home/account%02d:/bin/bash\n", i, 1000+i, 1000+i, i)
		fmt.Fprintf(&local, "account%02d\n", i)
	}
	files["passwd"] = passwd.String()
	for _, users := range nameUsers() {
		db := shim.Database{Domains: []string{domain}}
		var ours strings.Builder
		for i := range uint32(users) {
			name := fmt.Sprintf("person%06d@%s", i, domain)
			db.Users = append(db.Users, shim.User{Name: name, UID: shim.IDMin + i, GID: shim.IDMin + i, Gecos: "A Person", Home: "/home/" + name, Shell: "/bin/bash", Groups: []uint32{shim.GIDUsers}})
			if int(i)%max(1, users/4096) == 0 {
				ours.WriteString(name + "\n")
			}
		}
		if err := shim.WriteNSS(filepath.Join(dir, "nss.db."+strconv.Itoa(users)), db); err != nil {
			return err
		}
		for name, text := range map[string]string{"files.hit": local.String(), "files.miss": "!nobodyknown\n", "sallyport.hit": ours.String(), "sallyport.miss": "!stranger@" + domain + "\n"} {
			files["names."+name+"."+strconv.Itoa(users)] = text
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// lookups runs one process on the machine and returns the microseconds of its lookups.
func (b *bench) lookups(ctx context.Context, init, users int, source, kind string) ([]float64, error) {
	out, err := output(exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(init), "--mount", "unshare", "--mount", "--propagation", "private",
		"sh", "-c", private, "sh", nameFolder, strconv.Itoa(users), source, kind, strconv.Itoa(nameCount)))
	if err != nil {
		return nil, err
	}
	var took []float64
	for _, line := range strings.Fields(out) {
		ns, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return nil, err
		}
		took = append(took, ns/1000)
	}
	return took, nil
}

// descendants lists the processes below pid whose command line begins so.
func descendants(pid int, begins string) []int {
	var list []int
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range threads {
		children, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(children)) {
			child, _ := strconv.Atoi(word)
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child)); strings.HasPrefix(string(line), begins) {
				list = append(list, child)
			}
			list = append(list, descendants(child, begins)...)
		}
	}
	return list
}

// parent is the process that started pid.
func parent(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return strconv.Atoi(fields[1])
}
