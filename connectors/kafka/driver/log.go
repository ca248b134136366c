package driver

import (
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
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
