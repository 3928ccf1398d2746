package metrics

import (
	"strconv"
	"strings"
	"sync"
	"testing"
)

func text(t *testing.T, r *Registry) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite_IsTheTextFormat(t *testing.T) {
	r := NewRegistry()
	c := r.Counter("x_requests_total", "Requests \\ by\nrow.", "row", "code")
	r.Counter("x_never_total", "Nothing yet.")
	h := r.Histogram("x_seconds", "How long.", []float64{0.1, 1}, "row")
	r.Gauge("x_bytes", "Now.", func() float64 { return 1.5e9 })
	r.Gauges([]Reading{{"x_one", "1."}, {"x_two", "2."}, {"x_unread", "3."}}, func() []float64 { return []float64{1, 2} })
	c.Add("b", "2xx")
	c.Add("a\"\\\n", "5xx")
	c.Add("b", "2xx")
	for _, x := range []float64{0.05, 0.1, 0.5, 7} {
		h.Observe(x, "r")
	}
	const want = `# HELP x_requests_total Requests \\ by\nrow.
# TYPE x_requests_total counter
x_requests_total{row="a\"\\\n",code="5xx"} 1
x_requests_total{row="b",code="2xx"} 2
# HELP x_never_total Nothing yet.
# TYPE x_never_total counter
x_never_total 0
# HELP x_seconds How long.
# TYPE x_seconds histogram
x_seconds_bucket{row="r",le="0.1"} 2
x_seconds_bucket{row="r",le="1"} 3
x_seconds_bucket{row="r",le="+Inf"} 4
x_seconds_sum{row="r"} 7.65
x_seconds_count{row="r"} 4
# HELP x_bytes Now.
# TYPE x_bytes gauge
x_bytes 1.5e+09
# HELP x_one 1.
# TYPE x_one gauge
x_one 1
# HELP x_two 2.
# TYPE x_two gauge
x_two 2
`
	if got := text(t, r); got != want {
		t.Fatal(got)
	}
}

func TestLabels_AreBounded(t *testing.T) {
	r := NewRegistry()
	c := r.Counter("x_total", "Words of strangers.", "word")
	for i := range 3 * maxSeries {
		c.Add(strconv.Itoa(i))
	}
	got := text(t, r)
	if n := strings.Count(got, "\nx_total{"); n > maxSeries+1 {
		t.Fatalf("%d series", n)
	}
	if !strings.Contains(got, `x_total{word="other"} 2000`) {
		t.Fatal("what is beyond the bound is lost")
	}
}

func TestLabels_WrongNumberIsMended(t *testing.T) {
	r := NewRegistry()
	c := r.Counter("x_total", "h", "a", "b")
	c.Add("1")
	c.Add("1", "", "3")
	if got := text(t, r); !strings.Contains(got, `x_total{a="1",b=""} 2`) {
		t.Fatal(got)
	}
}

func TestUse_FromManySides(t *testing.T) {
	r := NewRegistry()
	c, h := r.Counter("x_total", "h", "a"), r.Histogram("y", "h", []float64{1}, "a")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 100 {
				c.Add(strconv.Itoa(i % 2))
				h.Observe(float64(i), "x")
				_ = r.Write(new(strings.Builder))
			}
		})
	}
	all.Wait()
	if got := text(t, r); !strings.Contains(got, `x_total{a="0"} 400`) || !strings.Contains(got, `y_count{a="x"} 800`) {
		t.Fatal(got)
	}
}
