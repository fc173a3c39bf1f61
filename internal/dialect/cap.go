package dialect

import "cmp"

// CapName is the member of the request that caps its output, or would.
func (r *Request) CapName() string { return cmp.Or(r.capKey, "max_tokens") }

// StatesCap says that the request itself caps its output. A cap that the API has where a
// request says nothing is not to be relied on: compatible servers have others.
func (r *Request) StatesCap() bool { return r.MaxOutput > 0 && !r.assumed }
