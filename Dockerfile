# A static binary on an empty image, as a user without rights.
#
#   docker build --build-arg VERSION=v0.1.0 -t tokenbudget:v0.1.0 .
#   make image VERSION=v0.1.0          # for amd64 and arm64, and pushed
#
# The server listens on loopback unless its configuration says otherwise, so it shares a
# network namespace with Envoy (a pod; --network host; --network container:envoy), or a
# unix socket on a volume. See examples/ and docs/configuration.md.

# The builder runs natively, and Go compiles for the platform that the image is for.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG VERSION=dev
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false
# The modules first: they change less often than the code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/tokenbudget ./cmd/tokenbudget \
 && go run ./internal/release/licenses -o /out/THIRD_PARTY_LICENSES.txt \
 && mkdir -p /out/var/lib/tokenbudget/data

FROM scratch
# For connections that the server will make itself. Time zones are in the binary.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/tokenbudget /tokenbudget
COPY --from=build /src/LICENSE /out/THIRD_PARTY_LICENSES.txt /licenses/
# store.file.dir is ./data by default, which is here. A volume must be writable for 65532.
COPY --from=build --chown=65532:65532 /out/var/lib/tokenbudget /var/lib/tokenbudget
WORKDIR /var/lib/tokenbudget
USER 65532:65532
VOLUME ["/var/lib/tokenbudget/data"]
# Asks the admin address, which must be the default 127.0.0.1:9003 without TLS for this.
# For others: --health-cmd "/tokenbudget healthcheck -config /etc/tokenbudget/config.yaml".
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/tokenbudget", "healthcheck"]
# SIGTERM begins the drain: give it longer than timeouts.drain (docker stop --time 40).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/tokenbudget"]
CMD ["serve", "-config", "/etc/tokenbudget/config.yaml"]
