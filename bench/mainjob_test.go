package bench

import (
	"strings"
	"testing"

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
