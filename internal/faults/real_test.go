package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/internal/failpoint"
)

// Ports of the servers that these tests start for themselves.
const (
	kafkaPort = "19392"
	s3Port    = "17270"
	bucket    = "lake"

	brokerKills = 10
)

// A deployment is a real Kafka broker and a real S3 server of our own.
type deployment struct {
	t        *testing.T
	brokers  string
	endpoint string
	folder   string // of the bucket
}

// deploy starts both servers on empty folders; they end with the test. Without
// WEIR_REAL=1 the test is skipped.
func deploy(t *testing.T) *deployment {
	t.Helper()
	if os.Getenv("WEIR_REAL") == "" {
		t.Skip("runs against a real Kafka and a real S3 server: make test-real")
	}
	d := &deployment{t: t}
	d.script("kafka.sh", "wipe", kafkaPort)
	d.script("s3.sh", "wipe", s3Port)
	t.Cleanup(func() { d.script("kafka.sh", "wipe", kafkaPort); d.script("s3.sh", "stop", s3Port) })
	d.brokers = d.script("kafka.sh", "start", kafkaPort)
	d.endpoint = d.script("s3.sh", "start", s3Port)
	for _, line := range strings.Split(d.script("s3.sh", "env", s3Port), "\n") {
		if folder, ok := strings.CutPrefix(line, "export WEIR_S3_DATA="); ok {
			d.folder = filepath.Join(folder, bucket)
			if err := os.MkdirAll(d.folder, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

func (d *deployment) script(name string, args ...string) string {
	d.t.Helper()
	out, err := scriptOutput(name, args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *deployment) url(folder string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=us-east-1&path_style=true", bucket, folder, d.endpoint)
}

// secrets are the environment of weir and of the judges.
func (d *deployment) secrets() []string {
	return []string{"AWS_ACCESS_KEY_ID=testkey", "AWS_SECRET_ACCESS_KEY=testsecret", "AWS_REGION=us-east-1",
		"AWS_ENDPOINT_URL=" + d.endpoint, "AWS_ALLOW_HTTP=true"}
}

func (d *deployment) topics(names ...string) {
	d.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.brokers))
	if err != nil {
		d.t.Fatal(err)
	}
	defer cl.Close()
	made, err := kadm.NewClient(cl).CreateTopics(d.t.Context(), partitions, 1, nil, names...)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// world makes a world whose broker, checkpoints and lake are the deployment's.
func (d *deployment) world(keys int64) *world {
	d.t.Helper()
	d.topics("in", "out")
	bin, err := built()
	if err != nil {
		d.t.Fatal(err)
	}
	w := &world{t: d.t, bin: bin, dir: filepath.Join(scratch(d.t), "weir"), keys: keys, brokers: d.brokers, env: d.secrets(),
		flags: []string{"--checkpoints", d.url("checkpoints"), "--lake", d.url("tables")},
		at:    "s3://" + bucket + "/tables/gold/out", folder: filepath.Join(d.folder, "tables/gold/out")}
	w.open()
	return w
}

// breakBroker kills the broker and starts it again, at random moments, until it was
// done n times or ctx ends; each time rows have come through since the last. Every
// second time the S3 server goes away for a moment too.
func (d *deployment) breakBroker(ctx context.Context, r *rand.Rand, n int, seen func() int64, done *atomic.Int64) error {
	for done.Load() < int64(n) {
		before := seen()
		for pause := time.Second + time.Duration(r.Int64N(int64(5*time.Second))); pause > 0 || seen() == before; pause -= 100 * time.Millisecond {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		}
		if _, err := scriptOutput("kafka.sh", "kill9", kafkaPort); err != nil {
			return err
		}
		if _, err := scriptOutput("kafka.sh", "start", kafkaPort); err != nil {
			return err
		}
		if done.Load()%2 == 1 {
			if _, err := scriptOutput("s3.sh", "stop", s3Port); err != nil {
				return err
			}
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done(): // it must run at the end
			}
			if _, err := scriptOutput("s3.sh", "start", s3Port); err != nil {
				return err
			}
		}
		d.t.Logf("the broker was killed for the %d. time", done.Add(1))
	}
	return nil
}

// The same on real parts: a Kafka that is killed too, checkpoints and lake on S3.
func TestExactlyOnceOnRealParts(t *testing.T) {
	d := deploy(t)
	python(t)
	w := d.world(997)
	w.env = append(w.env, failpoint.EnvSpoil+"=3")
	w.patient = 6 * time.Minute
	p := plan{kills: 20, rate: 1000, seed: uint64(time.Now().UnixNano())}
	r := rand.New(rand.NewPCG(p.seed, 7))
	all := failpoint.Points()
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	p.points = all

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var broken atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.breakBroker(ctx, rand.New(rand.NewPCG(p.seed, 8)), brokerKills, w.sink.distinct, &broken); err != nil {
			t.Error(err)
		}
	})
	w.settled = func() bool { return broken.Load() >= brokerKills }
	n := w.torture(p)
	stop()
	wg.Wait()
	w.mustBeClean(n)
	w.judgeSpark(w.folder, n, w.keys)
}
