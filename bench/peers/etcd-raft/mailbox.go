package main

import "sync"

// mailbox hands what many goroutines put into it to one that takes it in batches. Mailboxes that
// the same goroutine takes from share their wake channel.
type mailbox[T any] struct {
	mutex sync.Mutex
	items []T
	wake  chan struct{}
}

func newMailbox[T any](wake chan struct{}) *mailbox[T] {
	return &mailbox[T]{wake: wake}
}

// newWake makes a mailbox's wake channel: there is an element in it whenever there may be a batch.
func newWake() chan struct{} {
	return make(chan struct{}, 1)
}

func (m *mailbox[T]) put(items ...T) {
	m.mutex.Lock()
	m.items = append(m.items, items...)
	m.mutex.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take empties the mailbox. taken is the batch before, to be used again.
func (m *mailbox[T]) take(taken []T) []T {
	clear(taken)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	items := m.items
	m.items = taken[:0]
	return items
}
