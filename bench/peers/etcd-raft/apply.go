package main

import (
	"errors"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"peers/common"
)

var errReplaced = errors.New("another leader's entry took the operation's place")

// proposal is an operation at its place in the log.
type proposal struct {
	index, term uint64
	operation   *common.Operation
}

// applier is the apply thread: it applies what is committed, and finishes the operations that were
// proposed here.
type applier struct {
	machine   common.Machine
	queue     *mailbox[raftpb.Message]
	proposals *mailbox[proposal]
	answer    func([]raftpb.Message)
	// applied is the last entry's index.
	applied atomic.Uint64
}

func (a *applier) run() {
	var batch []raftpb.Message
	var taken, waiting []proposal
	for range a.queue.wake {
		batch = a.queue.take(batch)
		// A proposal is registered before its entry can be here.
		taken = a.proposals.take(taken)
		waiting = append(waiting, taken...)
		for _, message := range batch {
			for _, entry := range message.Entries {
				waiting = a.apply(entry, waiting)
			}
			a.answer(message.Responses)
		}
	}
}

// apply applies an entry, and returns the proposals that still wait.
func (a *applier) apply(entry raftpb.Entry, waiting []proposal) []proposal {
	// The first entry of a leader's term is empty.
	if len(entry.Data) > 0 {
		a.machine.Apply(entry.Data)
	}
	a.applied.Store(entry.Index)
	for len(waiting) > 0 && waiting[0].index <= entry.Index {
		first := waiting[0]
		waiting = waiting[1:]
		if first.index == entry.Index && first.term == entry.Term {
			first.operation.Finish(common.Acknowledged, nil)
		} else {
			first.operation.Finish(common.Failed, errReplaced)
		}
	}
	return waiting
}
