package main

import (
	"errors"
	"io"

	"github.com/lni/dragonboat/v4/statemachine"

	"peers/common"
)

var errSnapshots = errors.New("snapshots are off")

// machine is a group's state machine as the engine wants it, in batches.
type machine struct {
	state *common.Machine
}

var _ statemachine.IConcurrentStateMachine = machine{}

func (m machine) Update(entries []statemachine.Entry) ([]statemachine.Entry, error) {
	for _, entry := range entries {
		m.state.Apply(entry.Cmd)
	}
	return entries, nil
}

func (machine) Lookup(any) (any, error)       { return nil, nil }
func (machine) PrepareSnapshot() (any, error) { return nil, errSnapshots }
func (machine) Close() error                  { return nil }

func (machine) SaveSnapshot(any, io.Writer, statemachine.ISnapshotFileCollection, <-chan struct{}) error {
	return errSnapshots
}

func (machine) RecoverFromSnapshot(io.Reader, []statemachine.SnapshotFile, <-chan struct{}) error {
	return errSnapshots
}
