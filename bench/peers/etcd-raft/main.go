// The peer "etcd-raft": go.etcd.io/raft with etcd's write-ahead log.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"peers/common"
)

const (
	tick = 100 * time.Millisecond
	// electionTicks and twice as many are how long a follower waits for its leader.
	electionTicks  = 15
	heartbeatTicks = 1
	// maxMessageBytes bounds the entries in one message, and proposeBytes the payload in one
	// proposal: what doesn't fit into one message waits for the follower's answer.
	maxMessageBytes = 2 << 20
	proposeBytes    = 1 << 20
	// entryOverhead is above what an entry is longer than its payload, in bytes.
	entryOverhead = 32
	// maxInFlightMessages and maxInFlightBytes bound what a follower has not answered yet.
	maxInFlightMessages = 512
	maxInFlightBytes    = 64 << 20
	// maxApplyingBytes bounds what the apply thread is behind.
	maxApplyingBytes = 64 << 20
	// keepBytes and keepEntries bound what stays in memory of the applied log.
	keepBytes   = 32 << 20
	keepEntries = 1 << 16
)

type engine struct {
	node *node
	log  *wal.WAL
}

func main() {
	common.Main(common.Peer{Name: "etcd-raft", Module: "go.etcd.io/raft/v3", Open: open})
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "etcd-raft: %v\n", err)
	os.Exit(1)
}

func open(config *common.Config) (common.Engine, map[string]string, error) {
	walLogger := zap.Must(zap.Config{
		Level:       zap.NewAtomicLevelAt(zap.WarnLevel),
		Encoding:    "console",
		OutputPaths: []string{"stderr"},
	}.Build())
	id := uint64(config.ID)
	var voters []uint64
	others := map[uint64]string{}
	for index, address := range config.Addresses {
		voter := uint64(index + 1)
		voters = append(voters, voter)
		if voter != id {
			others[voter] = address
		}
	}
	log, memory, err := openDisk(filepath.Join(config.DataDir, "wal"), voters, walLogger)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the log: %w", err)
	}
	raw, err := raft.NewRawNode(&raft.Config{
		ID:                        id,
		ElectionTick:              electionTicks,
		HeartbeatTick:             heartbeatTicks,
		Storage:                   memory,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMessageBytes,
		MaxCommittedSizePerReady:  maxApplyingBytes,
		MaxInflightMsgs:           maxInFlightMessages,
		MaxInflightBytes:          maxInFlightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		Logger:                    newLogger(),
	})
	if err != nil {
		return nil, nil, err
	}
	wake := newWake()
	n := &node{
		raw:      raw,
		wake:     wake,
		proposed: newMailbox[*common.Operation](wake),
		received: newMailbox[raftpb.Message](wake),
		batch:    max(1, proposeBytes/(config.Payload+entryOverhead)),
		keep:     uint64(max(1024, min(keepEntries, keepBytes/config.Payload))),
		dropped:  firstIndex,
	}
	n.disk = &disk{log: log, memory: memory, queue: newMailbox[raftpb.Message](newWake()), answer: n.answer}
	n.applier = &applier{
		queue:     newMailbox[raftpb.Message](newWake()),
		proposals: newMailbox[proposal](newWake()),
		answer:    n.answer,
	}
	receive := func(messages []raftpb.Message) { n.received.put(messages...) }
	if n.transport, err = newTransport(config.Address(), others, receive); err != nil {
		return nil, nil, err
	}
	go n.disk.run()
	go n.applier.run()
	go n.run()
	return &engine{node: n, log: log}, map[string]string{
		"log":                "go.etcd.io/etcd/server/v3/storage/wal, fdatasync",
		"AsyncStorageWrites": "true: messages to followers go out before the own write",
		"MaxSizePerMsg":      strconv.Itoa(maxMessageBytes),
		"MaxInflightMsgs":    strconv.Itoa(maxInFlightMessages),
		"MaxInflightBytes":   strconv.Itoa(maxInFlightBytes),
		"proposal at most":   strconv.Itoa(n.batch) + " operations",
		"election timeout":   (electionTicks * tick).String(),
		"heartbeat":          (heartbeatTicks * tick).String(),
		"PreVote":            "true",
		"CheckQuorum":        "true",
		"snapshots":          "off",
	}, nil
}

func (e *engine) Roles() (leads []int, known int) {
	if e.node.leader.Load() != raft.None {
		known = 1
	}
	if e.node.leads.Load() {
		leads = []int{1}
	}
	return leads, known
}

func (e *engine) Propose(operation *common.Operation) {
	e.node.proposed.put(operation)
}

func (e *engine) Applied() (count, hash uint64, err error) {
	count, hash = common.Combined([]*common.Machine{&e.node.applier.machine})
	return count, hash, nil
}

// Close closes the log; the threads end with the process.
func (e *engine) Close() error {
	return errors.Join(e.node.transport.close(), e.log.Close())
}
