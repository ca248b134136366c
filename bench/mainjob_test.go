package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/weirstream/weir/bench/mainjob"
)

// Every workload of throughput runs to its end.
func TestWorkloads(t *testing.T) {
	const n = 20_000
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	addr := strings.Join(broker.ListenAddrs(), ",")
	if err := mainjob.CreateTopic(t.Context(), addr, mainjob.Topic, 4); err != nil {
		t.Fatal(err)
	}
	if err := mainjob.Load(t.Context(), addr, mainjob.Topic, n, 100); err != nil {
		t.Fatal(err)
	}
	for _, w := range Workloads() {
		r, err := MainJob(t.Context(), MainJobOptions{Workload: w, Brokers: addr, Kafka: "embedded", Events: n, Keys: 100})
		if err != nil {
			t.Fatalf("%s: %v", w, err)
		}
		if r.Seconds <= 0 || r.CPUSeconds <= 0 || r.PerCPU <= 0 || r.Machine.Cores == 0 {
			t.Errorf("%s: %+v", w, r)
		}
	}
}

// The latency workload brings every record through the job and, before, through one
// topic without it, and tells what the job costs loaded and idle.
func TestLatency(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	addr := strings.Join(broker.ListenAddrs(), ",")
	for _, topic := range []string{mainjob.Paced, mainjob.Out, mainjob.Floor} {
		if err := mainjob.CreateTopic(t.Context(), addr, topic, 2); err != nil {
			t.Fatal(err)
		}
	}
	const rate, counted = 400, 200
	pace := func(to, from string) func(context.Context) (mainjob.Latencies, error) {
		return func(ctx context.Context) (mainjob.Latencies, error) {
			return mainjob.Pace(ctx, mainjob.PacedOptions{Brokers: addr, To: to, From: from, Rate: rate, Keys: 10,
				Warm: 300 * time.Millisecond, Run: 500 * time.Millisecond, Committed: true})
		}
	}
	r, err := MainJob(t.Context(), MainJobOptions{Workload: Latency, Brokers: addr, Interval: 100 * time.Millisecond, Rate: rate,
		Pace: pace(mainjob.Paced, mainjob.Out), Floor: pace(mainjob.Floor, mainjob.Floor), Idle: 100 * time.Millisecond,
		Kgo: map[string]string{"linger.ms": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*mainjob.Latencies{r.Latency, r.Floor} {
		if l == nil || l.Sent != counted || l.Received != counted || l.P50 <= 0 || l.P50 > l.P99 || l.ProduceRequests == 0 || l.FetchRequests == 0 {
			t.Errorf("latencies: %+v", l)
		}
	}
	if r.LoadCPU <= 0 || r.IdleCPU <= 0 || r.Counts["produce_requests_total"] == 0 || r.Counts["fetch_requests_total"] == 0 || r.Settings["linger.ms"] != "1" {
		t.Errorf("loaded %v, idle %v, counts %v, settings %v", r.LoadCPU, r.IdleCPU, r.Counts, r.Settings)
	}
}

// What cannot run is refused by name, before anything starts.
func TestRefusals(t *testing.T) {
	_, err := MainJob(t.Context(), MainJobOptions{Workload: "kafka-redis"})
	if err == nil || !strings.Contains(err.Error(), "kafka-redis") || !strings.Contains(err.Error(), KafkaDelta) {
		t.Errorf("an unknown workload: %v", err)
	}
	if _, err = MainJob(t.Context(), MainJobOptions{Workload: KafkaCount}); err == nil || !strings.Contains(err.Error(), "broker") {
		t.Errorf("no broker: %v", err)
	}
	if _, err = Nexmark(t.Context(), NexmarkOptions{Query: "q4"}); err == nil || !strings.Contains(err.Error(), "q4") || !strings.Contains(err.Error(), "q17") {
		t.Errorf("an unknown query: %v", err)
	}
	_, err = Nexmark(t.Context(), NexmarkOptions{Query: "q0", Events: -1, Density: -1, Parallelism: -1})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("three faults: %v", err)
	}
}
