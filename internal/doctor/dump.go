package doctor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// MaxDump bounds an answer of Envoy's admin interface that is read, in bytes. A mesh of thousands of
// services has some ten MiB.
const MaxDump = 128 << 20

// Dump is what a running Envoy has for a configuration, as far as it matters here.
type Dump struct {
	listeners []listener
	clusters  map[string]cluster
	routes    map[string]*routeConfig
	filters   map[string]json.RawMessage // by the name of those that come by ECDS
}

// The types below are those of Envoy's API (envoy.admin.v3.ConfigDump and what it holds), with the
// fields that matter. Envoy's own Go types would not do: an Any of a type that this program does not
// know, such as one of Istio's, would fail the whole.

type listener struct {
	Name     string  `json:"name"`
	Buffer   *number `json:"per_connection_buffer_limit_bytes"`
	Chains   []chain `json:"filter_chains"`
	Default  *chain  `json:"default_filter_chain"`
	managers []manager
}

// where names the listener, and the connection manager if there are several.
func (l listener) where(m manager) string {
	if len(l.managers) > 1 {
		return fmt.Sprintf("listener %s, connection manager %s", l.Name, m.StatPrefix)
	}
	return "listener " + l.Name
}

type chain struct {
	Filters []struct {
		Config json.RawMessage `json:"typed_config"`
	} `json:"filters"`
}

type manager struct {
	Type       string       `json:"@type"`
	StatPrefix string       `json:"stat_prefix"`
	Filters    []httpFilter `json:"http_filters"`
	Routes     *routeConfig `json:"route_config"`
	RDS        struct {
		Name string `json:"route_config_name"`
	} `json:"rds"`
	StreamIdle *duration  `json:"stream_idle_timeout"`
	Common     httpCommon `json:"common_http_protocol_options"`
	Early      []struct {
		Config json.RawMessage `json:"typed_config"`
	} `json:"early_header_mutation_extensions"`
}

// removed are the headers whose client's copies go before any filter runs.
func (m manager) removed() (headers []string) {
	for _, e := range m.Early {
		var config struct {
			Mutations []struct {
				Remove string `json:"remove"`
			} `json:"mutations"`
		}
		if len(e.Config) == 0 || json.Unmarshal(e.Config, &config) != nil {
			continue // another extension's
		}
		for _, mutation := range config.Mutations {
			headers = append(headers, strings.ToLower(mutation.Remove))
		}
	}
	return headers
}

type httpCommon struct {
	MaxStreamDuration duration `json:"max_stream_duration"`
}

type httpFilter struct {
	Name     string          `json:"name"`
	Disabled bool            `json:"disabled"`
	Config   json.RawMessage `json:"typed_config"` // empty if it comes by ECDS
	typ      string          // of Config
	ext      *extProc        // nil if the filter is another one
}

func (f httpFilter) proc() *extProc { return f.ext }

// kind is the extension's folder in Envoy's API, such as compressor.
func (f httpFilter) kind() string {
	_, rest, _ := strings.Cut(f.typ, "envoy.extensions.filters.http.")
	kind, _, _ := strings.Cut(rest, ".")
	return kind
}

type extProc struct {
	Grpc struct {
		Envoy struct {
			Cluster string `json:"cluster_name"`
		} `json:"envoy_grpc"`
		Retry *grpcRetry `json:"retry_policy"`
	} `json:"grpc_service"`
	FailOpen          bool            `json:"failure_mode_allow"`
	Mode              *processingMode `json:"processing_mode"`
	MessageTimeout    duration        `json:"message_timeout"`
	MaxMessageTimeout duration        `json:"max_message_timeout"`
	StatPrefix        string          `json:"stat_prefix"`
	Observability     bool            `json:"observability_mode"`
	Metadata          struct {
		Forwarding namespaces `json:"forwarding_namespaces"`
		Receiving  namespaces `json:"receiving_namespaces"`
	} `json:"metadata_options"`
}

func (p *extProc) cluster() string { return p.Grpc.Envoy.Cluster }

func (p *extProc) fullDuplex() bool {
	return p.Mode != nil && (p.Mode.RequestBody == "FULL_DUPLEX_STREAMED" || p.Mode.ResponseBody == "FULL_DUPLEX_STREAMED")
}

type namespaces struct {
	Untyped []string `json:"untyped"`
}

type processingMode struct {
	RequestHeader   string `json:"request_header_mode"`
	RequestBody     string `json:"request_body_mode"`
	ResponseHeader  string `json:"response_header_mode"`
	ResponseBody    string `json:"response_body_mode"`
	ResponseTrailer string `json:"response_trailer_mode"`
}

type routeConfig struct {
	Name      string                     `json:"name"`
	Hosts     []vhost                    `json:"virtual_hosts"`
	PerFilter map[string]json.RawMessage `json:"typed_per_filter_config"`
	Mirror    []json.RawMessage          `json:"request_mirror_policies"`
}

type vhost struct {
	Name       string                     `json:"name"`
	Routes     []route                    `json:"routes"`
	PerFilter  map[string]json.RawMessage `json:"typed_per_filter_config"`
	Mirror     []json.RawMessage          `json:"request_mirror_policies"`
	Retry      *retryPolicy               `json:"retry_policy"`
	Hedge      *hedgePolicy               `json:"hedge_policy"`
	BodyLimit  *number                    `json:"request_body_buffer_limit"`
	PerRequest *number                    `json:"per_request_buffer_limit_bytes"`
}

type route struct {
	Name       string                     `json:"name"`
	Match      match                      `json:"match"`
	Action     *routeAction               `json:"route"` // nil: a redirect or an answer of Envoy's own
	PerFilter  map[string]json.RawMessage `json:"typed_per_filter_config"`
	BodyLimit  *number                    `json:"request_body_buffer_limit"`
	PerRequest *number                    `json:"per_request_buffer_limit_bytes"`
}

type match struct {
	Path      string `json:"path"`
	Prefix    string `json:"prefix"`
	Separated string `json:"path_separated_prefix"`
	SafeRegex *struct {
		Regex string `json:"regex"`
	} `json:"safe_regex"`
	Connect       json.RawMessage   `json:"connect_matcher"`
	CaseSensitive *bool             `json:"case_sensitive"`
	Headers       []json.RawMessage `json:"headers"`
	Query         []json.RawMessage `json:"query_parameters"`
	Fraction      json.RawMessage   `json:"runtime_fraction"`
	GRPC          json.RawMessage   `json:"grpc"`
}

type routeAction struct {
	Cluster  string `json:"cluster"`
	Weighted struct {
		Clusters []struct {
			Name      string                     `json:"name"`
			PerFilter map[string]json.RawMessage `json:"typed_per_filter_config"`
		} `json:"clusters"`
	} `json:"weighted_clusters"`
	Timeout   *duration         `json:"timeout"`
	Idle      *duration         `json:"idle_timeout"`
	MaxStream httpCommon        `json:"max_stream_duration"`
	Retry     *retryPolicy      `json:"retry_policy"`
	Hedge     *hedgePolicy      `json:"hedge_policy"`
	Mirror    []json.RawMessage `json:"request_mirror_policies"`
}

// clusters are those that the route can lead to.
func (a *routeAction) clusters() (names []string) {
	if a.Cluster != "" {
		names = append(names, a.Cluster)
	}
	for _, c := range a.Weighted.Clusters {
		names = append(names, c.Name)
	}
	return names
}

// offIn reports whether one of the weighted clusters switches a filter off, which the route has on.
func (a *routeAction) offIn(f httpFilter) bool {
	for _, c := range a.Weighted.Clusters {
		if p, found := f.configIn(c.PerFilter); found && p.Disabled {
			return true
		}
	}
	return false
}

type retryPolicy struct {
	On  string  `json:"retry_on"`
	Num *number `json:"num_retries"`
}

// retries reports whether a request is tried again.
func (p *retryPolicy) retries() bool {
	return p != nil && p.On != "" && (p.Num == nil || *p.Num > 0)
}

type hedgePolicy struct {
	Initial   number `json:"initial_requests"`
	OnTimeout bool   `json:"hedge_on_per_try_timeout"`
	Chance    struct {
		Numerator number `json:"numerator"`
	} `json:"additional_request_chance"`
}

// perFilter is what a route says of a filter: an ExtProcPerRoute, or a FilterConfig that holds one.
type perFilter struct {
	Disabled  bool       `json:"disabled"`
	Overrides *override  `json:"overrides"`
	Config    *perFilter `json:"config"`
}

// filterConfig is the narrowest configuration of a filter on a route; false if there is none.
func (f httpFilter) filterConfig(config *routeConfig, h vhost, r route) (p perFilter, found bool) {
	for _, at := range []map[string]json.RawMessage{r.PerFilter, h.PerFilter, config.PerFilter} {
		if p, found = f.configIn(at); found {
			return p, true
		}
	}
	return p, false
}

// configIn is the configuration of a filter at one place; false if there is none.
func (f httpFilter) configIn(at map[string]json.RawMessage) (p perFilter, found bool) {
	raw, found := at[f.Name]
	if found {
		_ = json.Unmarshal(raw, &p) // what cannot be read changes nothing
		if p.Config != nil {
			p.Disabled = p.Disabled || p.Config.Disabled
			p.Overrides = p.Config.Overrides
		}
	}
	return p, found
}

type override struct {
	Mode     *processingMode `json:"processing_mode"`
	FailOpen bool            `json:"failure_mode_allow"`
}

type cluster struct {
	Name     string `json:"name"`
	Breakers struct {
		Thresholds []struct {
			Priority    string          `json:"priority"`
			MaxRequests *number         `json:"max_requests"`
			MaxPending  *number         `json:"max_pending_requests"`
			MaxRetries  *number         `json:"max_retries"`
			RetryBudget json.RawMessage `json:"retry_budget"`
		} `json:"thresholds"`
	} `json:"circuit_breakers"`
	HTTP2    *http2                     `json:"http2_protocol_options"` // before typed_extension_protocol_options
	Protocol map[string]json.RawMessage `json:"typed_extension_protocol_options"`
}

type httpOptions struct {
	Common   httpCommon `json:"common_http_protocol_options"`
	Explicit struct {
		HTTP2 *http2 `json:"http2_protocol_options"`
	} `json:"explicit_http_config"`
	Auto struct {
		HTTP2 *http2 `json:"http2_protocol_options"`
	} `json:"auto_config"` // what the TLS handshake agrees on
}

type http2 struct {
	Keepalive *struct {
		Interval duration `json:"interval"`
	} `json:"connection_keepalive"`
}

// options are the cluster's HTTP options; zero if it has none.
func (c cluster) options() (o httpOptions) {
	if raw, ok := c.Protocol["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]; ok {
		_ = json.Unmarshal(raw, &o) // what cannot be read is not set
	}
	return o
}

// http2 are the settings with which the cluster speaks HTTP/2 to a server that offers nothing else;
// nil if it does not.
func (c cluster) http2() *http2 {
	o := c.options()
	return cmp.Or(o.Explicit.HTTP2, o.Auto.HTTP2, c.HTTP2)
}

// number is an integer, which JSON of protobuf writes as a text if it has 64 bits.
type number int64

func (n *number) UnmarshalJSON(raw []byte) error {
	v, err := strconv.ParseUint(strings.Trim(string(raw), `"`), 10, 63) // if it is out of range, the greatest
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return errors.New("doctor: a number is no integer")
	}
	*n = number(v)
	return nil
}

// duration is a google.protobuf.Duration, which JSON writes as 1.5s.
type duration struct{ time.Duration }

func (d *duration) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return errors.New("doctor: a duration is no text")
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		// Protobuf's go up to 10,000 years, Go's to 292.
		seconds, err := strconv.ParseFloat(strings.TrimSuffix(s, "s"), 64)
		if err != nil || !(math.Abs(seconds) > time.Duration(math.MaxInt64).Seconds()) {
			return errors.New("doctor: a duration is not such as 1.5s")
		}
		v = math.MaxInt64
		if seconds < 0 {
			v = math.MinInt64
		}
	}
	d.Duration = v
	return nil
}

// Parse reads Envoy's answer to /config_dump. The error says what is not as Envoy writes it; it
// quotes nothing of the configuration, which can hold secrets.
func Parse(answer []byte) (*Dump, error) {
	if len(answer) > MaxDump {
		return nil, fmt.Errorf("doctor: the configuration exceeds %d bytes", MaxDump)
	}
	var all struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal(answer, &all); err != nil {
		return nil, fault("the answer", err)
	}
	if len(all.Configs) == 0 {
		return nil, errors.New("doctor: the answer has no configs; is this the admin interface of an Envoy?")
	}
	d := &Dump{clusters: make(map[string]cluster), routes: make(map[string]*routeConfig), filters: make(map[string]json.RawMessage)}
	for _, raw := range all.Configs {
		if err := d.add(raw); err != nil {
			return nil, err
		}
	}
	for _, l := range d.listeners {
		for _, m := range l.managers {
			for i := range m.Filters {
				f := &m.Filters[i]
				if len(f.Config) == 0 {
					f.Config = d.filters[f.Name]
				}
				if err := f.read(); err != nil {
					return nil, err
				}
			}
		}
	}
	return d, nil
}

// fault is an error of json without the text that it stumbled on.
func fault(what string, err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("doctor: %s is no JSON, at byte %d", what, syntax.Offset)
	case errors.As(err, &typ):
		return fmt.Errorf("doctor: %s has a %s where Envoy has none: field %s", what, typ.Value, typ.Field)
	}
	return fmt.Errorf("doctor: %s is not as Envoy writes it: %w", what, err)
}

// section is one part of the dump; which one, its type says.
type section struct {
	Type            string `json:"@type"`
	StaticListeners []struct {
		Listener listener `json:"listener"`
	} `json:"static_listeners"`
	DynamicListeners []struct {
		Active struct {
			Listener *listener `json:"listener"`
		} `json:"active_state"`
	} `json:"dynamic_listeners"`
	StaticClusters []struct {
		Cluster cluster `json:"cluster"`
	} `json:"static_clusters"`
	ActiveClusters []struct {
		Cluster cluster `json:"cluster"`
	} `json:"dynamic_active_clusters"`
	StaticRoutes []struct {
		Config routeConfig `json:"route_config"`
	} `json:"static_route_configs"`
	DynamicRoutes []struct {
		Config routeConfig `json:"route_config"`
	} `json:"dynamic_route_configs"`
	Filters []struct {
		Filter struct {
			Name   string          `json:"name"`
			Config json.RawMessage `json:"typed_config"`
		} `json:"ecds_filter"`
	} `json:"ecds_filters"`
}

func (d *Dump) add(raw json.RawMessage) error {
	var s section
	var typ struct {
		Type string `json:"@type"`
	}
	if err := json.Unmarshal(raw, &typ); err != nil {
		return fault("a section", err)
	}
	name := typ.Type[strings.LastIndexByte(typ.Type, '.')+1:]
	switch name {
	case "ListenersConfigDump", "ClustersConfigDump", "RoutesConfigDump", "EcdsConfigDump":
	default:
		return nil // secrets, endpoints and the like
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return fault(name, err)
	}
	for _, l := range s.StaticListeners {
		if err := d.addListener(l.Listener); err != nil {
			return err
		}
	}
	for _, l := range s.DynamicListeners {
		if l.Active.Listener != nil {
			if err := d.addListener(*l.Active.Listener); err != nil {
				return err
			}
		}
	}
	for _, c := range append(s.StaticClusters, s.ActiveClusters...) {
		d.clusters[c.Cluster.Name] = c.Cluster
	}
	for _, r := range append(s.StaticRoutes, s.DynamicRoutes...) {
		d.routes[r.Config.Name] = &r.Config
	}
	for _, f := range s.Filters {
		d.filters[f.Filter.Name] = f.Filter.Config
	}
	return nil
}

// addListener takes a listener with its connection managers.
func (d *Dump) addListener(l listener) error {
	chains := l.Chains
	if l.Default != nil {
		chains = append(chains, *l.Default)
	}
	for _, c := range chains {
		for _, f := range c.Filters {
			var typ struct {
				Type string `json:"@type"`
			}
			if len(f.Config) == 0 || json.Unmarshal(f.Config, &typ) != nil || !strings.HasSuffix(typ.Type, ".HttpConnectionManager") {
				continue
			}
			var m manager
			if err := json.Unmarshal(f.Config, &m); err != nil {
				return fault("a connection manager", err)
			}
			l.managers = append(l.managers, m)
		}
	}
	d.listeners = append(d.listeners, l)
	return nil
}

// read reads the filter's own configuration if it is an ext_proc.
func (f *httpFilter) read() error {
	var typ struct {
		Type string `json:"@type"`
	}
	if len(f.Config) == 0 {
		return nil // it has not arrived
	}
	if err := json.Unmarshal(f.Config, &typ); err != nil {
		return fault("an HTTP filter", err)
	}
	f.typ = typ.Type
	if !strings.HasSuffix(f.typ, ".ext_proc.v3.ExternalProcessor") {
		return nil
	}
	f.ext = &extProc{}
	if err := json.Unmarshal(f.Config, f.ext); err != nil {
		return fault("an ext_proc filter", err)
	}
	return nil
}
