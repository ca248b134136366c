package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weirstream/weir/jobmanager"
)

// metricsHandler serves the figures of all live jobs, and the process's own, in
// Prometheus' text format.
func metricsHandler(jobs *jobmanager.Manager) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), jobCollector{jobs})
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// jobCollector reads the job manager's view at each scrape.
type jobCollector struct{ jobs *jobmanager.Manager }

var (
	operatorLabels = []string{"pipeline", "operator"}
	rowsIn         = prometheus.NewDesc("weir_operator_rows_in_total", "Rows that entered the operator.", operatorLabels, nil)
	rowsOut        = prometheus.NewDesc("weir_operator_rows_out_total", "Rows that left the operator.", operatorLabels, nil)
	lagRecords     = prometheus.NewDesc("weir_source_lag_records", "Records known to wait in the source.", operatorLabels, nil)
	watermarkSecs  = prometheus.NewDesc("weir_operator_watermark_seconds", "Watermark reached, seconds since 1970.", operatorLabels, nil)
	stateBytes     = prometheus.NewDesc("weir_operator_state_bytes", "Bytes of state held in memory.", operatorLabels, nil)
	busyRatio      = prometheus.NewDesc("weir_operator_busy_ratio", "Share of time the busiest subtask worked.", operatorLabels, nil)
	heldRatio      = prometheus.NewDesc("weir_operator_backpressured_ratio", "Share of time the most held subtask had no room.", operatorLabels, nil)
	epochNumber    = prometheus.NewDesc("weir_checkpoint_last_epoch", "Newest complete epoch.", []string{"pipeline"}, nil)
	epochSeconds   = prometheus.NewDesc("weir_checkpoint_last_duration_seconds", "Duration of the newest complete epoch.", []string{"pipeline"}, nil)
	epochBytes     = prometheus.NewDesc("weir_checkpoint_last_new_bytes", "Bytes uploaded for the newest complete epoch.", []string{"pipeline"}, nil)
	epochHeld      = prometheus.NewDesc("weir_checkpoint_held_seconds", "Time that an epoch kept a subtask from its rows.", []string{"pipeline"}, nil)
	restarts       = prometheus.NewDesc("weir_job_restarts_total", "Restarts of the job.", []string{"pipeline"}, nil)
)

func (c jobCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c jobCollector) Collect(ch chan<- prometheus.Metric) {
	for _, j := range c.jobs.Jobs() {
		if j.Phase.Terminal() {
			continue
		}
		p := string(j.Pipeline)
		ch <- prometheus.MustNewConstMetric(restarts, prometheus.CounterValue, float64(j.Restarts), p)
		ch <- prometheus.MustNewConstHistogram(epochHeld, j.Held.Count, j.Held.Sum, j.Held.Buckets, p)
		for i := len(j.Checkpoints) - 1; i >= 0; i-- {
			if s := j.Checkpoints[i]; s.Status == "completed" || s.Status == "finished" {
				ch <- prometheus.MustNewConstMetric(epochNumber, prometheus.GaugeValue, float64(s.Epoch), p)
				ch <- prometheus.MustNewConstMetric(epochSeconds, prometheus.GaugeValue, s.Duration.Seconds(), p)
				ch <- prometheus.MustNewConstMetric(epochBytes, prometheus.GaugeValue, float64(s.NewBytes), p)
				break
			}
		}
		for _, o := range j.Operators {
			op := string(o.Operator)
			ch <- prometheus.MustNewConstMetric(rowsIn, prometheus.CounterValue, float64(o.In), p, op)
			ch <- prometheus.MustNewConstMetric(rowsOut, prometheus.CounterValue, float64(o.Out), p, op)
			ch <- prometheus.MustNewConstMetric(lagRecords, prometheus.GaugeValue, float64(o.Lag), p, op)
			ch <- prometheus.MustNewConstMetric(watermarkSecs, prometheus.GaugeValue, float64(o.Watermark)/1e6, p, op)
			ch <- prometheus.MustNewConstMetric(stateBytes, prometheus.GaugeValue, float64(o.State), p, op)
			ch <- prometheus.MustNewConstMetric(busyRatio, prometheus.GaugeValue, o.Busy, p, op)
			ch <- prometheus.MustNewConstMetric(heldRatio, prometheus.GaugeValue, o.Held, p, op)
		}
	}
}
