package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"peers/common"
)

// node is the raft thread: it alone touches the library's state machine. The append and apply
// threads and the network answer to it by its mailboxes.
type node struct {
	raw       *raft.RawNode
	wake      chan struct{}
	proposed  *mailbox[*common.Operation]
	received  *mailbox[raftpb.Message]
	disk      *disk
	applier   *applier
	transport *transport
	// batch is how many operations are at most proposed together.
	batch int
	// keep is how many applied entries stay in memory for followers, and dropped the last that left.
	keep, dropped uint64
	// leads and leader are the raft state for whoever asks.
	leads  atomic.Bool
	leader atomic.Uint64
}

func (n *node) run() {
	ticker := time.NewTicker(tick)
	var messages []raftpb.Message
	var operations []*common.Operation
	for {
		select {
		case <-n.wake:
		case <-ticker.C:
			n.raw.Tick()
		}
		messages = n.received.take(messages)
		for _, message := range messages {
			n.step(message)
		}
		operations = n.proposed.take(operations)
		for rest := operations; len(rest) > 0; {
			together := min(n.batch, len(rest))
			n.propose(rest[:together])
			rest = rest[together:]
		}
		for n.raw.HasReady() {
			n.dispatch(n.raw.Ready())
		}
		n.drop()
	}
}

func (n *node) step(message raftpb.Message) {
	if message.Type == raftpb.MsgUnreachable {
		n.raw.ReportUnreachable(message.From)
		return
	}
	if err := n.raw.Step(message); err != nil {
		fmt.Fprintf(os.Stderr, "a message %v from %d: %v\n", message.Type, message.From, err)
	}
}

// propose makes one message of the operations, so that each follower is sent one.
func (n *node) propose(operations []*common.Operation) {
	entries := make([]raftpb.Entry, len(operations))
	for index, operation := range operations {
		entries[index].Data = operation.Payload
	}
	if err := n.raw.Step(raftpb.Message{Type: raftpb.MsgProp, Entries: entries}); err != nil {
		for _, operation := range operations {
			operation.Finish(common.Failed, err)
		}
		return
	}
	proposals := make([]proposal, len(operations))
	for index, operation := range operations {
		// The library has set where the entries are.
		proposals[index] = proposal{entries[index].Index, entries[index].Term, operation}
	}
	n.applier.proposals.put(proposals...)
}

// dispatch hands messages to their threads. Those to other nodes go out at once: what has to wait
// for this node's disk is in the answers of its append.
func (n *node) dispatch(ready raft.Ready) {
	if ready.SoftState != nil {
		n.leader.Store(ready.SoftState.Lead)
		n.leads.Store(ready.SoftState.RaftState == raft.StateLeader)
	}
	for _, message := range ready.Messages {
		switch message.To {
		case raft.LocalAppendThread:
			n.disk.queue.put(message)
		case raft.LocalApplyThread:
			n.applier.queue.put(message)
		default:
			n.transport.send(message)
		}
	}
}

// answer delivers the answers of an append or apply thread.
func (n *node) answer(answers []raftpb.Message) {
	for _, message := range answers {
		if _, other := n.transport.peers[message.To]; other {
			n.transport.send(message)
		} else {
			n.received.put(message)
		}
	}
}

// drop forgets entries in memory that nobody is expected to ask for: all that are applied here but
// the newest, and on the leader none that a follower lacks.
func (n *node) drop() {
	applied := n.applier.applied.Load()
	if applied < n.dropped+2*n.keep {
		return
	}
	upTo := applied - n.keep
	if n.leads.Load() {
		n.raw.WithProgress(func(_ uint64, _ raft.ProgressType, progress tracker.Progress) {
			upTo = min(upTo, progress.Match)
		})
	}
	// An entry can be applied before it is durable here.
	stable, err := n.disk.memory.LastIndex()
	if err != nil {
		fail(err)
	}
	upTo = min(upTo, stable)
	if upTo <= n.dropped {
		return
	}
	if err := n.disk.memory.Compact(upTo); err != nil {
		fail(fmt.Errorf("dropping entries up to %d: %w", upTo, err))
	}
	n.dropped = upTo
}
