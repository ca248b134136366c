package driver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirstream/weir/connectors/internal/option"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// A side says which half of the connector a client property is for.
type side int

const (
	anySide side = iota
	sourceSide
	sinkSide
)

// A property is one of Kafka's own dotted client settings.
type property struct {
	side   side
	opt    option.Option                   // how its text is read
	apply  func(c *clientConfig, v string) // nil: accepted, read elsewhere or without a meaning here
	refuse string                          // not empty: why it cannot be set
}

// clientConfig gathers what the properties ask for.
type clientConfig struct {
	opts       []kgo.Opt
	props      map[string]string // in force
	protocol   string
	mechanism  string
	user, pass string
	ca, crt    string
	key        string
	noVerify   bool
}

func whole(min int64) option.Option { return option.Option{Type: option.Whole, Min: min} }

func choice(c ...string) option.Option { return option.Option{Type: option.Choice, Choices: c} }

func number(v string) int { n, _ := strconv.Atoi(v); return n }

func millis(v string) time.Duration { return time.Duration(number(v)) * time.Millisecond }

func withInt(f func(n int) kgo.Opt) func(c *clientConfig, v string) {
	return func(c *clientConfig, v string) { c.opts = append(c.opts, f(number(v))) }
}

func withTime(f func(d time.Duration) kgo.Opt) func(c *clientConfig, v string) {
	return func(c *clientConfig, v string) { c.opts = append(c.opts, f(millis(v))) }
}

// properties returns every client property that is known, by name.
func properties() map[string]property {
	text := option.Option{Type: option.Text}
	flag := option.Option{Type: option.Switch}
	return map[string]property{
		"bootstrap.servers": {opt: text},
		"client.id":         {opt: text, apply: func(c *clientConfig, v string) { c.opts = append(c.opts, kgo.ClientID(v)) }},
		"client.rack":       {side: sourceSide, opt: text, apply: func(c *clientConfig, v string) { c.opts = append(c.opts, kgo.Rack(v)) }},

		"security.protocol":                     {opt: choice("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), apply: func(c *clientConfig, v string) { c.protocol = v }},
		"sasl.mechanism":                        {opt: choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), apply: func(c *clientConfig, v string) { c.mechanism = v }},
		"sasl.username":                         {opt: text, apply: func(c *clientConfig, v string) { c.user = v }},
		"sasl.password":                         {opt: text, apply: func(c *clientConfig, v string) { c.pass = v }},
		"sasl.jaas.config":                      {opt: text, refuse: "set sasl.username and sasl.password instead"},
		"ssl.ca.location":                       {opt: text, apply: func(c *clientConfig, v string) { c.ca = v }},
		"ssl.certificate.location":              {opt: text, apply: func(c *clientConfig, v string) { c.crt = v }},
		"ssl.key.location":                      {opt: text, apply: func(c *clientConfig, v string) { c.key = v }},
		"ssl.truststore.location":               {opt: text, refuse: "set ssl.ca.location to a PEM file instead"},
		"ssl.keystore.location":                 {opt: text, refuse: "set ssl.certificate.location and ssl.key.location to PEM files instead"},
		"ssl.endpoint.identification.algorithm": {opt: choice("https", "none"), apply: func(c *clientConfig, v string) { c.noVerify = v == "none" }},

		"request.timeout.ms":                 {opt: whole(1), apply: withTime(func(d time.Duration) kgo.Opt { return kgo.RequestTimeoutOverhead(d) })},
		"connections.max.idle.ms":            {opt: whole(1), apply: withTime(func(d time.Duration) kgo.Opt { return kgo.ConnIdleTimeout(d) })},
		"socket.connection.setup.timeout.ms": {opt: whole(1), apply: withTime(func(d time.Duration) kgo.Opt { return kgo.DialTimeout(d) })},
		"metadata.max.age.ms":                {opt: whole(1), apply: withTime(func(d time.Duration) kgo.Opt { return kgo.MetadataMaxAge(d) })},
		"retry.backoff.ms":                   {opt: whole(1), apply: withTime(func(d time.Duration) kgo.Opt { return kgo.RetryBackoffFn(func(int) time.Duration { return d }) })},

		"group.id":                  {side: sourceSide, opt: text},
		"auto.offset.reset":         {side: sourceSide, opt: choice("none", "earliest", "latest")},
		"isolation.level":           {side: sourceSide, opt: choice("read_committed", "read_uncommitted")},
		"enable.auto.commit":        {side: sourceSide, opt: choice("false")},
		"max.poll.records":          {side: sourceSide, opt: whole(1)},
		"fetch.min.bytes":           {side: sourceSide, opt: whole(1), apply: withInt(func(n int) kgo.Opt { return kgo.FetchMinBytes(int32(n)) })},
		"fetch.max.bytes":           {side: sourceSide, opt: whole(1)},
		"max.partition.fetch.bytes": {side: sourceSide, opt: whole(1)},
		"fetch.max.wait.ms":         {side: sourceSide, opt: whole(10)},
		"check.crcs": {side: sourceSide, opt: flag, apply: func(c *clientConfig, v string) {
			if v == "false" {
				c.opts = append(c.opts, kgo.DisableFetchCRCValidation())
			}
		}},

		"acks":                                  {side: sinkSide, opt: choice("all", "-1", "1", "0")},
		"enable.idempotence":                    {side: sinkSide, opt: flag},
		"linger.ms":                             {side: sinkSide, opt: whole(0)},
		"batch.size":                            {side: sinkSide, opt: whole(1)},
		"max.request.size":                      {side: sinkSide, opt: whole(1024)},
		"buffer.memory":                         {side: sinkSide, opt: whole(1024)},
		"compression.type":                      {side: sinkSide, opt: choice("none", "gzip", "snappy", "lz4", "zstd")},
		"delivery.timeout.ms":                   {side: sinkSide, opt: whole(1)},
		"retries":                               {side: sinkSide, opt: whole(0)},
		"max.in.flight.requests.per.connection": {side: sinkSide, opt: whole(1)},
		"transaction.timeout.ms":                {side: sinkSide, opt: whole(1000)},
		"transactional.id":                      {side: sinkSide, opt: text, refuse: "each subtask owns a pool of them; set transactional_id_prefix"},
	}
}

// checkProperty tells whether name is a client property (all dotted names are
// taken for one) and what is wrong with it. mine is the side of the operator.
func checkProperty(mine side, name, v string) (handled bool, err error) {
	all := properties()
	p, ok := all[name]
	if !ok {
		if !strings.Contains(name, ".") {
			return false, nil
		}
		if near := dataflow.Nearest(name, slices.Sorted(maps.Keys(all))); near != "" {
			return true, fmt.Errorf("unknown client property %q: did you mean %q?", name, near)
		}
		return true, fmt.Errorf("unknown client property %q: known are %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	if p.refuse != "" {
		return true, fmt.Errorf("client property %q cannot be set: %s", name, p.refuse)
	}
	if mine != anySide && p.side != anySide && p.side != mine {
		return true, fmt.Errorf("client property %q is for %s only", name, map[side]string{sourceSide: "sources", sinkSide: "sinks"}[p.side])
	}
	o := p.opt
	o.Name = name
	if _, err := option.Read("", []option.Option{o}, map[string]string{name: v}, nil); err != nil {
		_, why, _ := strings.Cut(err.Error(), fmt.Sprintf("is %q: ", v))
		return true, fmt.Errorf("client property %q is %q: %s", name, v, why)
	}
	return true, nil
}

// connectionPrefix is where the settings of a named connection stand.
func connectionPrefix(name string) string { return "connections.kafka." + name + "." }

// gather merges the settings of the named connection with the declaration's own
// dotted options, which win.
func gather(name string, settings, options map[string]string) (map[string]string, error) {
	var errs []error
	props := map[string]string{}
	prefix := connectionPrefix(name)
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		p, ok := strings.CutPrefix(k, prefix)
		if !ok {
			continue
		}
		if handled, err := checkProperty(anySide, p, settings[k]); !handled {
			errs = append(errs, fmt.Errorf("kafka connection %q: unknown client property %q", name, p))
		} else if err != nil {
			errs = append(errs, fmt.Errorf("kafka connection %q: %w", name, err))
		}
		props[p] = settings[k]
	}
	all := properties()
	for k, v := range options {
		if _, ok := all[k]; ok {
			props[k] = v
		}
	}
	if props["bootstrap.servers"] == "" {
		errs = append(errs, fmt.Errorf("kafka: no broker is known for connection %q: set %sbootstrap.servers=HOST:PORT", name, prefix))
	}
	return props, errors.Join(errs...)
}

// metadataPause is the least time between two looks at the cluster: short, so
// that a new partition or leader is used soon.
const metadataPause = 250 * time.Millisecond

// backoff is the pause before try number tries of a request, in milliseconds 5, 10,
// 20 and so on to 2.5 s; retry.backoff.ms replaces it. It begins small because the
// first request of a transaction is often told to wait for the markers of the one
// before (CONCURRENT_TRANSACTIONS), which takes the broker a few milliseconds: with
// the client's own 250 ms, one epoch in ten came that much later.
func backoff(tries int) time.Duration {
	return min(5*time.Millisecond<<min(max(tries, 1)-1, 10), 2500*time.Millisecond)
}

// clientOptions turns properties into client options common to both sides and
// those of the given side. Requests are counted and the client logs where env can.
func clientOptions(mine side, props map[string]string, env spi.Env) ([]kgo.Opt, error) {
	c := clientConfig{props: props, opts: []kgo.Opt{kgo.RetryBackoffFn(backoff)}}
	all := properties()
	for _, k := range slices.Sorted(maps.Keys(props)) {
		p := all[k]
		if p.apply != nil && (p.side == anySide || p.side == mine) {
			p.apply(&c, props[k])
		}
	}
	var seeds []string
	for s := range strings.SplitSeq(props["bootstrap.servers"], ",") {
		if s = strings.TrimSpace(s); s != "" {
			seeds = append(seeds, s)
		}
	}
	c.opts = append(c.opts, kgo.SeedBrokers(seeds...), kgo.DisableClientMetrics(), kgo.MetadataMinAge(metadataPause))
	if props["client.id"] == "" {
		c.opts = append(c.opts, kgo.ClientID("weir"))
	}
	if env.Log != nil {
		c.opts = append(c.opts, kgo.WithLogger(clientLog{env.Log}))
	}
	if env.Count != nil {
		c.opts = append(c.opts, kgo.WithHooks(requestCount{env.Count}))
	}
	if err := c.security(); err != nil {
		return nil, err
	}
	return c.opts, nil
}

func (c *clientConfig) security() error {
	if strings.HasPrefix(c.protocol, "SASL") {
		if c.user == "" {
			return fmt.Errorf("kafka: security.protocol is %s but sasl.username is not set", c.protocol)
		}
		switch c.mechanism {
		case "SCRAM-SHA-256":
			c.opts = append(c.opts, kgo.SASL(scram.Auth{User: c.user, Pass: c.pass}.AsSha256Mechanism()))
		case "SCRAM-SHA-512":
			c.opts = append(c.opts, kgo.SASL(scram.Auth{User: c.user, Pass: c.pass}.AsSha512Mechanism()))
		default:
			c.opts = append(c.opts, kgo.SASL(plain.Auth{User: c.user, Pass: c.pass}.AsMechanism()))
		}
	}
	if !strings.HasSuffix(c.protocol, "SSL") {
		return nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return fmt.Errorf("kafka: ssl.ca.location: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("kafka: ssl.ca.location: %s holds no PEM certificate", c.ca)
		}
	}
	if c.noVerify { // the chain is verified, only the host's name is not
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: conf.RootCAs, Intermediates: x509.NewCertPool()}
			for _, cert := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	}
	if c.crt != "" {
		pair, err := tls.LoadX509KeyPair(c.crt, c.key)
		if err != nil {
			return fmt.Errorf("kafka: ssl.certificate.location: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	c.opts = append(c.opts, kgo.DialTLSConfig(conf))
	return nil
}
