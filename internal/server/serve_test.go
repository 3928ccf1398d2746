package server

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// serve says READY only when it serves, STOPPING when it no longer does, and
// ends without an error when it was asked to.
func TestServe_TellsTheServiceManager(t *testing.T) {
	d := rig(t, time.Now)
	d.cfg.Metrics = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan string, 4)
	d.cfg.Notify = func(state string) error { told <- state; return nil }
	ended := make(chan error, 1)
	go func() { ended <- d.serve(ctx) }()
	if first := <-told; first != "READY=1" {
		t.Fatal(first)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if last := <-told; last != "STOPPING=1" || len(told) != 0 {
		t.Fatal(last)
	}
}

func TestServe_WrongMetricsAddressStopsTheStart(t *testing.T) {
	d := rig(t, time.Now)
	d.cfg.Metrics = "0.0.0.0:0"
	if err := d.serve(t.Context()); err == nil || !strings.Contains(err.Error(), "MetricsAddress") {
		t.Fatal(err)
	}
}

// The packaged unit runs a command line that exists, its configuration is one
// that the server reads, and it keeps the sandbox that docs/operations.md
// promises.
func TestUnit_AgreesWithTheProgram(t *testing.T) {
	const folder = "../../packaging/systemd/"
	text, err := os.ReadFile(folder + "sallyport-server.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, want := range []string{"Type=notify", "User=sallyport", "StateDirectoryMode=0700", "UMask=0077", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes",
		"PrivateDevices=yes", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service", "LimitCORE=0"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is missing", want)
		}
	}
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/sally server run (.+)$`).FindStringSubmatch(string(text))
	if start == nil {
		t.Fatal("no ExecStart")
	}
	for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(start[1], -1) {
		if settingFlags().Lookup(flag[1]) == nil {
			t.Errorf("--%s does not exist", flag[1])
		}
	}
	settings, err := os.ReadFile(folder + "server.json")
	if err != nil {
		t.Fatal(err)
	}
	flags := settingFlags()
	if faults := parseSettings("server.json", settings, flags); len(faults) > 0 {
		t.Fatal(faults)
	}
	if state := flags.Lookup("state").Value.String(); state != "/var/lib/sallyport" {
		t.Errorf("the unit's StateDirectory is not %s", state)
	}
}
