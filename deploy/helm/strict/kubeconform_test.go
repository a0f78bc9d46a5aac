package strict

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yannh/kubeconform/pkg/validator"
	"sigs.k8s.io/yaml"
)

// Whose schemas the objects are held against: Kubernetes' own as of its API description, and those of the custom resources.
const (
	kubernetes = "k8s.io/kubernetes@v1.36.3"
	operator   = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	gateway    = "sigs.k8s.io/gateway-api@v1.4.1"
)

// module gives the folder of a Go module, which the module proxy has.
func module(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", name)
	cmd.Dir = os.TempDir() // outside of any module
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod download %s: %v\n%s", name, err, out)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m.Dir
}

func read(t *testing.T, v any, path ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err == nil {
		err = yaml.Unmarshal(text, v) // and JSON, which is YAML
	}
	if err != nil {
		t.Fatal(err)
	}
}

// closed makes of an API description a JSON schema that takes no field it does not name.
func closed(node any) {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			closed(child)
		}
	case map[string]any:
		// A number or a text: both are said by the description's own means.
		if n["x-kubernetes-int-or-string"] == true || n["format"] == "int-or-string" {
			delete(n, "type")
			delete(n, "format")
			n["anyOf"] = []any{map[string]any{"type": "integer"}, map[string]any{"type": "string"}}
		}
		_, properties := n["properties"].(map[string]any)
		if _, ok := n["additionalProperties"]; properties && !ok && n["x-kubernetes-preserve-unknown-fields"] != true {
			n["additionalProperties"] = false
		}
		for _, child := range n {
			closed(child)
		}
	}
}

// reachable collects the definitions that a node refers to, and those that they refer to.
func reachable(node any, all, into map[string]any) {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			reachable(child, all, into)
		}
	case map[string]any:
		for key, child := range n {
			name, ok := child.(string)
			if name, found := strings.CutPrefix(name, "#/definitions/"); key == "$ref" && ok && found {
				if _, seen := into[name]; !seen {
					into[name] = all[name]
					reachable(all[name], all, into)
				}
				continue
			}
			reachable(child, all, into)
		}
	}
}

// schemas writes a file for each kind, as kubeconform looks for them, and returns how many.
func schemas(t *testing.T, dir string) int {
	written := 0
	write := func(kind, group, version string, schema any) {
		name := strings.ToLower(kind)
		if group != "" {
			short, _, _ := strings.Cut(group, ".")
			name += "-" + short
		}
		text, err := json.Marshal(schema)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+"-"+version+".json"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		written++
	}
	var description struct{ Definitions map[string]any }
	read(t, &description, module(t, kubernetes), "api", "openapi-spec", "swagger.json")
	closed(description.Definitions)
	description.Definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = map[string]any{"type": []any{"string", "number"}}
	for name, definition := range description.Definitions {
		kinds, _ := definition.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // options of calls have all of them
			continue
		}
		used := map[string]any{name: definition}
		reachable(definition, description.Definitions, used)
		k := kinds[0].(map[string]any)
		write(k["kind"].(string), k["group"].(string), k["version"].(string), map[string]any{"$ref": "#/definitions/" + name, "definitions": used})
	}
	for _, file := range []string{
		filepath.Join(module(t, operator), "example", "prometheus-operator-crd", "monitoring.coreos.com_servicemonitors.yaml"),
		filepath.Join(module(t, operator), "example", "prometheus-operator-crd", "monitoring.coreos.com_prometheusrules.yaml"),
		filepath.Join(module(t, gateway), "config", "crd", "standard", "gateway.networking.k8s.io_httproutes.yaml"),
	} {
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		read(t, &crd, file)
		for _, v := range crd.Spec.Versions {
			closed(v.Schema.OpenAPIV3Schema)
			write(crd.Spec.Names.Kind, crd.Spec.Group, v.Name, v.Schema.OpenAPIV3Schema)
		}
	}
	return written
}

// TestKubeconform holds everything that the chart renders, custom resources included, against the published schemas.
func TestKubeconform(t *testing.T) {
	dir := t.TempDir()
	if n := schemas(t, dir); n < 100 {
		t.Fatalf("only %d schemas", n)
	}
	v, err := validator.New([]string{filepath.Join(dir, "{{.ResourceKind}}{{.KindSuffix}}.json")}, validator.Opts{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("..", "testdata", "*.golden.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	// The alerts are long, and in no golden file.
	helm := os.Getenv("HELM")
	if helm == "" {
		t.Skip("needs helm: make test/helm")
	}
	chart := filepath.Join("..", "changeover")
	alerts, err := exec.Command(helm, "template", "changeover", chart, "--values="+filepath.Join(chart, "examples", "us-east-1.yaml"), "--kube-version=1.33.0",
		"--set=metrics.prometheusRule.enabled=true", "--show-only=templates/prometheusrule.yaml").Output()
	if err != nil {
		t.Fatal(err)
	}
	valid := map[string]int{}
	for _, r := range v.Validate("alerts", io.NopCloser(strings.NewReader(string(alerts)))) {
		if r.Status != validator.Valid {
			t.Errorf("alerts: %v %v", r.Err, r.ValidationErrors)
		}
		valid["PrometheusRule"]++
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range v.Validate(file, io.NopCloser(strings.NewReader(string(text)))) {
			signature, _ := r.Resource.Signature()
			switch {
			case r.Status == validator.Valid:
				valid[signature.Kind]++
			case r.Status != validator.Empty:
				t.Errorf("%s: %s: %v %v", file, signature.QualifiedName(), r.Err, r.ValidationErrors)
			}
		}
		// It sees what is wrong.
		for _, wrong := range [][2]string{{"  minReadySeconds: 10", "  minReadySecond: 10"}, {"  minReadySeconds: 10", "  minReadySeconds: ten"}, {"      interval: ", "      intervall: "}} {
			invalid := 0
			for _, r := range v.Validate(file, io.NopCloser(strings.NewReader(strings.Replace(string(text), wrong[0], wrong[1], 1)))) {
				if r.Status == validator.Invalid {
					invalid++
				}
			}
			if invalid != 1 {
				t.Errorf("%s with %q: %d objects are invalid", file, wrong[1], invalid)
			}
		}
	}
	for _, kind := range []string{
		"Deployment", "Job", "Pod", "Service", "Ingress", "HTTPRoute", "NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ServiceAccount", "Secret",
		"ServiceMonitor", "PrometheusRule",
	} {
		if valid[kind] == 0 {
			t.Errorf("no %s was looked at", kind)
		}
	}
}
