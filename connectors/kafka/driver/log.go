package driver

import (
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// clientLog passes the client's warnings and errors on.
type clientLog struct{ log *slog.Logger }

// Level asks the client for warnings and errors only.
func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log writes one line of the client.
func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level == kgo.LogLevelError {
		l.log.Error("kafka client: "+msg, keyvals...)
		return
	}
	l.log.Warn("kafka client: "+msg, keyvals...)
}

// requestCount counts the requests that carry records. A broker's work is so much
// per request, so records per request tell what a job costs it.
type requestCount struct{ count func(metric string, n int64) }

// OnBrokerWrite is called by the client after each request that it wrote.
func (r requestCount) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	switch kmsg.Key(key) {
	case kmsg.Produce:
		r.count("produce_requests_total", 1)
	case kmsg.Fetch:
		r.count("fetch_requests_total", 1)
	}
}
