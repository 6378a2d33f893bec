package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"peers/common"
)

const (
	// maxWorkers bounds the goroutines that wait for a put each; more operations wait for one of
	// them, and the wait counts. It is below the 5,000 entries that the server may be behind with
	// applying before it refuses more.
	maxWorkers = 4096
	// keyCount is small, so that the store's index is.
	keyCount = 256
)

// puts makes each operation a put, or of a hundred so many a get. Either blocks, so that each in
// flight has a goroutine.
type puts struct {
	reads   int
	waiting chan *common.Operation
}

func startPuts(clients []*clientv3.Client, reads, workers int) *puts {
	p := &puts{reads: reads, waiting: make(chan *common.Operation)}
	for worker := range workers {
		go p.work(clients[worker%len(clients)], fmt.Sprintf("%03d", worker%keyCount))
	}
	return p
}

func (p *puts) work(client *clientv3.Client, key string) {
	for operation := range p.waiting {
		err := p.do(client, key, operation)
		switch {
		case err == nil:
			operation.Finish(common.Acknowledged, nil)
		case errors.Is(err, rpctypes.ErrTooManyRequests):
			operation.Finish(common.Failed, err)
		default:
			operation.Finish(common.Unknown, err)
		}
	}
}

func (p *puts) do(client *clientv3.Client, key string, operation *common.Operation) error {
	if p.reads > 0 && rand.IntN(100) < p.reads {
		_, err := client.Get(context.Background(), key)
		return err
	}
	_, err := client.Put(context.Background(), key, string(operation.Payload))
	return err
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "etcd: %v\n", err)
	os.Exit(1)
}
