// Package common is what the peers written in Go share: the command line, the commands on standard
// input, the load and its account, and the state machine. A peer adds the binding to its engine.
package common

import (
	"flag"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// maxPayloadInFlight bounds the memory that operations in flight hold, in bytes of payload. It only
// lowers --inflight for large payloads: at 64 KiB to 1,024, at 1 KiB or less not at all.
const maxPayloadInFlight = 64 << 20

// numberLength is how many bytes at a payload's beginning hold the operation's number.
const numberLength = 8

// Config is a node's command line.
type Config struct {
	// ID is the node's place in Addresses, from 1.
	ID        int
	Addresses []string
	DataDir   string
	// Payload is an operation's length in bytes.
	Payload int
	// InFlight is the number of operations in flight in all groups together.
	InFlight int
	Groups   int
	// Rate is the operations per second of all groups together; 0 for a closed loop.
	Rate    float64
	Options map[string]string
}

// Address is the node's own address.
func (c *Config) Address() string {
	return c.Addresses[c.ID-1]
}

// Option is the value of the peer's own option, or fallback if it isn't given.
func (c *Config) Option(name, fallback string) string {
	if value, given := c.Options[name]; given {
		return value
	}
	return fallback
}

// IntOption is an option that is a positive number.
func (c *Config) IntOption(name string, fallback int) (int, error) {
	value, err := strconv.Atoi(c.Option(name, strconv.Itoa(fallback)))
	if err != nil || value < 1 {
		return 0, fmt.Errorf("option %s: %q is not a positive number", name, c.Options[name])
	}
	return value, nil
}

// Shifted is an address with a port so much higher: a node may use those up to 9 above its own.
func Shifted(address string, by int) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return "", fmt.Errorf("address %s: %w", address, err)
	}
	return net.JoinHostPort(host, strconv.Itoa(number+by)), nil
}

func parseConfig(args []string) (*Config, error) {
	config := &Config{Options: map[string]string{}}
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	flags.IntVar(&config.ID, "id", 0, "this node's `number`, from 1")
	addresses := flags.String("addresses", "", "the nodes' `HOST:PORT`s, separated by commas")
	flags.StringVar(&config.DataDir, "data-dir", "", "the `directory` for the log")
	flags.IntVar(&config.Payload, "payload", 16, "an operation's length in `bytes`")
	flags.IntVar(&config.InFlight, "inflight", 1, "`operations` in flight in all groups together")
	flags.IntVar(&config.Groups, "groups", 1, "the `number` of groups")
	flags.Float64Var(&config.Rate, "rate", 0, "`operations` per second in an open loop")
	flags.Func("option", "the peer's own `NAME=VALUE`", func(option string) error {
		name, value, found := strings.Cut(option, "=")
		if !found {
			return fmt.Errorf("%q is not NAME=VALUE", option)
		}
		config.Options[name] = value
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	config.Addresses = strings.Split(*addresses, ",")
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	config.InFlight = min(config.InFlight, max(1, maxPayloadInFlight/config.Payload))
	return config, nil
}

func (c *Config) check() error {
	switch {
	case c.ID < 1 || c.ID > len(c.Addresses):
		return fmt.Errorf("--id %d is none of the %d addresses", c.ID, len(c.Addresses))
	case c.DataDir == "":
		return fmt.Errorf("--data-dir is missing")
	case c.Payload < numberLength:
		return fmt.Errorf("--payload is less than %d", numberLength)
	case c.InFlight < 1 || c.Groups < 1 || c.Rate < 0:
		return fmt.Errorf("--inflight and --groups are at least 1, --rate is positive")
	}
	for _, address := range c.Addresses {
		if _, err := Shifted(address, 0); err != nil {
			return fmt.Errorf("--addresses: %w", err)
		}
	}
	return nil
}
