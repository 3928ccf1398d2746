package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Machines that create makes, one after another, after one that is not counted.
const created = 10

// create is how long the server takes for `az vm create`: from the deployment that
// azure-cli 2.91.0 sends, as it was recorded, until it has succeeded. az's own
// second and its pauses between two questions are not in it; the start of our
// client, which asks instead, is.
func (b *bench) create(ctx context.Context) ([]Row, error) {
	w, err := b.need(ctx)
	if err != nil {
		return nil, err
	}
	recorded, err := os.ReadFile(filepath.Join(b.top, "internal/resource/types/testdata/az-2.91.0-vm-create.json"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(w.path("static.pub"))
	if err != nil {
		return nil, err
	}
	subscription, err := w.run("account", "show", "--query", "id", "-o", "tsv")
	if err != nil {
		return nil, err
	}
	var ms []float64
	for i := range created + 1 {
		name := fmt.Sprintf("created%d", i)
		body := strings.NewReplacer("myVM", name, "AzureADLinuxVM", group, "22222222-2222-4222-8222-222222222222", subscription, "PUBLIC KEY", strings.TrimSpace(string(key))).Replace(string(recorded))
		took, err := w.deploy(ctx, subscription, name, body)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			ms = append(ms, took.Seconds()*1000)
		}
		if _, err := w.run("vm", "delete", "-g", group, "-n", name, "--yes"); err != nil {
			return nil, err
		}
	}
	return []Row{{Name: "az vm create, the server's part", Measured: fmt.Sprintf("%.2f s", median(ms)/1000), Bar: "<= 1.5 s", Verdict: atMost(median(ms)/1000, 1.5),
		Note: fmt.Sprintf("%d machines under netns, one after another; middle half %s ms, slowest %.0f ms", created, spread(ms, "%.0f"), quantile(ms, 1))}}, nil
}

// deploy sends a deployment and asks until it has ended.
func (w *world) deploy(ctx context.Context, subscription, name, body string) (time.Duration, error) {
	file := w.path(name + ".json")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		return 0, err
	}
	address := "/subscriptions/" + subscription + "/resourceGroups/" + group + "/providers/Microsoft.Resources/deployments/" + name + "?api-version=2022-09-01"
	begin := time.Now()
	if _, err := w.run("rest", "--method", "put", "--url", address, "--body", "@"+file); err != nil {
		return 0, err
	}
	for ctx.Err() == nil {
		state, err := w.run("rest", "--url", address, "--query", "properties.provisioningState", "-o", "tsv")
		if err != nil {
			return 0, err
		}
		switch state {
		case "Succeeded":
			return time.Since(begin), nil
		case "Failed", "Canceled":
			return 0, errors.New("the deployment of " + name + " ended as " + state)
		}
	}
	return 0, ctx.Err()
}
