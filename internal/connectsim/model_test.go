package connectsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// This file is a small validator of Amazon's Smithy model (JSON AST) of Amazon Connect. It knows the part of Smithy
// that restJson1 answers and requests of the simulated operations need, and nothing of the simulator.

const namespace = "com.amazonaws.connect#"

// smithyModel is the model, read once.
type smithyModel struct {
	Shapes map[string]*shape `json:"shapes"`
}

type shape struct {
	Type    string             `json:"type"`
	Members map[string]*member `json:"members"`
	Member  *member            `json:"member"`
	Key     *member            `json:"key"`
	Value   *member            `json:"value"`
	Input   *member            `json:"input"`
	Output  *member            `json:"output"`
	Errors  []member           `json:"errors"`
	Traits  traits             `json:"traits"`
}

type member struct {
	Target string `json:"target"`
	Traits traits `json:"traits"`
}

type traits map[string]json.RawMessage

func (t traits) has(name string) bool { _, ok := t["smithy.api#"+name]; return ok }

// get decodes a trait, and says whether it is there.
func (t traits) get(name string, v any) bool {
	raw, ok := t["smithy.api#"+name]
	if !ok {
		return false
	}
	if err := json.Unmarshal(raw, v); err != nil {
		panic(fmt.Sprintf("trait %s: %v", name, err))
	}
	return true
}

type bounds struct{ Min, Max *float64 }

type httpTrait struct {
	Method, URI string
	Code        int
}

// modelPath is the file that CONNECT_MODEL names, or the one beside the repository; "" if there is none.
func modelPath() string {
	if p := os.Getenv("CONNECT_MODEL"); p != "" {
		return p
	}
	p := filepath.Join("..", "..", "..", "shared", "data", "connect-smithy.json")
	if _, err := os.Stat(p); err != nil {
		return ""
	}
	return p
}

var loadModel = sync.OnceValues(func() (*smithyModel, error) {
	path := modelPath()
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &smithyModel{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
})

func (m *smithyModel) shape(target string) *shape {
	s := m.Shapes[target]
	if s == nil {
		if prelude, ok := strings.CutPrefix(target, "smithy.api#"); ok {
			return &shape{Type: strings.ToLower(prelude)}
		}
		panic("no shape " + target)
	}
	return s
}

func (m *smithyModel) operation(name string) *shape { return m.shape(namespace + name) }

// newer lists the members that the simulator sends although the model does not have them: they came with later SDKs.
var newer = map[string]bool{
	"Contact.GlobalResiliencyMetadata": true, // aws-sdk-go-v2/service/connect v1.175.2
}

// validate checks a JSON value (decoded with UseNumber) against a shape and returns everything that is wrong.
func (m *smithyModel) validate(path, target string, tr traits, v any) (wrong []string) {
	s := m.shape(target)
	bad := func(format string, args ...any) {
		wrong = append(wrong, path+": "+fmt.Sprintf(format, args...))
	}
	if v == nil {
		bad("null")
		return wrong
	}
	trait := func(name string, into any) bool { return tr.get(name, into) || s.Traits.get(name, into) }
	inRange := func(n float64) {
		var b bounds
		if trait("range", &b) && (b.Min != nil && n < *b.Min || b.Max != nil && n > *b.Max) {
			bad("%v is out of range", n)
		}
	}
	inLength := func(n int) {
		var b bounds
		if trait("length", &b) && (b.Min != nil && float64(n) < *b.Min || b.Max != nil && float64(n) > *b.Max) {
			bad("length %d is out of range", n)
		}
	}
	switch s.Type {
	case "structure", "union":
		obj, ok := v.(map[string]any)
		if !ok {
			bad("expected a structure, got %T", v)
			return wrong
		}
		name := strings.TrimPrefix(target, namespace)
		for k, mv := range obj {
			mem := s.Members[k]
			if mem == nil {
				if !newer[name+"."+k] {
					bad("%s has no member %s", name, k)
				}
				continue
			}
			if mem.Traits.has("httpLabel") || mem.Traits.has("httpQuery") || mem.Traits.has("httpHeader") {
				bad("%s does not belong into the body", k)
			}
			wrong = append(wrong, m.validate(path+"."+k, mem.Target, mem.Traits, mv)...)
		}
		for k, mem := range s.Members {
			if _, ok := obj[k]; !ok && mem.Traits.has("required") && !mem.Traits.has("httpLabel") && !mem.Traits.has("httpQuery") {
				bad("required member %s is missing", k)
			}
		}
		if s.Type == "union" && len(obj) != 1 {
			bad("a union has one member, got %d", len(obj))
		}
	case "list":
		list, ok := v.([]any)
		if !ok {
			bad("expected a list, got %T", v)
			return wrong
		}
		inLength(len(list))
		for i, it := range list {
			wrong = append(wrong, m.validate(fmt.Sprintf("%s[%d]", path, i), s.Member.Target, s.Member.Traits, it)...)
		}
	case "map":
		obj, ok := v.(map[string]any)
		if !ok {
			bad("expected a map, got %T", v)
			return wrong
		}
		inLength(len(obj))
		for k, mv := range obj {
			wrong = append(wrong, m.validate(path+"{key}", s.Key.Target, s.Key.Traits, k)...)
			wrong = append(wrong, m.validate(path+"{"+k+"}", s.Value.Target, s.Value.Traits, mv)...)
		}
	case "string", "enum":
		text, ok := v.(string)
		if !ok {
			bad("expected a string, got %T", v)
			return wrong
		}
		inLength(utf8.RuneCountInString(text))
		var pattern string
		if trait("pattern", &pattern) && !matchesPattern(pattern, text) {
			bad("%q does not match %s", text, pattern)
		}
		if s.Type == "enum" && !slices.Contains(m.enum(s), text) {
			bad("%q is none of %v", text, m.enum(s))
		}
	case "integer", "long", "short", "byte":
		n, ok := v.(json.Number)
		i, err := strconv.ParseInt(string(n), 10, 64)
		if !ok || err != nil || s.Type == "integer" && i != int64(int32(i)) {
			bad("expected an %s, got %T %v", s.Type, v, v)
			return wrong
		}
		inRange(float64(i))
	case "float", "double", "timestamp": // restJson1 sends a timestamp as seconds since 1970
		n, ok := v.(json.Number)
		if !ok {
			bad("expected a number, got %T %v", v, v)
			return wrong
		}
		if f, err := n.Float64(); err != nil {
			bad("%v", err)
		} else {
			inRange(f)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			bad("expected a boolean, got %T", v)
		}
	default:
		bad("the validator does not know shapes of type %s", s.Type)
	}
	return wrong
}

func (m *smithyModel) enum(s *shape) (values []string) {
	for _, mem := range s.Members {
		var v string
		mem.Traits.get("enumValue", &v)
		values = append(values, v)
	}
	sort.Strings(values)
	return values
}

var lookahead = regexp.MustCompile(`\(\?!([^)]*)\)`)

// matchesPattern matches a pattern of the model. Go's regular expressions have no look-ahead; the only ones in the model
// stand at the beginning and forbid a prefix.
func matchesPattern(pattern, text string) bool {
	if l := lookahead.FindStringSubmatch(pattern); l != nil {
		if regexp.MustCompile("^" + l[1]).MatchString(text) {
			return false
		}
		pattern = lookahead.ReplaceAllString(pattern, "")
	}
	return regexp.MustCompile(pattern).MatchString(text)
}

// commonErrors are those that any operation may answer although it does not list them: the "common errors" of the API
// reference and of restJson1, with their status.
var commonErrors = map[string]int{
	"AccessDeniedException":    http.StatusForbidden,
	"ThrottlingException":      http.StatusTooManyRequests,
	"TooManyRequestsException": http.StatusTooManyRequests,
	"SerializationException":   http.StatusBadRequest,
}

// checkAnswer holds an answer to the model.
func (m *smithyModel) checkAnswer(operation string, status int, header http.Header, body []byte) (wrong []string) {
	op := m.operation(operation)
	if got := header.Get("Content-Type"); got != "application/json" {
		wrong = append(wrong, "content type "+got)
	}
	if header.Get("x-amzn-RequestId") == "" {
		wrong = append(wrong, "no x-amzn-RequestId")
	}
	value, err := decodeNumbers(body)
	if err != nil {
		return append(wrong, err.Error())
	}
	typ := header.Get("x-amzn-ErrorType")
	if typ == "" {
		var h httpTrait
		op.Traits.get("http", &h)
		if status != h.Code {
			wrong = append(wrong, fmt.Sprintf("status %d, the model says %d", status, h.Code))
		}
		return append(wrong, m.validate(operation, op.Output.Target, nil, value)...)
	}
	target := namespace + typ
	listed := slices.ContainsFunc(op.Errors, func(e member) bool { return e.Target == target })
	want, common := commonErrors[typ]
	if listed {
		var code int
		m.shape(target).Traits.get("httpError", &code)
		if common && code != want {
			wrong = append(wrong, fmt.Sprintf("the common error %s has status %d in the model", typ, code))
		}
		want = code
	} else if !common {
		wrong = append(wrong, operation+" has no error "+typ)
	}
	if status != want {
		wrong = append(wrong, fmt.Sprintf("%s with status %d instead of %d", typ, status, want))
	}
	if m.Shapes[target] != nil {
		wrong = append(wrong, m.validate(typ, target, nil, value)...)
	}
	if o, _ := value.(map[string]any); o["Message"] == nil {
		wrong = append(wrong, typ+" without a Message")
	}
	return wrong
}

// checkRequest holds a request that the simulator answered with success to the model: what it accepts, Amazon Connect
// must accept.
func (m *smithyModel) checkRequest(r *request) (wrong []string) {
	op := m.operation(r.op.name)
	in := m.shape(op.Input.Target)
	var h httpTrait
	op.Traits.get("http", &h)
	if h.Method != r.op.method || len(strings.Split(strings.TrimPrefix(h.URI, "/"), "/")) != len(r.op.segments) {
		wrong = append(wrong, fmt.Sprintf("%s %v is %s %s in the model", r.op.method, r.op.segments, h.Method, h.URI))
	}
	body := map[string]any{}
	if len(r.body) > 0 {
		v, err := decodeNumbers(r.body)
		if err != nil {
			return append(wrong, err.Error())
		}
		body, _ = v.(map[string]any)
	}
	hasBody := false
	known := map[string]bool{}
	for name, mem := range in.Members {
		var query string
		switch {
		case mem.Traits.get("httpQuery", &query):
			known[query] = true
			if r.query.Has(query) {
				wrong = append(wrong, m.validate(r.op.name+"?"+query, mem.Target, mem.Traits, m.queryValue(mem.Target, r.query.Get(query)))...)
			} else if mem.Traits.has("required") {
				wrong = append(wrong, "required parameter "+query+" is missing")
			}
		case mem.Traits.has("httpLabel"):
			label := r.label[name]
			if name == "TrafficDistributionGroupId" {
				label = r.label["Id"] // the simulator's name for both
			}
			wrong = append(wrong, m.validate(r.op.name+"/"+name, mem.Target, mem.Traits, label)...)
		default:
			hasBody = true
		}
	}
	for q := range r.query {
		if !known[q] {
			wrong = append(wrong, "unknown parameter "+q)
		}
	}
	if hasBody {
		wrong = append(wrong, m.validate(r.op.name, op.Input.Target, nil, body)...)
	}
	return wrong
}

// queryValue is a query parameter as JSON would hold it.
func (m *smithyModel) queryValue(target, text string) any {
	switch m.shape(target).Type {
	case "integer", "long":
		return json.Number(text)
	case "boolean":
		return text == "true"
	}
	return text
}

func decodeNumbers(b []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w in %.200q", err, b)
	}
	if d.More() {
		return nil, fmt.Errorf("more than one value in %.200q", b)
	}
	return v, nil
}

// notMeantValid are the faults whose answers are not Amazon Connect's.
var notMeantValid = []Fault{FaultUnavailable, FaultThrottledBare, FaultTruncated, FaultNullList, FaultUnknownMembers}

// answerKinds collects what was answered, as "operation success" or "operation ErrorType".
type answerKinds struct {
	mu   sync.Mutex
	seen map[string]int
}

func (k *answerKinds) add(kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seen == nil {
		k.seen = map[string]int{}
	}
	k.seen[kind]++
}

// newChecked makes a simulator of which every answer in a test is held to Amazon's model, if there is one. All tests
// of this package use it.
func newChecked(t testing.TB, c Config) *Sim {
	s, _ := newCounted(t, c)
	return s
}

func newCounted(t testing.TB, c Config) (*Sim, *answerKinds) {
	t.Helper()
	s := New(c)
	kinds := &answerKinds{}
	m, err := loadModel()
	if err != nil {
		t.Fatal(err)
	}
	s.observe = func(r *request, rep reply) {
		if rep.abort != answered {
			return
		}
		kind := rep.errTyp
		if kind == "" {
			kind = "success"
		}
		if slices.Contains(notMeantValid, r.fault) || rep.header.Get("Content-Type") == "text/html" {
			kinds.add(r.op.name + " spoilt")
			return
		}
		kinds.add(r.op.name + " " + kind)
		if m == nil {
			return
		}
		for _, w := range m.checkAnswer(r.op.name, rep.status, rep.header, rep.body) {
			t.Errorf("answer to %s in %s (%s): %s\n%.600s", r.op.name, s.cfg.Regions[r.region], kind, w, rep.body)
		}
		if kind == "success" {
			for _, w := range m.checkRequest(r) {
				t.Errorf("accepted request of %s: %s\n%s %.600s", r.op.name, w, r.query.Encode(), r.body)
			}
		}
	}
	return s, kinds
}
