package main

import (
	"sync/atomic"

	"github.com/lni/dragonboat/v4/raftio"

	"peers/common"
)

// leaders keeps each group's leader as the engine tells it: to ask for thousands of groups again
// and again would cost.
type leaders struct {
	id uint64
	// of has the leaders of groups 1 and up, or NoLeader.
	of []atomic.Uint64
}

var _ raftio.IRaftEventListener = (*leaders)(nil)

func newLeaders(arguments *common.Config) *leaders {
	return &leaders{id: uint64(arguments.ID), of: make([]atomic.Uint64, arguments.Groups)}
}

func (l *leaders) LeaderUpdated(info raftio.LeaderInfo) {
	l.of[info.ShardID-1].Store(info.LeaderID)
}

func (l *leaders) roles() (leads []int, known int) {
	for index := range l.of {
		leader := l.of[index].Load()
		if leader != raftio.NoLeader {
			known++
		}
		if leader == l.id {
			leads = append(leads, index+1)
		}
	}
	return leads, known
}
