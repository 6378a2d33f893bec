package main

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"

	"peers/common"
)

// machine is the state machine as the library wants it, in batches.
type machine struct {
	state common.Machine
}

var _ raft.BatchingFSM = (*machine)(nil)

func (m *machine) Apply(entry *raft.Log) any {
	m.state.Apply(entry.Data)
	return nil
}

func (m *machine) ApplyBatch(entries []*raft.Log) []any {
	for _, entry := range entries {
		if entry.Type == raft.LogCommand {
			m.state.Apply(entry.Data)
		}
	}
	return make([]any, len(entries))
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	return nil, errors.New("snapshots are off")
}

func (m *machine) Restore(io.ReadCloser) error {
	return errors.New("snapshots are off")
}
