package common

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// longestLatency is the greatest latency that the histogram tells apart, in nanoseconds.
	longestLatency = int64(10 * time.Minute)
	// latencyDigits are the histogram's significant decimal digits.
	latencyDigits = 3
	maxMessages   = 5
)

// account counts the whole load, and keeps the latencies of its measured part.
type account struct {
	mutex     sync.Mutex
	latencies *hdrhistogram.Histogram
	longest   int64
	measuring bool
	begun     time.Time

	proposed, acknowledged, failed, unknown, busy uint64

	messages []string
}

func newAccount() *account {
	return &account{latencies: hdrhistogram.New(1, longestLatency, latencyDigits)}
}

// measured is the answer to the command "end".
type measured struct {
	Seconds      float64    `json:"seconds"`
	Ops          int64      `json:"ops"`
	Errors       uint64     `json:"errors"`
	Unknown      uint64     `json:"unknown"`
	Busy         uint64     `json:"busy"`
	Histogram    [][2]int64 `json:"histogram"`
	MaxNs        int64      `json:"max_ns"`
	Proposed     uint64     `json:"proposed"`
	Acknowledged uint64     `json:"acknowledged"`
	Messages     []string   `json:"messages"`
}

func (a *account) measure() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.latencies.Reset()
	a.longest = 0
	a.begun = time.Now()
	a.measuring = true
}

// stop ends the measured part. Its counts of the whole load go on.
func (a *account) stop() (seconds float64) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if !a.measuring {
		return 0
	}
	a.measuring = false
	return time.Since(a.begun).Seconds()
}

func (a *account) propose() {
	a.mutex.Lock()
	a.proposed++
	a.mutex.Unlock()
}

func (a *account) acknowledge(latency int64) {
	a.mutex.Lock()
	a.acknowledged++
	if a.measuring {
		// Fails only above longestLatency, which counts as that.
		if a.latencies.RecordValue(latency) != nil {
			_ = a.latencies.RecordValue(longestLatency)
		}
		a.longest = max(a.longest, latency)
	}
	a.mutex.Unlock()
}

func (a *account) putOff() {
	a.mutex.Lock()
	a.busy++
	a.mutex.Unlock()
}

func (a *account) fail(outcome Outcome, err error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if outcome == Failed {
		a.failed++
	} else {
		a.unknown++
	}
	if len(a.messages) < maxMessages {
		a.messages = append(a.messages, err.Error())
	}
}

// report closes the account; inFlight operations were given up.
func (a *account) report(seconds float64, inFlight uint64) measured {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if inFlight > 0 {
		a.messages = append(a.messages, fmt.Sprintf("%d operations were still in flight", inFlight))
	}
	histogram := [][2]int64{}
	for _, bar := range a.latencies.Distribution() {
		if bar.Count > 0 {
			histogram = append(histogram, [2]int64{min(bar.To, a.longest), bar.Count})
		}
	}
	return measured{
		Seconds:      seconds,
		Ops:          a.latencies.TotalCount(),
		Errors:       a.failed,
		Unknown:      a.unknown + inFlight,
		Busy:         a.busy,
		Histogram:    histogram,
		MaxNs:        a.longest,
		Proposed:     a.proposed,
		Acknowledged: a.acknowledged,
		Messages:     append([]string{}, a.messages...),
	}
}

// inFlight is how many operations have been proposed and have no outcome.
func (a *account) inFlight() uint64 {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.proposed - a.acknowledged - a.failed - a.unknown
}
