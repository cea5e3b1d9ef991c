package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes"
)

// The first status code that tells of a failure.
const firstErrorCode = 400

// histogram is one that a program tells of, in seconds.
type histogram struct {
	count, sum float64
	// How many were at most as long as the bound.
	upTo map[float64]float64
}

func (h *histogram) add(other *histogram, sign float64) {
	h.count += sign * other.count
	h.sum += sign * other.sum
	if h.upTo == nil {
		h.upTo = make(map[float64]float64)
	}
	for bound, count := range other.upTo {
		h.upTo[bound] += sign * count
	}
}

// quantile is, as Prometheus has it, on the line between the bounds of the bucket where it must be.
func (h *histogram) quantile(share float64) time.Duration {
	var bounds []float64
	for bound := range h.upTo {
		if !math.IsInf(bound, 1) {
			bounds = append(bounds, bound)
		}
	}
	slices.Sort(bounds)
	rank := share * h.count
	lower, below := 0.0, 0.0
	for _, bound := range bounds {
		if count := h.upTo[bound]; count >= rank && count > below {
			return seconds(lower + (bound-lower)*(rank-below)/(count-below))
		}
		lower, below = bound, h.upTo[bound]
	}
	// Longer than the last bound, by nobody knows how much; zero of none.
	if h.count == 0 {
		return 0
	}
	return seconds(lower)
}

func (h *histogram) mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return seconds(h.sum / h.count)
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

// kind is requests of a verb for a resource, or those of an operation to etcd.
type kind struct{ verb, resource string }

func (k kind) String() string { return k.verb + " " + k.resource }

// writes tells whether such requests change what is stored.
func (k kind) writes() bool {
	return slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}, k.verb)
}

// lasts tells of requests that last as long as who sent them wants it.
func (k kind) lasts() bool { return k.verb == "WATCH" || k.verb == "CONNECT" }

// metrics are what API servers tell of themselves, together.
type metrics struct {
	// Requests to them, and theirs to etcd.
	served, storage map[kind]*histogram
	// Failed requests, by code and kind.
	failed map[string]float64
	cpu    float64
}

func newMetrics() *metrics {
	return &metrics{
		served: map[kind]*histogram{}, storage: map[kind]*histogram{}, failed: map[string]float64{},
	}
}

// scrape asks each API server.
func scrape(ctx context.Context, clients []*kubernetes.Clientset) (*metrics, error) {
	all := newMetrics()
	for _, client := range clients {
		text, err := client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		if err != nil {
			return nil, fmt.Errorf("/metrics: %w", err)
		}
		if err := all.read(text); err != nil {
			return nil, fmt.Errorf("/metrics: %w", err)
		}
	}
	return all, nil
}

func (m *metrics) read(text []byte) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return err
	}
	for _, one := range families["apiserver_request_duration_seconds"].GetMetric() {
		of := labels(one)
		insert(m.served, kind{of["verb"], whole(of)}, histogramOf(one))
	}
	for _, one := range families["etcd_request_duration_seconds"].GetMetric() {
		of := labels(one)
		insert(m.storage, kind{of["operation"], of["resource"]}, histogramOf(one))
	}
	for _, one := range families["apiserver_request_total"].GetMetric() {
		of := labels(one)
		if code, err := strconv.Atoi(of["code"]); err == nil && code >= firstErrorCode {
			m.failed[of["code"]+" "+of["verb"]+" "+whole(of)] += one.GetCounter().GetValue()
		}
	}
	for _, one := range families["process_cpu_seconds_total"].GetMetric() {
		m.cpu += one.GetCounter().GetValue()
	}
	return nil
}

// whole is the name of a resource with that of the part of it which is meant.
func whole(labels map[string]string) string {
	if part := labels["subresource"]; part != "" {
		return labels["resource"] + "/" + part
	}
	return labels["resource"]
}

func labels(of *dto.Metric) map[string]string {
	all := make(map[string]string)
	for _, pair := range of.GetLabel() {
		all[pair.GetName()] = pair.GetValue()
	}
	return all
}

func histogramOf(one *dto.Metric) *histogram {
	told := one.GetHistogram()
	h := &histogram{
		count: float64(told.GetSampleCount()), sum: told.GetSampleSum(), upTo: map[float64]float64{},
	}
	for _, bucket := range told.GetBucket() {
		h.upTo[bucket.GetUpperBound()] = float64(bucket.GetCumulativeCount())
	}
	return h
}

func insert(all map[kind]*histogram, of kind, more *histogram) {
	if all[of] == nil {
		all[of] = &histogram{}
	}
	all[of].add(more, 1)
}

// since is what came to it after another one.
func (m *metrics) since(before *metrics) *metrics {
	difference := newMetrics()
	subtract := func(to, now, earlier map[kind]*histogram) {
		for of, one := range now {
			h := &histogram{}
			h.add(one, 1)
			if known := earlier[of]; known != nil {
				h.add(known, -1)
			}
			if h.count > 0 {
				to[of] = h
			}
		}
	}
	subtract(difference.served, m.served, before.served)
	subtract(difference.storage, m.storage, before.storage)
	for of, count := range m.failed {
		if more := count - before.failed[of]; more > 0 {
			difference.failed[of] = more
		}
	}
	difference.cpu = m.cpu - before.cpu
	return difference
}
