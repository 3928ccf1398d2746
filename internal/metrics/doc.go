// Package metrics owns counters, histograms and gauges, and their text form
// that Prometheus reads (exposition format 0.0.4). Names follow Prometheus's
// conventions: base units, _total for counters, _seconds for durations.
//
// It refuses: globals, and labels without a bound. A family keeps at most
// maxSeries series; label values beyond that are counted together as "other",
// so that no caller can fill the memory with words of his own.
package metrics
