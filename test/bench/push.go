package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// push is how long a change takes to the answers of the polls that wait for it,
// in process: store, indexes, derivation and signature, without HTTP and TLS.
func (b *bench) push(ctx context.Context) ([]Row, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkPush$", "-benchtime", "5x", "-timeout", "30m", "./internal/server")
	cmd.Dir = b.top
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	rows, err := pushRows(out)
	if err == nil && len(rows) == 0 {
		err = errors.New("the benchmark of internal/server printed no result")
	}
	return rows, err
}

// pushRows reads what the benchmark printed.
func pushRows(out string) (rows []Row, err error) {
	for _, m := range regexp.MustCompile(`BenchmarkPush/machines=(\d+)/(\S+?)-\d+\s+\d+\s+\d+ ns/op\s+([0-9.]+) max-ms\s+([0-9.]+) p50-ms\s+([0-9.]+) p99-ms`).FindAllStringSubmatch(out, -1) {
		var ms [3]float64
		for i := range ms {
			if ms[i], err = strconv.ParseFloat(m[3+i], 64); err != nil {
				return nil, err
			}
		}
		rows = append(rows, Row{Name: fmt.Sprintf("%s to the answers of waiting polls, %s machines", strings.ReplaceAll(m[2], "_", " "), m[1]), Measured: fmt.Sprintf("p99 %.0f ms", ms[2]), Verdict: "-",
			Note: fmt.Sprintf("from the write to the signed answer, in process; p50 %.0f, max %.0f ms; 10 rounds", ms[1], ms[0])})
	}
	return rows, nil
}
