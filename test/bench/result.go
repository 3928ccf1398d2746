package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Row is one line of the table.
type Row struct {
	Name     string  `json:"name"`
	Measured string  `json:"measured"`
	Beside   string  `json:"beside,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"`
	Bar      string  `json:"bar,omitempty"`
	Verdict  string  `json:"verdict"` // pass, miss, "-" where there is no bar, failed
	Note     string  `json:"note,omitempty"`
}

// Report is a whole run.
type Report struct {
	At       time.Time `json:"at"`
	Took     string    `json:"took"`
	Commit   string    `json:"commit"`
	Computer string    `json:"computer"`
	Load     string    `json:"load"` // load average when the run began
	Rows     []Row     `json:"rows"`
}

// verdict of a value that may be at most the bar.
func atMost(value, bar float64) string {
	if value <= bar {
		return "pass"
	}
	return "miss"
}

// atLeast is the verdict of a value that must reach the bar.
func atLeast(value, bar float64) string {
	if value >= bar {
		return "pass"
	}
	return "miss"
}

// quantile of unsorted values; 0 where there are none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// spread shows the middle half of the values.
func spread(values []float64, format string) string {
	return fmt.Sprintf(format+" to "+format, quantile(values, 0.25), quantile(values, 0.75))
}

func (r Row) cells() []string {
	ratio := ""
	if r.Ratio != 0 {
		ratio = fmt.Sprintf("%.3f", r.Ratio)
	}
	return []string{r.Name, r.Measured, r.Beside, ratio, r.Bar, r.Verdict}
}

func header() []string { return []string{"what", "measured", "beside", "ratio", "bar", "verdict"} }

// table is the text for a terminal.
func (r Report) table() string {
	rows := [][]string{header()}
	for _, row := range r.Rows {
		rows = append(rows, row.cells())
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(&b, "%-*s  ", width[i], cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// markdown is the same table with the notes, as docs/performance.md holds it.
func (r Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, commit %s, %s; load average at the start %s; took %s.\n\n", r.At.Format("2006-01-02 15:04 MST"), r.Commit, r.Computer, r.Load, r.Took)
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(header(), " | "), strings.Repeat("---|", len(header())))
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row.cells(), " | "))
	}
	b.WriteString("\n")
	for _, row := range r.Rows {
		if row.Note != "" {
			fmt.Fprintf(&b, "- %s: %s\n", row.Name, row.Note)
		}
	}
	return b.String()
}

// write leaves results.json and results.md in a folder.
func (r Report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.md"), []byte(r.markdown()), 0o644)
}
