// The peer "hashicorp-raft": github.com/hashicorp/raft with its write-ahead log.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"peers/common"
)

const (
	// electionTimeout is long enough for a leader that waits for a loaded disk and processor.
	electionTimeout = 2 * time.Second
	// networkTimeout bounds an RPC; a follower answers one only after its fsync.
	networkTimeout = 10 * time.Second
	// connectionPool is how many idle connections are kept to each node.
	connectionPool = 3
	// maxAppendEntries is the most that the library accepts.
	maxAppendEntries = 1024
	// maxAppendBytes bounds the payload of one batch.
	maxAppendBytes = 4 << 20
	// cacheBytes bounds the payload in the log cache, and cacheEntries its entries.
	cacheBytes   = 64 << 20
	cacheEntries = 1 << 17
)

type engine struct {
	raft      *raft.Raft
	log       *wal.WAL
	transport *raft.NetworkTransport
	id        raft.ServerID
	machine   *machine
	// proposed are operations in flight in the order of the log, in which they are finished.
	proposed chan proposal
}

type proposal struct {
	future    raft.ApplyFuture
	operation *common.Operation
}

func main() {
	common.Main(common.Peer{Name: "hashicorp-raft", Module: "github.com/hashicorp/raft", Open: open})
}

func open(config *common.Config) (common.Engine, map[string]string, error) {
	inFlight, err := config.IntOption("max-rpcs-in-flight", raft.DefaultMaxRPCsInFlight)
	if err != nil {
		return nil, nil, err
	}
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	directory := filepath.Join(config.DataDir, "wal")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, nil, err
	}
	log, err := wal.Open(directory, wal.WithLogger(logger))
	if err != nil {
		return nil, nil, fmt.Errorf("opening the log: %w", err)
	}
	cache := max(512, min(cacheEntries, cacheBytes/config.Payload))
	cached, err := raft.NewLogCache(cache, log)
	if err != nil {
		return nil, nil, err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(config.DataDir, 1, logger)
	if err != nil {
		return nil, nil, err
	}
	transport, err := raft.NewTCPTransportWithConfig(config.Address(), nil, &raft.NetworkTransportConfig{
		Logger:          logger,
		MaxPool:         connectionPool,
		MaxRPCsInFlight: inFlight,
		Timeout:         networkTimeout,
	})
	if err != nil {
		return nil, nil, err
	}
	settings := raftConfig(config, logger)
	servers := make([]raft.Server, 0, len(config.Addresses))
	for index, address := range config.Addresses {
		servers = append(servers, raft.Server{ID: serverID(index + 1), Address: raft.ServerAddress(address)})
	}
	err = raft.BootstrapCluster(settings, cached, log, snapshots, transport, raft.Configuration{Servers: servers})
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return nil, nil, fmt.Errorf("bootstrapping: %w", err)
	}
	machine := &machine{}
	node, err := raft.NewRaft(settings, machine, cached, log, snapshots, transport)
	if err != nil {
		return nil, nil, err
	}
	e := &engine{
		raft:      node,
		log:       log,
		transport: transport,
		id:        settings.LocalID,
		machine:   machine,
		proposed:  make(chan proposal, config.InFlight),
	}
	go e.finish()
	return e, map[string]string{
		"log and stable store": "raft-wal, one fsync per batch",
		"BatchApplyCh":         "true",
		"MaxAppendEntries":     strconv.Itoa(settings.MaxAppendEntries),
		"MaxRPCsInFlight":      strconv.Itoa(inFlight),
		"LogCache":             strconv.Itoa(cache),
		"HeartbeatTimeout":     settings.HeartbeatTimeout.String(),
		"ElectionTimeout":      settings.ElectionTimeout.String(),
		"LeaderLeaseTimeout":   settings.LeaderLeaseTimeout.String(),
		"snapshots":            "off",
	}, nil
}

func raftConfig(config *common.Config, logger hclog.Logger) *raft.Config {
	settings := raft.DefaultConfig()
	settings.LocalID = serverID(config.ID)
	settings.Logger = logger
	settings.HeartbeatTimeout = electionTimeout
	settings.ElectionTimeout = electionTimeout
	settings.LeaderLeaseTimeout = electionTimeout
	settings.BatchApplyCh = true
	settings.MaxAppendEntries = max(16, min(maxAppendEntries, maxAppendBytes/config.Payload))
	// Off: no run lasts so long, or writes so much.
	settings.SnapshotInterval = 24 * time.Hour
	settings.SnapshotThreshold = 1 << 62
	settings.NoLegacyTelemetry = true
	return settings
}

func serverID(id int) raft.ServerID {
	return raft.ServerID(strconv.Itoa(id))
}

func (e *engine) Roles() (leads []int, known int) {
	_, leader := e.raft.LeaderWithID()
	if leader != "" {
		known = 1
	}
	if leader == e.id && e.raft.State() == raft.Leader {
		leads = []int{1}
	}
	return leads, known
}

// Propose waits while the library's queue is full.
func (e *engine) Propose(operation *common.Operation) {
	e.proposed <- proposal{e.raft.Apply(operation.Payload, 0), operation}
}

// finish waits for the futures in the order in which they were proposed, in which the library
// completes them too: one goroutine instead of one for each.
func (e *engine) finish() {
	for next := range e.proposed {
		err := next.future.Error()
		switch {
		case err == nil:
			next.operation.Finish(common.Acknowledged, nil)
		case errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress):
			next.operation.Finish(common.Failed, err)
		default:
			next.operation.Finish(common.Unknown, err)
		}
	}
}

func (e *engine) Applied() (count, hash uint64, err error) {
	count, hash = common.Combined([]*common.Machine{&e.machine.state})
	return count, hash, nil
}

func (e *engine) Close() error {
	return errors.Join(e.raft.Shutdown().Error(), e.transport.Close(), e.log.Close())
}
