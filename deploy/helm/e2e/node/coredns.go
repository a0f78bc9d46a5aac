// Command coredns is CoreDNS with nothing but what names the Services of a cluster. Its module also has containerd: what a node needs beside
// Kubernetes itself. scripts/kubernetes builds both.
package main

import (
	_ "github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() { coremain.Run() }
