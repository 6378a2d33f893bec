// The peer "dragonboat": github.com/lni/dragonboat.
package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/plugin/tan"
	"github.com/lni/dragonboat/v4/statemachine"

	"peers/common"
)

const (
	// defaultTick is the engine's clock, in milliseconds; it costs for each group.
	defaultTick = 10
	// electionTimeout and twice as much are how long a follower waits for its leader.
	electionTimeout = 2 * time.Second
	heartbeat       = 200 * time.Millisecond
	// workers are the engine's shards of each kind, for a machine with few cores.
	workers = 2
	// snapshotWorkers have nothing to do: snapshots are off.
	snapshotWorkers = 1
	// leastRoom is how many requests in flight a group has room for at least.
	leastRoom = 64
)

type engine struct {
	host     *dragonboat.NodeHost
	leaders  *leaders
	groups   []*group
	machines []*common.Machine
}

func main() {
	common.Main(common.Peer{
		Name:       "dragonboat",
		Module:     "github.com/lni/dragonboat/v4",
		ManyGroups: true,
		Open:       open,
	})
}

func open(arguments *common.Config) (common.Engine, map[string]string, error) {
	logger.SetLoggerFactory(newLogger)
	e := &engine{leaders: newLeaders(arguments)}
	shards, err := arguments.IntOption("workers", workers)
	if err != nil {
		return nil, nil, err
	}
	rtt, err := arguments.IntOption("rtt-millisecond", defaultTick)
	if err != nil {
		return nil, nil, err
	}
	tick := time.Duration(rtt) * time.Millisecond
	hostConfig := config.NodeHostConfig{
		NodeHostDir:       filepath.Join(arguments.DataDir, "dragonboat"),
		RTTMillisecond:    uint64(rtt),
		RaftAddress:       arguments.Address(),
		RaftEventListener: e.leaders,
		Expert: config.ExpertConfig{
			Engine: config.EngineConfig{
				ExecShards:     uint64(shards),
				CommitShards:   uint64(shards),
				ApplyShards:    uint64(shards),
				SnapshotShards: snapshotWorkers,
				CloseShards:    snapshotWorkers,
			},
			LogDB: config.GetSmallMemLogDBConfig(),
		},
	}
	hostConfig.Expert.LogDB.Shards = uint64(shards)
	log := arguments.Option("log", defaultLog(arguments.Groups))
	switch log {
	case "pebble":
	case "tan":
		hostConfig.Expert.LogDBFactory = tan.Factory
	default:
		return nil, nil, fmt.Errorf("option log: %q is neither pebble nor tan", log)
	}
	if e.host, err = dragonboat.NewNodeHost(hostConfig); err != nil {
		return nil, nil, err
	}
	if err := e.startGroups(arguments, tick); err != nil {
		return nil, nil, err
	}
	return e, map[string]string{
		"log":                                   log + ", synced",
		"ExecShards, CommitShards, ApplyShards": strconv.Itoa(shards),
		"LogDB.Shards":                          strconv.Itoa(shards),
		"LogDB":                                 "GetSmallMemLogDBConfig",
		"RTTMillisecond":                        strconv.Itoa(rtt),
		"election timeout":                      electionTimeout.String(),
		"heartbeat":                             heartbeat.String(),
		"PreVote":                               "true",
		"CheckQuorum":                           "true",
		"NotifyCommit":                          "false: acknowledged when applied",
		"snapshots":                             "off",
	}, nil
}

// defaultLog is the faster of the two: tan costs less, but has a log of its own, and so a sync, for
// each group, where pebble has one for each worker.
func defaultLog(groups int) string {
	if groups == 1 {
		return "tan"
	}
	return "pebble"
}

func (e *engine) startGroups(arguments *common.Config, tick time.Duration) error {
	members := map[uint64]dragonboat.Target{}
	for index, address := range arguments.Addresses {
		members[uint64(index+1)] = address
	}
	// A group's own share twice over: an open loop may gather more in one than in another.
	room := max(leastRoom, 2*arguments.InFlight/arguments.Groups)
	for number := uint64(1); number <= uint64(arguments.Groups); number++ {
		state := &common.Machine{}
		create := func(uint64, uint64) statemachine.IConcurrentStateMachine { return machine{state} }
		err := e.host.StartConcurrentReplica(members, false, create, config.Config{
			ReplicaID:    uint64(arguments.ID),
			ShardID:      number,
			CheckQuorum:  true,
			PreVote:      true,
			ElectionRTT:  uint64(electionTimeout / tick),
			HeartbeatRTT: uint64(heartbeat / tick),
		})
		if err != nil {
			return fmt.Errorf("starting group %d: %w", number, err)
		}
		e.machines = append(e.machines, state)
		e.groups = append(e.groups, newGroup(e.host, number, room))
	}
	return nil
}

func (e *engine) Roles() (leads []int, known int) {
	return e.leaders.roles()
}

func (e *engine) Propose(operation *common.Operation) {
	e.groups[operation.Group-1].propose(operation)
}

func (e *engine) Applied() (count, hash uint64, err error) {
	count, hash = common.Combined(e.machines)
	return count, hash, nil
}

func (e *engine) Close() error {
	e.host.Close()
	return nil
}
