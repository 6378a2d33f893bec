// The peer "etcd": the etcd server itself, embedded.
package main

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"peers/common"
)

const (
	heartbeatMilliseconds = 100
	electionMilliseconds  = 2000
	// clientPort is how far the port for clients is above the node's own.
	clientPort = 1
	// maxConnections is as many as `kv compare` can ask for.
	maxConnections = 1000
	// quotaBytes is the most that etcd's documentation suggests for the store.
	quotaBytes = 8 << 30
	// logBytes bounds the payload in memory that the log holds between two of etcd's snapshots.
	logBytes = 128 << 20
	// leastSnapshotCount keeps snapshots rare with the largest payloads.
	leastSnapshotCount = 1000
)

type engine struct {
	etcd *embed.Etcd
	puts *puts
}

func main() {
	common.Main(common.Peer{Name: "etcd", Module: "go.etcd.io/etcd/server/v3", Open: open})
}

func open(config *common.Config) (common.Engine, map[string]string, error) {
	reads, err := number(config, "reads", 100)
	if err != nil {
		return nil, nil, err
	}
	connections, err := number(config, "grpc", maxConnections)
	if err != nil {
		return nil, nil, err
	}
	settings, err := serverConfig(config)
	if err != nil {
		return nil, nil, err
	}
	etcd, err := embed.StartEtcd(settings)
	if err != nil {
		return nil, nil, err
	}
	go func() {
		if err := <-etcd.Err(); err != nil {
			fail(err)
		}
	}()
	clients, position, err := connect(etcd, connections)
	if err != nil {
		return nil, nil, err
	}
	workers := min(config.InFlight, maxWorkers)
	e := &engine{etcd: etcd, puts: startPuts(clients, reads, workers)}
	return e, map[string]string{
		"heartbeat-interval":       strconv.Itoa(int(settings.TickMs)) + " ms",
		"election-timeout":         strconv.Itoa(int(settings.ElectionMs)) + " ms",
		"snapshot-count":           strconv.FormatUint(settings.SnapshotCount, 10),
		"snapshot-catchup-entries": strconv.FormatUint(settings.SnapshotCatchUpEntries, 10),
		"quota-backend-bytes":      strconv.FormatInt(settings.QuotaBackendBytes, 10),
		"log-level":                settings.LogLevel,
		"client":                   position,
		"puts at once at most":     strconv.Itoa(workers),
		"keys":                     strconv.Itoa(keyCount),
		"reads":                    strconv.Itoa(reads) + " %",
		"unsafe-no-fsync":          strconv.FormatBool(settings.UnsafeNoFsync),
	}, nil
}

// number is an option from 0, which it is by default, to most.
func number(config *common.Config, option string, most int) (int, error) {
	value, err := strconv.Atoi(config.Option(option, "0"))
	if err != nil || value < 0 || value > most {
		return 0, fmt.Errorf("option %s: %q is no number from 0 to %d", option, config.Options[option], most)
	}
	return value, nil
}

// connect makes the clients of the node's own server: over so many connections, or without any.
func connect(etcd *embed.Etcd, connections int) ([]*clientv3.Client, string, error) {
	if connections == 0 {
		return []*clientv3.Client{v3client.New(etcd.Server)}, "in the leader's process, no gRPC", nil
	}
	endpoint := etcd.Config().AdvertiseClientUrls[0].String()
	var clients []*clientv3.Client
	for range connections {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
		if err != nil {
			return nil, "", err
		}
		clients = append(clients, client)
	}
	return clients, fmt.Sprintf("in the leader's process, gRPC over %d connections", connections), nil
}

func serverConfig(config *common.Config) (*embed.Config, error) {
	settings := embed.NewConfig()
	settings.Name = name(config.ID)
	settings.Dir = filepath.Join(config.DataDir, "etcd")
	client, err := common.Shifted(config.Address(), clientPort)
	if err != nil {
		return nil, err
	}
	peerURLs, clientURLs := urls(config.Address()), urls(client)
	settings.ListenPeerUrls, settings.AdvertisePeerUrls = peerURLs, peerURLs
	settings.ListenClientUrls, settings.AdvertiseClientUrls = clientURLs, clientURLs
	var cluster []string
	for index, address := range config.Addresses {
		cluster = append(cluster, fmt.Sprintf("%s=http://%s", name(index+1), address))
	}
	settings.InitialCluster = strings.Join(cluster, ",")
	settings.TickMs = heartbeatMilliseconds
	settings.ElectionMs = electionMilliseconds
	settings.QuotaBackendBytes = quotaBytes
	settings.SnapshotCount = max(leastSnapshotCount, min(settings.SnapshotCount, uint64(logBytes/config.Payload)))
	settings.SnapshotCatchUpEntries = min(settings.SnapshotCatchUpEntries, settings.SnapshotCount/2)
	settings.LogLevel = "error"
	settings.LogOutputs = []string{"stderr"}
	return settings, nil
}

func name(id int) string {
	return "node" + strconv.Itoa(id)
}

func urls(address string) []url.URL {
	return []url.URL{{Scheme: "http", Host: address}}
}

func (e *engine) Roles() (leads []int, known int) {
	leader := e.etcd.Server.Leader()
	if leader == 0 {
		return nil, 0
	}
	if leader == e.etcd.Server.MemberID() {
		leads = []int{1}
	}
	return leads, 1
}

func (e *engine) Propose(operation *common.Operation) {
	e.puts.waiting <- operation
}

// Applied asks the store. An empty one has revision 1, and each put makes the next; the hash is of
// all keys and values at all revisions, so it is the same only after the same puts in the same order.
func (e *engine) Applied() (count, hash uint64, err error) {
	stored, _, err := e.etcd.Server.KV().HashStorage().HashByRev(0)
	if err != nil {
		return 0, 0, err
	}
	if stored.Revision < 1 {
		return 0, 0, errors.New("the store has no revision")
	}
	return uint64(stored.Revision - 1), uint64(stored.Hash), nil
}

// Close stops the server at once: an orderly stop tries to hand the lead to nodes that stop too.
func (e *engine) Close() error {
	e.etcd.Server.HardStop()
	return nil
}
