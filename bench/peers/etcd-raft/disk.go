package main

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// The log begins after an entry that all nodes have: with it come the voters.
const (
	firstIndex = 1
	firstTerm  = 1
)

// memoryLog is the part of the log that the library may ask for again.
type memoryLog struct {
	*raft.MemoryStorage
}

// Snapshot is asked for when a follower lacks entries that were dropped from memory.
func (memoryLog) Snapshot() (raftpb.Snapshot, error) {
	return raftpb.Snapshot{}, errors.New("a follower needs entries that are only on disk: not supported")
}

// disk is the append thread: it makes entries, terms and votes durable, and then hands on the
// answers that wait for them. All that came during one write and sync shares the next.
type disk struct {
	log    *wal.WAL
	memory memoryLog
	queue  *mailbox[raftpb.Message]
	answer func([]raftpb.Message)
}

// openDisk opens the log, or makes it with the voters, and reads what is in it.
func openDisk(directory string, voters []uint64, logger *zap.Logger) (*wal.WAL, memoryLog, error) {
	memory := memoryLog{raft.NewMemoryStorage()}
	first := walpb.Snapshot{Index: firstIndex, Term: firstTerm, ConfState: &raftpb.ConfState{Voters: voters}}
	if !wal.Exist(directory) {
		created, err := wal.Create(logger, directory, nil)
		if err != nil {
			return nil, memory, err
		}
		err = created.SaveSnapshot(first)
		if err == nil {
			err = created.Save(raftpb.HardState{Term: firstTerm, Commit: firstIndex}, nil)
		}
		if err := errors.Join(err, created.Close()); err != nil {
			return nil, memory, err
		}
	}
	log, err := wal.Open(logger, directory, first)
	if err != nil {
		return nil, memory, err
	}
	_, state, entries, err := log.ReadAll()
	if err != nil {
		return nil, memory, err
	}
	metadata := raftpb.SnapshotMetadata{Index: firstIndex, Term: firstTerm, ConfState: *first.ConfState}
	err = errors.Join(
		memory.ApplySnapshot(raftpb.Snapshot{Metadata: metadata}),
		memory.SetHardState(state),
		memory.Append(entries))
	return log, memory, err
}

func (d *disk) run() {
	var batch []raftpb.Message
	for range d.queue.wake {
		batch = d.queue.take(batch)
		if err := d.write(batch); err != nil {
			fail(fmt.Errorf("writing the log: %w", err))
		}
		for _, message := range batch {
			d.answer(message.Responses)
		}
	}
}

// write makes the batch durable with one sync. Save syncs whenever there is an entry, a new term or
// a new vote.
func (d *disk) write(batch []raftpb.Message) error {
	var state raftpb.HardState
	var entries []raftpb.Entry
	for _, message := range batch {
		if message.Snapshot != nil {
			return errors.New("snapshots are not supported")
		}
		if message.Term != 0 {
			state = raftpb.HardState{Term: message.Term, Vote: message.Vote, Commit: message.Commit}
		}
		entries = append(entries, message.Entries...)
	}
	if err := d.log.Save(state, entries); err != nil {
		return err
	}
	if !raft.IsEmptyHardState(state) {
		if err := d.memory.SetHardState(state); err != nil {
			return err
		}
	}
	for _, message := range batch {
		if err := d.memory.Append(message.Entries); err != nil {
			return err
		}
	}
	return nil
}
