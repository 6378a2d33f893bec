package common

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
)

const (
	// gcPercent lets garbage grow to this many per cent of what lives before it is collected: the
	// Go runtime's own knob of processor time against memory ("A guide to the Go garbage collector").
	gcPercent = 400
	// memoryLimit makes the collector work harder when the heap comes near it, in bytes.
	memoryLimit = 1 << 30

	exitFailed = 1
	exitUsage  = 2
)

// Engine is one node of a replicated log.
type Engine interface {
	// Roles are the groups that this node leads now, from 1, and how many it knows a leader of.
	Roles() (leads []int, known int)
	// Propose begins an operation, and sees to it that it is finished. It may wait for room, not
	// for the outcome.
	Propose(operation *Operation)
	// Applied are the count and hash of all groups' state machines.
	Applied() (count, hash uint64, err error)
	Close() error
}

// Peer is what a program runs.
type Peer struct {
	Name string
	// Module is the engine's Go module: its version is the peer's.
	Module string
	// ManyGroups is whether it can have more than one group.
	ManyGroups bool
	// Open starts the engine, and tells its settings.
	Open func(config *Config) (engine Engine, settings map[string]string, err error)
}

// Main is a peer's program.
func Main(peer Peer) {
	config, err := parseConfig(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err == nil && config.Groups > 1 && !peer.ManyGroups {
		err = errors.New("it has one group: --groups other than 1 is refused")
	}
	if err != nil {
		exit(peer, exitUsage, err)
	}
	if err := run(peer, config); err != nil {
		exit(peer, exitFailed, err)
	}
}

func exit(peer Peer, code int, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", peer.Name, err)
	os.Exit(code)
}

func run(peer Peer, config *Config) error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if err := os.MkdirAll(config.DataDir, 0o755); err != nil {
		return err
	}
	engine, settings, err := peer.Open(config)
	if err != nil {
		return err
	}
	settings["GOGC"] = strconv.Itoa(gcPercent)
	settings["GOMEMLIMIT"] = strconv.Itoa(memoryLimit)
	settings["operations in flight at most"] = strconv.Itoa(config.InFlight)
	out := json.NewEncoder(os.Stdout)
	err = out.Encode(map[string]any{"ready": map[string]any{
		"name":     peer.Name,
		"version":  moduleVersion(peer.Module),
		"durable":  true,
		"settings": settings,
	}})
	if err == nil {
		err = follow(engine, config, out)
	}
	return errors.Join(err, engine.Close())
}

// follow does what standard input says, until it ends.
func follow(engine Engine, config *Config, out *json.Encoder) error {
	account := newAccount()
	var running *load
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		var answer map[string]any
		switch command := commands.Text(); command {
		case "roles":
			leads, known := engine.Roles()
			answer = map[string]any{"roles": map[string]any{"leads": append([]int{}, leads...), "known": known}}
		case "load":
			if running != nil {
				return errors.New("a load is running already")
			}
			var err error
			if running, err = startLoad(engine, config, account); err != nil {
				return err
			}
		case "measure":
			account.measure()
		case "end":
			seconds, inFlight := account.stop(), uint64(0)
			if running != nil {
				inFlight = running.stop()
			}
			answer = map[string]any{"measured": account.report(seconds, inFlight)}
			account, running = newAccount(), nil
		case "applied":
			count, hash, err := engine.Applied()
			if err != nil {
				return err
			}
			answer = map[string]any{"applied": map[string]any{"count": count, "hash": fmt.Sprintf("%016x", hash)}}
		default:
			return fmt.Errorf("%q is not a command", command)
		}
		if answer != nil {
			if err := out.Encode(answer); err != nil {
				return err
			}
		}
	}
	return commands.Err()
}

func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == path {
				return module.Version
			}
		}
	}
	return "unknown"
}
