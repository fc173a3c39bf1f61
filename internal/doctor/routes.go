package doctor

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// routeConfig is a connection manager's; nil if its routes are scoped, missing or have not arrived.
func (d *Dump) routeConfig(m manager) *routeConfig {
	if m.Routes != nil {
		return m.Routes
	}
	return d.routes[m.RDS.Name]
}

// collect finds the clusters that lead to model APIs, so far as one can tell: those that are metered
// somewhere.
func (e *examination) collect() {
	e.metered = make(map[string]bool)
	for _, l := range e.dump.listeners {
		for _, m := range l.managers {
			for _, f := range m.Filters {
				if config := e.dump.routeConfig(m); config != nil && f.proc() != nil && e.ours(f, f.proc()) {
					metering(f, config, e.metered)
				}
			}
		}
	}
}

// metering reports whether a filter is on for any route, and notes where those routes lead.
func metering(f httpFilter, config *routeConfig, clusters map[string]bool) (found bool) {
	for _, h := range config.Hosts {
		for _, r := range h.Routes {
			if r.Action != nil && on(f, config, h, r) {
				found = true
				for _, c := range r.Action.clusters() {
					clusters[c] = true
				}
			}
		}
	}
	return found
}

// meters reports whether any filter of ours runs on a route; on every cluster that it can lead to.
func (e *examination) meters(m manager, config *routeConfig, h vhost, r route) bool {
	for _, f := range m.Filters {
		if p := f.proc(); p != nil && e.ours(f, p) && on(f, config, h, r) && !r.Action.offIn(f) {
			return true
		}
	}
	return false
}

// bypass finds the routes of a connection manager without a filter of ours which lead where metered
// ones lead.
func (e *examination) bypass(l listener, m manager) {
	if config := e.dump.routeConfig(m); config != nil {
		for _, h := range config.Hosts {
			e.host(l, m, httpFilter{Disabled: true}, config, h, false)
		}
	}
}

// routes examines the routes of a connection manager for a filter of ours.
func (e *examination) routes(l listener, m manager, f httpFilter) {
	config := e.dump.routeConfig(m)
	if config == nil {
		if m.RDS.Name == "" {
			e.add("routes", l.where(m), "its routes are scoped or missing, and cannot be examined", "look at them by hand: timeouts, retries, mirroring, buffers")
		} else {
			e.add("routes", l.where(m), "its routes "+m.RDS.Name+" have not arrived: every request is a 404", "look at the control plane")
		}
		return
	}
	here := metering(f, config, map[string]bool{})
	if !here && len(e.metered) == 0 {
		e.add("off", l.where(m), "the filter is off on every route: nothing is metered", "switch it on for the model API's virtual host")
		return
	}
	// A patch of Istio's puts the filter into the listener of every port. One that has nothing to do with
	// model APIs is no fault, whatever its paths are.
	for _, h := range config.Hosts {
		e.host(l, m, f, config, h, here)
	}
}

// host examines the routes of one virtual host. With paths, a route that is for a path of a model API
// should be metered; without, only one that leads where metered ones lead.
func (e *examination) host(l listener, m manager, f httpFilter, config *routeConfig, h vhost, paths bool) {
	taken := map[string]bool{} // by a route before
	for i, r := range h.Routes {
		where := fmt.Sprintf("%s, virtual host %s, route %s", l.where(m), h.Name, cmp.Or(r.Name, fmt.Sprint(i), r.Match.String()))
		isOn, told := on(f, config, h, r), false
		for _, path := range modelPaths {
			if taken[path] || !r.Match.takes(path) {
				continue
			}
			taken[path] = !r.Match.conditional()
			if r.Action == nil || told || e.meters(m, config, h, r) {
				continue
			}
			toModel := slices.ContainsFunc(r.Action.clusters(), func(c string) bool { return e.metered[c] })
			if paths && r.Match.specific() || toModel {
				e.add("disabled", where, "the filter is off or missing, and the route takes "+path+", which is not metered", "switch the filter on for this route")
				told = true
			}
		}
		if r.Action == nil || !isOn {
			continue
		}
		if p, _ := f.filterConfig(config, h, r); p.Overrides != nil {
			o := p.Overrides
			if o.Mode != nil {
				e.modes(where, o.Mode)
			}
			if o.FailOpen && !e.opts.FailOpen {
				e.add("fail-open", where, "the route overrides failure_mode_allow: requests pass unmetered while the server is away", "remove the override")
			}
		}
		e.action(where, m, config, h, r)
		e.buffer(where, l, h, r)
		for _, c := range r.Action.clusters() {
			if upstream, found := e.dump.clusters[c]; found {
				e.breakers("cluster "+c, upstream)
				if d := upstream.options().Common.MaxStreamDuration.Duration; d > 0 {
					e.add("max-stream-duration", "cluster "+c, fmt.Sprintf("max_stream_duration is %v: longer answers break off", d), "remove max_stream_duration")
				}
			}
		}
	}
}

// action examines where a metered route leads.
func (e *examination) action(where string, m manager, config *routeConfig, h vhost, r route) {
	a := r.Action
	if a.Timeout == nil {
		e.add("route-timeout", where, "no timeout is set, and Envoy's default breaks answers off after 15 s", "route.timeout: 0s")
	} else if a.Timeout.Duration > 0 {
		e.add("route-timeout", where, fmt.Sprintf("timeout is %v: longer answers break off", a.Timeout.Duration), "route.timeout: 0s")
	}
	if d := a.MaxStream.MaxStreamDuration.Duration; d > 0 {
		e.add("max-stream-duration", where, fmt.Sprintf("max_stream_duration is %v: longer answers break off", d), "remove max_stream_duration")
	}
	idle := leastIdle // Envoy's default
	if m.StreamIdle != nil {
		idle = m.StreamIdle.Duration
	}
	if a.Idle != nil {
		idle = a.Idle.Duration
	}
	if idle > 0 && idle < leastIdle {
		e.add("idle-timeout", where, fmt.Sprintf("the idle timeout is %v: answers break off while the model thinks", idle), "route.idle_timeout: 600s")
	}
	retry := h.Retry
	if a.Retry != nil {
		retry = a.Retry
	}
	if retry.retries() {
		e.add("retry", where, "retries: what is retried is spent, but not metered", "remove the retry_policy, or num_retries: 0")
	}
	if hedge := cmp.Or(a.Hedge, h.Hedge); hedge != nil && (hedge.Initial > 1 || hedge.OnTimeout || hedge.Chance.Numerator > 0) {
		e.add("hedging", where, "hedging: what is sent twice is spent, but not metered", "remove the hedge_policy")
	}
	if len(a.Mirror)+len(h.Mirror)+len(config.Mirror) > 0 {
		e.add("mirroring", where, "mirroring: what is sent to the mirror is not metered", "remove the request_mirror_policies")
	}
}

// buffer examines how large a request may be.
func (e *examination) buffer(where string, l listener, h vhost, r route) {
	limit := int64(defaultBuffer)
	if l.Buffer != nil {
		limit = int64(*l.Buffer)
	}
	for _, set := range []*number{h.PerRequest, r.PerRequest, h.BodyLimit, r.BodyLimit} { // the last one counts
		if set != nil {
			limit = int64(*set)
		}
	}
	if limit < e.opts.MaxRequestBody {
		e.add("buffer", where, fmt.Sprintf("requests beyond %d bytes are answered with 413; max_request_body is %d", limit, e.opts.MaxRequestBody),
			fmt.Sprintf("request_body_buffer_limit: %d in the virtual host, or per_connection_buffer_limit_bytes in the listener", e.opts.MaxRequestBody))
	}
}

// on reports whether a filter runs on a route.
func on(f httpFilter, config *routeConfig, h vhost, r route) bool {
	if p, ok := f.filterConfig(config, h, r); ok {
		return !p.Disabled
	}
	return !f.Disabled
}

// takes reports whether a request with this path could take the route.
func (m match) takes(path string) bool {
	switch {
	case m.Path != "":
		return m.Path == path || m.ignoreCase() && strings.EqualFold(m.Path, path)
	case m.SafeRegex != nil:
		re, err := regexp.Compile("^(?:" + m.SafeRegex.Regex + ")$")
		return err != nil || re.MatchString(path)
	case m.Separated != "":
		return path == m.Separated || strings.HasPrefix(path, m.Separated+"/")
	case m.Prefix != "":
		return strings.HasPrefix(path, m.Prefix)
	}
	return m.Connect == nil // a template or a matcher, which could take anything
}

// ignoreCase reports whether letter case does not count.
func (m match) ignoreCase() bool { return m.CaseSensitive != nil && !*m.CaseSensitive }

// conditional reports whether more than the path decides.
func (m match) conditional() bool {
	return len(m.Headers)+len(m.Query) > 0 || m.Fraction != nil || m.GRPC != nil
}

// specific reports whether the route is for certain paths.
func (m match) specific() bool { return m.Prefix != "/" && m.String() != "" }

// String names what is matched.
func (m match) String() string {
	if m.SafeRegex != nil {
		return m.SafeRegex.Regex
	}
	return cmp.Or(m.Path, m.Separated, m.Prefix)
}
