package config

import "time"

// Overload says when new exchanges are turned away so that those under way go on as
// before. What is zero goes by the memory that there is.
type Overload struct {
	MaxExchanges int64         // open at a time
	MaxBuffered  int64         // bytes of bodies that are kept, of all exchanges together
	MaxDelay     time.Duration // the longest wait of a prompt until it is counted
}

const maxExchanges = 1_000_000

func (d *decoder) overload(o *Overload) setter {
	return d.section(fields{
		"max_exchanges": value(d, &o.MaxExchanges, func(s string) (int64, error) {
			return scaled(s, amountFactors, maxExchanges, "write it like 20k or 5000")
		}),
		"max_buffered": value(d, &o.MaxBuffered, size(1<<20, 512<<30)),
		"max_delay":    value(d, &o.MaxDelay, duration(10*time.Millisecond, 10*time.Second)),
	}, nil)
}

// warnOverload tells of requests that would always be turned away.
func (d *decoder) warnOverload(c *Config) {
	o := &c.Overload
	if n := d.at[&o.MaxBuffered]; n != nil && o.MaxBuffered/4*3 < c.MaxRequestBody {
		d.warn(n, "make it larger, or max_request_body smaller",
			"new requests are turned away from three quarters of max_buffered on, which is less than max_request_body allows a single one")
	}
}
