package common

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

const (
	// rest is how long an operation's place stays empty after an error that the next would meet too.
	rest = 10 * time.Millisecond
	// routing is how often a load looks which groups the node leads.
	routing = 20 * time.Millisecond
	// openLoopStep is the least sleep of an open loop that is ahead of its schedule.
	openLoopStep = 50 * time.Microsecond
	// drain is how long operations in flight may take after the end.
	drain = 20 * time.Second
)

// Outcome is what became of an operation.
type Outcome int

const (
	// Acknowledged means durable on a majority and applied here.
	Acknowledged Outcome = iota
	// Failed means that it is known not to have happened, and never to happen.
	Failed
	// Unknown means that it may have happened, or happen yet.
	Unknown
)

// Operation is a place for one operation in flight; it is used again and again.
type Operation struct {
	// Group is counted from 1.
	Group int
	// Payload is not used again by the load: the engine may keep it.
	Payload []byte

	load *load
	// place is its number among the operations in flight.
	place int
	// from is when its latency counts from, in nanoseconds of the load's clock.
	from int64
}

// Finish says what became of the operation; exactly once for each, from any goroutine. err is nil
// with Acknowledged.
func (o *Operation) Finish(outcome Outcome, err error) {
	if outcome == Acknowledged {
		o.load.account.acknowledge(o.load.now() - o.from)
		o.load.free <- o
		return
	}
	o.load.account.fail(outcome, err)
	time.AfterFunc(rest, func() { o.load.free <- o })
}

// PutOff counts that a limit of the engine put the operation off. It is still to be finished.
func (o *Operation) PutOff() {
	o.load.account.putOff()
}

// load proposes to the groups that the node leads.
type load struct {
	engine  Engine
	config  *Config
	account *account
	begun   time.Time
	stopped atomic.Bool
	// timer is an open loop's.
	timer *timer
	// done is closed when nothing is proposed any more.
	done chan struct{}
	// free are the operations that can be proposed; it has room for all.
	free chan *Operation
	// parked are those above the node's share for now.
	parked []*Operation
	// leads are the groups that the node leads, and share is how many operations it may have in
	// flight in them.
	leads  []int
	share  int
	cursor int
	number uint64
	filler []byte
}

func startLoad(engine Engine, config *Config, account *account) (*load, error) {
	timer, err := newTimer()
	if err != nil {
		return nil, err
	}
	l := &load{
		engine:  engine,
		config:  config,
		account: account,
		begun:   time.Now(),
		timer:   timer,
		done:    make(chan struct{}),
		free:    make(chan *Operation, config.InFlight),
		filler:  make([]byte, config.Payload),
	}
	for index := range l.filler {
		l.filler[index] = '.'
	}
	for place := range config.InFlight {
		l.free <- &Operation{load: l, place: place}
	}
	go l.run()
	return l, nil
}

func (l *load) now() int64 {
	return int64(time.Since(l.begun))
}

// stop ends the proposing, waits for what is in flight, and says how much of it still is.
func (l *load) stop() (inFlight uint64) {
	l.stopped.Store(true)
	deadline := time.Now().Add(drain)
	for time.Now().Before(deadline) {
		select {
		case <-l.done:
			if l.account.inFlight() == 0 {
				return 0
			}
		default:
		}
		time.Sleep(time.Millisecond)
	}
	return l.account.inFlight()
}

func (l *load) run() {
	defer close(l.done)
	defer l.timer.close()
	ticker := time.NewTicker(routing)
	defer ticker.Stop()
	l.reroute()
	if l.config.Rate > 0 {
		l.openLoop(ticker.C)
	} else {
		l.closedLoop(ticker.C)
	}
}

func (l *load) closedLoop(ticks <-chan time.Time) {
	for !l.stopped.Load() {
		if operation := l.take(ticks); operation != nil {
			l.propose(operation, l.now())
		}
	}
}

// openLoop proposes operations when they are due, or as soon after as there is room. The schedule
// begins anew when the node's share changes.
func (l *load) openLoop(ticks <-chan time.Time) {
	share, begun, proposed := 0, int64(0), int64(0)
	for !l.stopped.Load() {
		if share != len(l.leads) {
			share, begun, proposed = len(l.leads), l.now(), 0
		}
		if share > 0 {
			rate := l.config.Rate * float64(share) / float64(l.config.Groups)
			due := begun + int64(float64(proposed)/rate*float64(time.Second))
			if ahead := due - l.now(); ahead > 0 {
				l.sleep(min(max(time.Duration(ahead), openLoopStep), routing))
				l.rerouteAt(ticks)
				continue
			}
			if operation := l.take(ticks); operation != nil {
				l.propose(operation, due)
				proposed++
			}
			continue
		}
		<-ticks
		l.reroute()
	}
}

func (l *load) sleep(duration time.Duration) {
	if err := l.timer.sleep(duration); err != nil {
		panic(err)
	}
}

// take is an operation that can be proposed; nil when it's time to look around.
func (l *load) take(ticks <-chan time.Time) *Operation {
	l.rerouteAt(ticks)
	var operation *Operation
	select {
	case operation = <-l.free:
	default:
		select {
		case operation = <-l.free:
		case <-ticks:
			l.reroute()
			return nil
		}
	}
	if operation.place >= l.share {
		l.parked = append(l.parked, operation)
		return nil
	}
	return operation
}

func (l *load) rerouteAt(ticks <-chan time.Time) {
	select {
	case <-ticks:
		l.reroute()
	default:
	}
}

// reroute asks which groups the node leads, and divides its share of the load among them.
func (l *load) reroute() {
	leads, _ := l.engine.Roles()
	if len(leads) != len(l.leads) {
		for _, operation := range l.parked {
			l.free <- operation
		}
		l.parked = l.parked[:0]
	}
	l.leads = leads
	l.share = 0
	if len(leads) > 0 {
		l.share = max(1, l.config.InFlight*len(leads)/l.config.Groups)
	}
}

// propose gives the operation to one of the groups led here. In a closed loop with enough
// operations, each stays with its group, so that a slow group doesn't gather all of them.
func (l *load) propose(operation *Operation, from int64) {
	turn := operation.place
	if l.config.Rate > 0 || l.share < len(l.leads) {
		turn = l.cursor
		l.cursor++
	}
	operation.Group = l.leads[turn%len(l.leads)]
	operation.Payload = append([]byte(nil), l.filler...)
	binary.LittleEndian.PutUint64(operation.Payload, l.number)
	operation.from = from
	l.number++
	l.account.propose()
	l.engine.Propose(operation)
}
