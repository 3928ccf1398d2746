package metrics

import (
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxSeries is enough for every row of the server with every status class.
	maxSeries = 1000
	other     = "other"
)

// Registry holds families in the order in which they were made. Making them
// belongs into a program's start; using them is safe from everywhere.
type Registry struct {
	families []family
}

// family writes itself.
type family interface{ write(b *strings.Builder) }

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{} }

// Write writes everything in the text format.
func (r *Registry) Write(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.families {
		f.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// vector is a family's series by their label values.
type vector[T any] struct {
	name, help, kind string
	labels           []string
	fresh            func() *T

	mu     sync.Mutex
	series map[string]*T
	values map[string][]string
}

func newVector[T any](kind, name, help string, labels []string, fresh func() *T) *vector[T] {
	return &vector[T]{name: name, help: help, kind: kind, labels: labels, fresh: fresh, series: map[string]*T{}, values: map[string][]string{}}
}

// at returns the series of some label values; the caller holds mu. A wrong
// number of values is mended, because a measurement must not stop a request.
func (v *vector[T]) at(values []string) *T {
	fitted := make([]string, len(v.labels))
	copy(fitted, values)
	key := strings.Join(fitted, "\xff")
	if s := v.series[key]; s != nil {
		return s
	}
	if len(v.series) >= maxSeries {
		for i := range fitted {
			fitted[i] = other
		}
		if key = strings.Join(fitted, "\xff"); v.series[key] != nil {
			return v.series[key]
		}
	}
	s := v.fresh()
	v.series[key], v.values[key] = s, fitted
	return s
}

// each writes the head and visits the series in a fixed order.
func (v *vector[T]) each(b *strings.Builder, visit func(pairs []string, s *T)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	head(b, v.name, v.help, v.kind)
	keys := make([]string, 0, len(v.series))
	for k := range v.series {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		pairs := make([]string, 0, len(v.labels)+1)
		for i, l := range v.labels {
			pairs = append(pairs, l+`="`+escape(v.values[k][i])+`"`)
		}
		visit(pairs, v.series[k])
	}
}

// Counter counts what happened since the start, by label values.
type Counter struct{ v *vector[float64] }

// Counter makes a counter family. Its name ends in _total.
func (r *Registry) Counter(name, help string, labels ...string) *Counter {
	c := &Counter{v: newVector("counter", name, help, labels, func() *float64 { return new(float64) })}
	if len(labels) == 0 {
		c.v.at(nil) // it exists before it is first counted
	}
	r.families = append(r.families, c)
	return c
}

// Add counts one more.
func (c *Counter) Add(values ...string) {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	*c.v.at(values)++
}

// AddN counts n of one set of label values.
func (c *Counter) AddN(n float64, values ...string) {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	*c.v.at(values) += n
}

func (c *Counter) write(b *strings.Builder) {
	c.v.each(b, func(pairs []string, s *float64) { line(b, c.v.name, pairs, *s) })
}

// Histogram counts observations by size.
type Histogram struct {
	v      *vector[distribution]
	bounds []float64
}

type distribution struct {
	buckets []uint64 // not cumulative; the last is above every bound
	sum     float64
}

// Histogram makes a histogram family with ascending upper bounds.
func (r *Registry) Histogram(name, help string, bounds []float64, labels ...string) *Histogram {
	h := &Histogram{bounds: bounds, v: newVector("histogram", name, help, labels, func() *distribution { return &distribution{buckets: make([]uint64, len(bounds)+1)} })}
	if len(labels) == 0 {
		h.v.at(nil)
	}
	r.families = append(r.families, h)
	return h
}

// Observe adds one observation.
func (h *Histogram) Observe(x float64, values ...string) {
	i, _ := slices.BinarySearch(h.bounds, x) // a bound belongs to its own bucket
	h.v.mu.Lock()
	defer h.v.mu.Unlock()
	d := h.v.at(values)
	d.buckets[i]++
	d.sum += x
}

func (h *Histogram) write(b *strings.Builder) {
	h.v.each(b, func(pairs []string, d *distribution) {
		var n uint64
		for i, count := range d.buckets {
			n += count
			bound := math.Inf(1)
			if i < len(h.bounds) {
				bound = h.bounds[i]
			}
			line(b, h.v.name+"_bucket", append(slices.Clone(pairs), `le="`+number(bound)+`"`), float64(n))
		}
		line(b, h.v.name+"_sum", pairs, d.sum)
		line(b, h.v.name+"_count", pairs, float64(n))
	})
}

// Reading names one gauge.
type Reading struct{ Name, Help string }

// gauges are read when they are asked for.
type gauges struct {
	of   []Reading
	read func() []float64
}

// Gauge makes a gauge whose value is read at each scrape.
func (r *Registry) Gauge(name, help string, read func() float64) {
	r.Gauges([]Reading{{Name: name, Help: help}}, func() []float64 { return []float64{read()} })
}

// Gauges makes several gauges whose values come from one look, in their order.
func (r *Registry) Gauges(of []Reading, read func() []float64) {
	r.families = append(r.families, gauges{of: of, read: read})
}

func (g gauges) write(b *strings.Builder) {
	values := g.read()
	for i, x := range g.of[:min(len(g.of), len(values))] {
		head(b, x.Name, x.Help, "gauge")
		line(b, x.Name, nil, values[i])
	}
}

func head(b *strings.Builder, name, help, kind string) {
	help = strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)
	b.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

func line(b *strings.Builder, name string, pairs []string, value float64) {
	b.WriteString(name)
	if len(pairs) > 0 {
		b.WriteString("{" + strings.Join(pairs, ",") + "}")
	}
	b.WriteString(" " + number(value) + "\n")
}

func number(x float64) string {
	if math.IsInf(x, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(value, "\uFFFD"))
}
