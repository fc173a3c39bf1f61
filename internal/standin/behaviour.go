package standin

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The request headers which steer one answer; the package comment explains them.
const (
	headerID         = "X-Standin-Id"
	headerRecording  = "X-Standin-Recording"
	headerInterval   = "X-Standin-Interval"
	headerSplit      = "X-Standin-Split"
	headerBurst      = "X-Standin-Burst"
	headerRepeat     = "X-Standin-Repeat"
	headerStallAfter = "X-Standin-Stall-After"
	headerResetAfter = "X-Standin-Reset-After"
	headerStatus     = "X-Standin-Status"
)

// Bounds on what a request can make the stand-in hold in memory.
const (
	maxRepeat = 10_000
	maxSplit  = 1 << 20
	maxBurst  = 100_000
)

// never as an event count: it does not happen.
const never = -1

// behaviour is what the headers of one request ask for.
type behaviour struct {
	interval   time.Duration // between two writes; 0 for none
	split      int           // bytes to a write; 0 for event by event
	burst      int           // events to a write; at least 1
	repeat     int           // how often the events with text come; at least 1
	stallAfter int           // events, or never
	resetAfter int           // events, or never
	status     int           // 0 for the recorded one
}

// parseBehaviour reads the headers. Its errors are answered to the client.
func parseBehaviour(h http.Header, interval time.Duration) (behaviour, error) {
	b := behaviour{interval: max(interval, 0), burst: 1, repeat: 1, stallAfter: never, resetAfter: never}
	if v := h.Get(headerInterval); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return b, fmt.Errorf("%s: %q is not a duration such as 5ms or 0", headerInterval, v)
		}
		b.interval = d
	}
	for _, n := range []struct {
		header   string
		to       *int
		min, max int
	}{
		{headerSplit, &b.split, 1, maxSplit},
		{headerBurst, &b.burst, 1, maxBurst},
		{headerRepeat, &b.repeat, 1, maxRepeat},
		{headerStallAfter, &b.stallAfter, 0, 1 << 30},
		{headerResetAfter, &b.resetAfter, 0, 1 << 30},
		{headerStatus, &b.status, 200, 599},
	} {
		v := h.Get(n.header)
		if v == "" {
			continue
		}
		i, err := strconv.Atoi(v)
		if err != nil || i < n.min || i > n.max {
			return b, fmt.Errorf("%s: %q is not a number from %d to %d", n.header, v, n.min, n.max)
		}
		*n.to = i
	}
	switch {
	case b.split > 0 && h.Get(headerBurst) != "":
		return b, fmt.Errorf("%s and %s exclude each other", headerSplit, headerBurst)
	case b.stallAfter != never && b.resetAfter != never:
		return b, fmt.Errorf("%s and %s exclude each other", headerStallAfter, headerResetAfter)
	case b.status == http.StatusNoContent || b.status == http.StatusNotModified:
		return b, fmt.Errorf("%s: an answer with status %d has no body to replay", headerStatus, b.status)
	}
	return b, nil
}
