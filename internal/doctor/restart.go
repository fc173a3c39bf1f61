package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// leastRetries is how many exchanges at a time must be able to begin a second time: a server that
// goes has many under way, and Envoy's default allows three.
const leastRetries = 1000

// restart examines whether the server can be restarted without a failed request: what could not
// begin at it must begin at another, or again.
//
// Health checks and outlier detection are not asked for: no request fails without them, as TestOtherServer
// in internal/e2e shows, and what says that a server goes may as well be the control plane or a name.
// Nor is LOGICAL_DNS a fault, of whose addresses Envoy takes one at a time: names of Services have one,
// and how many this one has is not to be seen here.
func (e *examination) restart(where string, p *extProc) {
	if p.cluster() != "" && !p.Grpc.Retry.again() { // Envoy alone has such a policy; what else it may be is told anyway
		e.add("server-retry", where, "grpc_service has no retry_policy for connect-failure and refused-stream: requests fail while a server is restarted, instead of beginning at it again, or at another",
			`grpc_service.retry_policy: {retry_on: "connect-failure,refused-stream", num_retries: 3}`)
	}
}

// serverRetries examines how many exchanges at a time the server's cluster lets begin again.
func (e *examination) serverRetries(where string, c cluster) {
	retries := int64(3)
	for _, t := range c.Breakers.Thresholds {
		switch {
		case t.Priority != "" && t.Priority != "DEFAULT":
		case t.RetryBudget != nil: // in place of the number; a share of what is under way
			return
		case t.MaxRetries != nil:
			retries = int64(*t.MaxRetries)
		}
	}
	if retries < leastRetries {
		e.add("server-retry", where, fmt.Sprintf("max_retries is %d: while a server is restarted, more requests than that at a time fail instead of beginning again", retries),
			"circuit_breakers.thresholds: [{max_retries: 100000}]")
	}
}

// grpcRetry is the retry_policy of a grpc_service.
type grpcRetry struct {
	On  string  `json:"retry_on"`
	Num *number `json:"num_retries"` // 1 if it is missing
}

// again reports whether an exchange that could not begin at a server begins again: because no
// connection came about, or because the server, which goes, takes no more on the one that there is.
func (r *grpcRetry) again() bool {
	if r == nil || r.Num != nil && *r.Num == 0 {
		return false
	}
	connect, refused := false, false
	for word := range strings.SplitSeq(r.On, ",") {
		word = strings.TrimSpace(word)
		all := slices.Contains([]string{"5xx", "gateway-error", "reset"}, word) // which include both
		connect = connect || all || word == "connect-failure" || word == "reset-before-request"
		refused = refused || all || word == "refused-stream"
	}
	return connect && refused
}
