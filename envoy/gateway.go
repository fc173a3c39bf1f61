package envoy

import (
	"errors"
	"fmt"
	"strconv"
)

const (
	egVersion  = "gateway.envoyproxy.io/v1alpha1"
	egGroup    = "gateway.envoyproxy.io"
	gwVersion  = "gateway.networking.k8s.io/v1"
	gwGroup    = "gateway.networking.k8s.io"
	gwListener = "http"
)

const gatewayHead = `What Envoy Gateway takes to have a model API metered by tokenbudget: kubectl apply -f this-file
Made by "tokenbudget envoy gateway". Without the server, requests are answered with 500.

Envoy Gateway must have extensionApis.enableBackend%s in its own
configuration. JWTs are checked by a SecurityPolicy, whose filter stands in front of ext_proc by default; keep
that order. Other routes of the Gateway are not metered. The comments say what must stay as it
is for metering to be complete. Do not add retries or mirroring: what is retried or mirrored is
spent, but not metered. A compression policy has no effect on what is metered.`

// GatewayYAML returns the objects that have Envoy Gateway meter a model API, as YAML with comments:
// Gateway and HTTPRoute, Backends for the server and the model API, and the policies that set
// what [BootstrapYAML] sets. The error names every mistake.
//
// Of [ClientTLS] only the name in the server's certificate counts: the certificates are a ConfigMap
// NAME-ca with the authorities (ca.crt), and a Secret NAME-client of type kubernetes.io/tls.
func GatewayYAML(opts Options, mesh Mesh) ([]byte, error) {
	s, err := opts.resolve(true)
	mesh, meshErr := mesh.resolve()
	if mesh.Sidecar {
		meshErr = errors.Join(meshErr, errors.New("envoy: Sidecar: Envoy Gateway has none"))
	}
	if s.FailOpen {
		meshErr = errors.Join(meshErr, errors.New("envoy: FailOpen: Envoy Gateway refuses failOpen for an answer in FullDuplexStreamed; leave it out"))
	}
	if err := errors.Join(err, meshErr); err != nil {
		return nil, err
	}
	if err := s.reachable(true); err != nil {
		return nil, err
	}
	objects := []object{s.gatewayListener(mesh)}
	if s.AccessLog {
		objects = append(objects, s.gatewayAccessLog(mesh))
	}
	objects = append(objects, s.gatewayClients(mesh))
	objects = append(objects, s.gatewayRoutes(mesh)...)
	objects = append(objects, s.gatewayTraffic(mesh), s.gatewayExtension(mesh), s.gatewayServer(mesh), s.gatewayModelAPI(mesh))
	patch := ""
	if s.MaxMessageTimeout > 0 {
		patch = " and, since a budget throttles, enableEnvoyPatchPolicy"
		objects = append(objects, s.gatewayPatch(mesh))
	}
	return encodeObjects(fmt.Sprintf(gatewayHead, patch), objects)
}

// gatewayListener is the Gateway.
func (s settings) gatewayListener(mesh Mesh) object {
	spec := object{
		{key: "gatewayClassName", value: mesh.GatewayClass},
		{key: "listeners", value: list{object{
			{key: "name", value: gwListener},
			{key: "protocol", value: "HTTP", comment: "Clear text. For clients beyond the cluster use HTTPS with a certificate."},
			{key: "port", value: 80},
			{key: "hostname", value: mesh.Host},
		}}},
	}
	if s.AccessLog {
		spec = append(spec, field{key: "infrastructure", value: object{{key: "parametersRef", value: ref(egGroup, "EnvoyProxy", mesh.Name)}}})
	}
	return mesh.manifest(gwVersion, "Gateway", mesh.Name, spec)
}

func ref(group, kind, name string) object {
	return object{{key: "group", value: group}, {key: "kind", value: kind}, {key: "name", value: name}}
}

// targets are the objects of the Gateway API that a policy concerns.
func targets(kind string, names ...string) field {
	var all list
	for _, name := range names {
		all = append(all, ref(gwGroup, kind, name))
	}
	return field{key: "targetRefs", value: all}
}

// gatewayAccessLog is the EnvoyProxy, which has the access log in place of the default one.
func (s settings) gatewayAccessLog(mesh Mesh) object {
	fields := object{{key: "type", value: "JSON"}, {key: "json", value: s.logFields(), comment: "A cut is a 200 like any other; only this metadata tells. The path goes without the query."}}
	return mesh.manifest(egVersion, "EnvoyProxy", mesh.Name, object{
		{key: "telemetry", value: object{{key: "accessLog", value: object{{key: "settings", value: list{object{
			{key: "format", value: fields},
			{key: "sinks", value: list{object{{key: "type", value: "File"}, {key: "file", value: object{{key: "path", value: "/dev/stdout"}}}}}},
		}}}}}}},
	})
}

// gatewayClients is the ClientTrafficPolicy.
func (s settings) gatewayClients(mesh Mesh) object {
	headers := object{{key: "withUnderscoresAction", value: "DropHeader", comment: "x_team could be taken for x-team behind Envoy."}}
	if len(s.StripHeaders) > 0 {
		headers = append(headers, field{
			key: "earlyRequestHeaders", value: object{{key: "remove", value: texts(s.StripHeaders)}},
			comment: "Only Envoy may set these: the client's copies go before any filter runs.",
		})
	}
	return mesh.manifest(egVersion, "ClientTrafficPolicy", mesh.Name, object{
		targets("Gateway", mesh.Name),
		{key: "headers", value: headers},
		{key: "path", value: object{{key: "escapedSlashesAction", value: "RejectRequest"}}, comment: "Paths that Envoy and the upstream could read differently are refused."},
		{
			key: "connection", value: object{{key: "bufferLimit", value: strconv.FormatUint(uint64(s.MaxRequestBody), 10)}},
			comment: "A request is buffered until it is decided on; a longer one is answered with 413. Envoy Gateway's default is 32 KiB.",
		},
	})
}

// gatewayRoutes are the HTTPRoutes: what is metered, and what is not.
func (s settings) gatewayRoutes(mesh Mesh) []object {
	route := func(name string, matches list) object {
		rule := object{{key: "matches", value: matches}}
		if !s.upstream.ip {
			rule = append(rule, field{key: "filters", value: list{object{
				{key: "type", value: "URLRewrite"},
				{key: "urlRewrite", value: object{{key: "hostname", value: s.upstream.host}}},
			}}})
		}
		rule = append(rule, field{key: "backendRefs", value: list{backendRef(mesh.upstreamName(), s.upstream.port)}})
		return mesh.manifest(gwVersion, "HTTPRoute", name, object{
			{key: "parentRefs", value: list{object{{key: "name", value: mesh.Name}}}},
			{key: "hostnames", value: list{mesh.Host}},
			{key: "rules", value: list{rule}},
		})
	}
	match := func(kind, value string) object {
		return object{{key: "path", value: object{{key: "type", value: kind}, {key: "value", value: value}}}}
	}
	routes := []object{route(mesh.Name, list{match("PathPrefix", "/")})}
	var pass list
	for _, path := range s.passPaths() {
		if re := matchPass(path).GetSafeRegex(); re != nil {
			pass = append(pass, match("RegularExpression", re.Regex))
		} else {
			pass = append(pass, match("Exact", path))
		}
	}
	if len(pass) > 0 {
		routes = append(routes, route(mesh.passName(), pass))
	}
	return routes
}

func (m Mesh) upstreamName() string { return m.Name + "-upstream" }
func (m Mesh) passName() string     { return m.Name + "-pass" }
func (m Mesh) serverName() string   { return m.Name + "-extproc" }

func backendRef(name string, port uint16) object {
	o := ref(egGroup, "Backend", name)
	if port != 0 {
		o = append(o, field{key: "port", value: int(port)})
	}
	return o
}

// manyStreams are the circuit breakers of a cluster whose requests last for minutes, and more.
func manyStreams(more ...field) field {
	return field{key: "circuitBreaker", comment: "Streams are long: the default of 1024 at a time would refuse others.", value: append(object{
		{key: "maxConnections", value: maxStreams},
		{key: "maxPendingRequests", value: maxStreams},
		{key: "maxParallelRequests", value: maxStreams},
	}, more...)}
}

// gatewayTraffic is the BackendTrafficPolicy of the way to the model API.
func (s settings) gatewayTraffic(mesh Mesh) object {
	names := []string{mesh.Name}
	if len(s.passPaths()) > 0 {
		names = append(names, mesh.passName())
	}
	return mesh.manifest(egVersion, "BackendTrafficPolicy", mesh.Name, object{
		targets("HTTPRoute", names...),
		{key: "timeout", value: object{
			{key: "tcp", value: object{{key: "connectTimeout", value: connectTimeout}}},
			{key: "http", value: object{
				{key: "requestTimeout", value: "0s", comment: "Answers take minutes; only silence ends them."},
				{key: "streamIdleTimeout", value: s.IdleTimeout},
				{key: "connectionIdleTimeout", value: upstreamIdle, comment: "Model APIs close idle connections after a minute or so, and there are no retries."},
			}},
		}},
		{key: "retry", value: object{{key: "numRetries", value: 0}}, comment: "A retry is spent, but not metered."},
		manyStreams(),
	})
}

// gatewayExtension is the EnvoyExtensionPolicy: the filter. Envoy Gateway itself sends the
// headers of both sides, and trailers where a body is in full duplex.
func (s settings) gatewayExtension(mesh Mesh) object {
	m := s.externalProcessor()
	namespaces := m.MetadataOptions
	return mesh.manifest(egVersion, "EnvoyExtensionPolicy", mesh.Name, object{
		targets("HTTPRoute", mesh.Name),
		{key: "extProc", value: list{object{
			{key: "backendRefs", value: list{backendRef(mesh.serverName(), s.extProc.port)}},
			{key: "failOpen", value: m.FailureModeAllow, comment: "Envoy Gateway does not allow true with FullDuplexStreamed."},
			{key: "messageTimeout", value: m.MessageTimeout.AsDuration(), comment: "Covers requests only. On answers the server watches itself."},
			{
				key: "processingMode", comment: "These belong together: the decision before anything is sent, and an answer that can be cut.",
				value: object{
					{key: "request", value: object{{key: "body", value: egModes[m.ProcessingMode.RequestBodyMode.String()]}}},
					{key: "response", value: object{{key: "body", value: egModes[m.ProcessingMode.ResponseBodyMode.String()]}}},
				},
			},
			{key: "metadata", value: object{
				{key: "accessibleNamespaces", value: texts(namespaces.ForwardingNamespaces.Untyped), comment: "Without it the server sees no JWT."},
				{key: "writableNamespaces", value: texts(namespaces.ReceivingNamespaces.Untyped), comment: "Without it what the server reports is dropped silently."},
			}},
			{key: "backendSettings", value: s.gatewayServerSettings()},
		}}},
	})
}

// egModes are Envoy Gateway's names of the modes of bodies.
var egModes = map[string]string{"BUFFERED": "Buffered", "FULL_DUPLEX_STREAMED": "FullDuplexStreamed"}

// gatewayServer is the Backend of the tokenbudget server.
func (s settings) gatewayServer(mesh Mesh) object {
	var endpoints list
	for _, e := range s.servers {
		endpoints = append(endpoints, e.egEndpoint())
	}
	spec := object{{key: "endpoints", value: endpoints}}
	if t := s.ExtProcTLS; t != nil {
		name := t.ServerName
		setDefault(&name, s.extProc.host)
		tls := object{
			{key: "caCertificateRefs", value: list{ref("", "ConfigMap", mesh.Name+"-ca")}, comment: "The authorities that sign the server, under the key ca.crt."},
			{key: "sni", value: name},
			{key: "minVersion", value: "1.3", comment: "The server takes no less, and Envoy's clients offer no more than 1.2 by default."},
			{key: "maxVersion", value: "1.3"},
			{key: "alpnProtocols", value: list{"h2"}},
		}
		if t.CertFile != "" {
			tls = append(tls, field{
				key: "clientCertificateRef", value: ref("", "Secret", mesh.Name+"-client"),
				comment: "Envoy's certificate, signed by the server's client_ca.",
			})
		}
		spec = append(spec, field{key: "tls", value: tls})
	} else {
		spec = append(spec, field{key: "appProtocols", value: list{"gateway.envoyproxy.io/h2c"}})
	}
	return mesh.manifest(egVersion, "Backend", mesh.serverName(), spec)
}

// gatewayModelAPI is the Backend of the model API.
func (s settings) gatewayModelAPI(mesh Mesh) object {
	spec := object{{key: "endpoints", value: list{s.upstream.egEndpoint()}}}
	if s.UpstreamHTTP2 && !s.upstreamTLS {
		spec = append(spec, field{key: "appProtocols", value: list{"gateway.envoyproxy.io/h2c"}})
	}
	if s.upstreamTLS {
		spec = append(spec, field{key: "tls", value: object{
			{key: "wellKnownCACertificates", value: "System"},
			{key: "sni", value: s.upstream.host, comment: "The certificate must have this name."},
		}})
	}
	return mesh.manifest(egVersion, "Backend", mesh.upstreamName(), spec)
}

// egEndpoint is an endpoint of a Backend.
func (e endpoint) egEndpoint() object {
	switch {
	case e.host == "":
		return object{{key: "unix", value: object{{key: "path", value: e.address.GetPipe().GetPath()}}}}
	case e.ip:
		return object{{key: "ip", value: object{{key: "address", value: e.host}, {key: "port", value: int(e.port)}}}}
	}
	return object{{key: "fqdn", value: object{{key: "hostname", value: e.host}, {key: "port", value: int(e.port)}}}}
}

// gatewayPatch is the EnvoyPatchPolicy, for what no other object can say. The names are those
// that Envoy Gateway gives a listener and the filter of an EnvoyExtensionPolicy.
func (s settings) gatewayPatch(mesh Mesh) object {
	filter := fmt.Sprintf("%s/envoyextensionpolicy/%s/%s/extproc/0", FilterName, mesh.Namespace, mesh.Name)
	return mesh.manifest(egVersion, "EnvoyPatchPolicy", mesh.Name, object{
		{key: "targetRef", value: ref(gwGroup, "Gateway", mesh.Name)},
		{key: "type", value: "JSONPatch"},
		{key: "jsonPatches", value: list{object{
			{key: "type", value: "type.googleapis.com/envoy.config.listener.v3.Listener"},
			{key: "name", value: mesh.Namespace + "/" + mesh.Name + "/" + gwListener},
			{key: "operation", value: object{
				{key: "op", value: "add"},
				{key: "jsonPath", value: "..http_filters[?(@.name=='" + filter + "')].typed_config"},
				{key: "path", value: "max_message_timeout"},
				{key: "value", value: s.MaxMessageTimeout, comment: "The server asks for so much while a request waits for a limit that throttles."},
			}},
		}}},
	})
}
