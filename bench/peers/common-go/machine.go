package common

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// Machine is one group's state machine: it counts operations and mixes their numbers into a hash.
type Machine struct {
	mutex sync.Mutex
	count uint64
	hash  uint64
}

// Apply applies an operation; payloads come in the log's order.
func (m *Machine) Apply(payload []byte) {
	number := binary.LittleEndian.Uint64(payload)
	m.mutex.Lock()
	m.count++
	m.hash = (bits.RotateLeft64(m.hash, 5) ^ number) * 0x9E3779B97F4A7C15
	m.mutex.Unlock()
}

// State is the number of operations applied, and their hash.
func (m *Machine) State() (count, hash uint64) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.count, m.hash
}

// Combined is the count and hash of all groups; machines[0] is that of group 1.
func Combined(machines []*Machine) (count, hash uint64) {
	for index, machine := range machines {
		groupCount, groupHash := machine.State()
		count += groupCount
		hash ^= bits.RotateLeft64(groupHash, (index+1)%64)
	}
	return count, hash
}
