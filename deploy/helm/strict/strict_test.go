// Package strict reads what the chart renders with Kubernetes' own types. It is a module of its own, so that the service does not depend on Kubernetes;
// `make test/helm` runs it.
package strict

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
)

// foreign are kinds that Kubernetes itself does not have: custom resources.
var foreign = regexp.MustCompile(`(?m)^kind: (HTTPRoute|ServiceMonitor|PrometheusRule)$`)

// TestGoldenFiles: each object is of a known kind, and has no field that Kubernetes does not know, none twice and none of a wrong type.
func TestGoldenFiles(t *testing.T) {
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	files, err := filepath.Glob(filepath.Join("..", "testdata", "*.golden.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		read := 0
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			if foreign.MatchString(document) {
				continue
			}
			if _, _, err := decoder.Decode([]byte(document), nil, nil); err != nil {
				t.Errorf("%s: %v, in\n%s", file, err, document)
			}
			read++
		}
		if read < 10 {
			t.Errorf("%s: only %d objects", file, read)
		}
	}
}
