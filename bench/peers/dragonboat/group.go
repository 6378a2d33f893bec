package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"

	"peers/common"
)

const (
	// proposeTimeout is when the engine forgets an operation that has not completed.
	proposeTimeout = 30 * time.Second
	// roomWait is how long a proposal waits when the engine's queue is full: about as long as its
	// workers take to empty it.
	roomWait = 50 * time.Microsecond
)

// group proposes to one group.
type group struct {
	host    *dragonboat.NodeHost
	session *client.Session
	// proposed are operations in flight in the order of the log.
	proposed chan proposal
}

type proposal struct {
	request   *dragonboat.RequestState
	operation *common.Operation
}

func newGroup(host *dragonboat.NodeHost, number uint64, room int) *group {
	g := &group{host: host, session: host.GetNoOPSession(number), proposed: make(chan proposal, room)}
	go g.finish()
	return g
}

// propose waits while the engine has no room.
func (g *group) propose(operation *common.Operation) {
	for {
		request, err := g.host.Propose(g.session, operation.Payload, proposeTimeout)
		switch {
		case err == nil:
			g.proposed <- proposal{request, operation}
			return
		case errors.Is(err, dragonboat.ErrSystemBusy):
			operation.PutOff()
			time.Sleep(roomWait)
		default:
			operation.Finish(common.Failed, err)
			return
		}
	}
}

// finish waits for the requests in the order in which they were proposed, in which the engine
// completes them too: one goroutine instead of one for each.
func (g *group) finish() {
	for next := range g.proposed {
		result := <-next.request.ResultC()
		switch {
		case result.Completed():
			next.operation.Finish(common.Acknowledged, nil)
		case result.Dropped():
			next.operation.Finish(common.Failed, dragonboat.ErrShardNotReady)
		default:
			next.operation.Finish(common.Unknown, fmt.Errorf("%w: %s", errOutcome, outcome(result)))
		}
		next.request.Release()
	}
}

var errOutcome = errors.New("the engine gave the operation up")

func outcome(result dragonboat.RequestResult) string {
	switch {
	case result.Timeout():
		return "timed out"
	case result.Terminated():
		return "terminated"
	case result.Aborted():
		return "aborted"
	default:
		return "rejected"
	}
}
