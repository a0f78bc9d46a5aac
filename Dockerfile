# The service (entry point) and the simulator, in an image with nothing else in it. Compiled on the machine that builds, for whichever
# platform the image is:  docker buildx build --platform linux/amd64,linux/arm64 .
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=development
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X changeover/internal/app.version=${VERSION}" -o /out/bin/ ./cmd/server ./cmd/connectsim
# What the programs consist of, in CycloneDX; scanners find it by the name's end.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    cd deploy/sbom && go run . -out /out/sbom -version "${VERSION}" /out/bin/server /out/bin/connectsim

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build /out/sbom/ /usr/share/sbom/
ENV PATH=/usr/local/bin
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=1m CMD ["server", "health", "--config", "/etc/changeover/changeover.yaml"]
ENTRYPOINT ["server"]
CMD ["serve", "--config", "/etc/changeover/changeover.yaml"]
