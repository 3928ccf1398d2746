package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// online are commands that ask the server, as both clients take them.
func online() []string {
	return []string{
		"group list", "group show -n " + group, "vm list", "vm show -d -g " + group + " -n " + machine, "vm identity show -g " + group + " -n " + machine,
		"vm extension list -g " + group + " --vm-name " + machine, "role assignment list -g " + group, "role definition list --name Reader", "vm list-ip-addresses -g " + group + " -n " + machine, "account list-locations",
	}
}

// beside measures commands that ask the server, az's wall time beside sally's. What
// sally may add to its requests, TLS among them, is the bar.
func (b *bench) beside(ctx context.Context) ([]Row, error) {
	w, err := b.need(ctx)
	if err != nil {
		return nil, err
	}
	az, err := b.az(ctx, w)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, line := range online() {
		args := strings.Fields(line)
		var all, own []float64
		for i := range 31 {
			cmd := w.command(append(args, "--debug")...)
			var said strings.Builder
			cmd.Stderr = &said
			begin := time.Now()
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("sally %s: %w: %s", line, err, said.String())
			}
			if took := milliseconds(time.Since(begin)); i > 0 {
				all, own = append(all, took), append(own, took-requests(said.String()))
			}
		}
		other, err := timed(5, func() *exec.Cmd { return az(args) })
		if err != nil {
			return nil, err
		}
		rows = append(rows, Row{Name: "sally " + line, Measured: fmt.Sprintf("%.1f ms, own %.1f", median(all), median(own)), Beside: fmt.Sprintf("az %.0f ms", median(other)), Ratio: median(all) / median(other),
			Bar: "own <= 20 ms", Verdict: atMost(median(own), 20), Note: fmt.Sprintf("30 runs, middle half %s ms; az 5 runs, %s ms", spread(all, "%.1f"), spread(other, "%.0f"))})
	}
	return rows, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

var answered = regexp.MustCompile(`bytes, (\S+)\n`)

// requests is the time that --debug gives for the requests of a command.
func requests(said string) float64 {
	var sum time.Duration
	for _, m := range answered.FindAllStringSubmatch(said, -1) {
		if d, err := time.ParseDuration(m[1]); err == nil {
			sum += d
		}
	}
	return milliseconds(sum)
}

// az signs the Azure CLI of test/az in and returns what runs it. It is a service
// principal with the administrator's role: asked for a person's password, az looks
// for the server at port 443.
func (b *bench) az(ctx context.Context, w *world) (func(args []string) *exec.Cmd, error) {
	venv, err := output(exec.Command(filepath.Join(b.top, "test/az/venv.sh"), b.cache))
	if err != nil {
		return nil, err
	}
	config := b.path("az")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	make := func(words ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Dir = config
		cmd.Env = []string{"PATH=" + filepath.Join(venv, "bin") + ":" + w.dir + ":" + os.Getenv("PATH"), "HOME=" + config, "AZURE_CONFIG_DIR=" + config, "LANG=C.UTF-8", "AZURE_CORE_COLLECT_TELEMETRY=no",
			"AZURE_CORE_SURVEY_MESSAGE=no", "AZURE_CORE_LOGIN_EXPERIENCE_V2=off", "REQUESTS_CA_BUNDLE=" + config + "/sallyport-ca.pem", "SALLY_CONFIG_DIR=" + config + "/.sallyport"}
		return cmd
	}
	script, err := output(make(w.sally, "cloud", "print-az-setup", "--server", w.address))
	if err != nil {
		return nil, err
	}
	subscription, err := w.run("account", "show", "--query", "id", "-o", "tsv")
	if err != nil {
		return nil, err
	}
	made, err := w.run("ad", "sp", "create-for-rbac", "--name", "bench", "--role", "Owner", "--scopes", "/subscriptions/"+subscription, "--query", "[appId, password, tenant]", "-o", "tsv")
	if err != nil {
		return nil, err
	}
	who := strings.Fields(made)
	_, set := output(make("sh", "-euc", script))
	_, signedIn := output(make(filepath.Join(venv, "bin", "az"), "login", "--service-principal", "-u", who[0], "-p", who[1], "--tenant", who[2]))
	return func(args []string) *exec.Cmd {
		return make(append([]string{filepath.Join(venv, "bin", "az")}, args...)...)
	}, errors.Join(set, signedIn)
}
