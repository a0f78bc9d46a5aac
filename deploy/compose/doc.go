// Package compose has the configuration of docker-compose.yml. Its tests hold the files to each other; what needs a container engine runs by
// `make e2e-compose`.
package compose
