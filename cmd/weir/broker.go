package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kfake"
)

// brokerCommand is the embedded Kafka broker, in a process of its own: weir dev
// starts it as a child, tests start it by hand.
func brokerCommand() *cobra.Command {
	var listen, dir string
	var topics []string
	cmd := &cobra.Command{
		Use: "broker", Short: "Run the embedded Kafka broker (for development: one node, data in a folder)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := startBroker(listen, dir, topics)
			if err != nil {
				return err
			}
			defer c.Close()
			fmt.Fprintln(cmd.OutOrStdout(), strings.Join(c.ListenAddrs(), ","))
			waitForEnd(cmd.Context())
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9092", "address; port 0 takes a free one, printed at the start")
	cmd.Flags().StringVar(&dir, "dir", "", "folder that keeps the data; without it data is lost at the end")
	cmd.Flags().StringArrayVar(&topics, "topic", nil, "NAME:PARTITIONS to create; may be repeated")
	return cmd
}

func startBroker(listen, dir string, topics []string) (*kfake.Cluster, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %q: want HOST:PORT: %w", listen, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("--listen %q: want HOST:PORT: %w", listen, err)
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(n), kfake.ClusterID("weir"),
		kfake.ListenFn(func(network, addr string) (net.Listener, error) {
			_, p, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return net.Listen(network, net.JoinHostPort(host, p))
		}),
		kfake.BrokerConfigs(map[string]string{"transaction.max.timeout.ms": "86400000"}),
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("broker folder: %w", err)
		}
		opts = append(opts, kfake.DataDir(dir), kfake.SyncWrites())
	}
	for _, t := range topics {
		name, parts, ok := strings.Cut(t, ":")
		k, err := strconv.Atoi(parts)
		if !ok || name == "" || err != nil || k < 1 {
			return nil, fmt.Errorf("--topic %q: want NAME:PARTITIONS", t)
		}
		opts = append(opts, kfake.SeedTopics(int32(k), name))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return nil, fmt.Errorf("the broker cannot listen on %s: %w: choose another --listen", listen, op.Err)
		}
		return nil, fmt.Errorf("broker: %w", err)
	}
	return c, nil
}
