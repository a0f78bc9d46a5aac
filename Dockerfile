# The service (entry point) and the simulator, in an image with nothing else in it.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=development
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-X changeover/internal/app.version=${VERSION}" -o /out/ ./cmd/server ./cmd/connectsim

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["server"]
CMD ["serve", "--config", "/etc/changeover/changeover.yaml"]
