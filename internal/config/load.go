package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// EnvPrefix begins the name of every environment variable that overrides a key.
const EnvPrefix = "CHANGEOVER_"

// maxFileSize is far above any real file and below what would take long to look at.
const maxFileSize = 1 << 20

// Fault is one thing that is wrong.
type Fault struct {
	Path    string // of the key, such as failoverGroups[0].instances[1].region; empty: the whole file
	Source  string // "line 12", or the environment variable; empty: nobody set it
	Message string // what is wrong and what is expected; never a secret
}

func (f Fault) String() string {
	s := f.Message
	if f.Path != "" {
		s = f.Path + ": " + s
	}
	if f.Source != "" {
		s += " (" + f.Source + ")"
	}
	return s
}

// Error holds every fault of a configuration: what cannot be read first, then what breaks a rule, each in the order of the keys.
type Error struct {
	File   string
	Faults []Fault
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "configuration %s:", e.File)
	for _, f := range e.Faults {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// Load reads the file at path, lays the environment ("NAME=value", as of [os.Environ]) over it and checks all of it. A faulty
// configuration gives an [*Error] with every fault.
func Load(path string, env []string) (*Config, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return parse(path, text, env)
}

func parse(path string, text []byte, env []string) (*Config, error) {
	l := loader{sources: map[string]string{}}
	c := Default()
	l.file(text, c)
	l.env(env, c)
	if !l.unreadable {
		l.validate(c)
	}
	if len(l.faults) > 0 {
		return nil, &Error{File: path, Faults: l.faults}
	}
	return c, nil
}

// loader collects faults, and where each key was set.
type loader struct {
	faults     []Fault
	sources    map[string]string // by key path
	unreadable bool              // the file is no YAML mapping; faults of single keys would only mislead
}

// fault notes the first fault of a key; a value of the wrong type is not told to be out of range as well.
func (l *loader) fault(path, format string, args ...any) {
	if slices.ContainsFunc(l.faults, func(f Fault) bool { return f.Path == path }) {
		return
	}
	l.faults = append(l.faults, Fault{Path: path, Source: l.sources[path], Message: fmt.Sprintf(format, args...)})
}

func (l *loader) file(text []byte, c *Config) {
	unreadable := func(format string, args ...any) {
		l.unreadable = true
		l.fault("", format, args...)
	}
	if len(text) > maxFileSize {
		unreadable("the file is larger than %d bytes", maxFileSize)
		return
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return // an empty file; what is required is missed below
	case err != nil:
		unreadable("%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		unreadable("more than one document; everything belongs into the first")
		return
	}
	root := resolve(doc.Content[0])
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return
	}
	if root.Kind != yaml.MappingNode {
		unreadable("expected keys and values, such as http: {listen: \"127.0.0.1:8080\"}")
		return
	}
	l.node(root, reflect.ValueOf(c).Elem(), "")
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// node sets v from n. Its depth is that of the structs, so a file cannot nest it without end.
func (l *loader) node(n *yaml.Node, v reflect.Value, path string) {
	if path != "" {
		l.sources[path] = "line " + strconv.Itoa(n.Line)
	}
	n = resolve(n)
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a key without a value is as good as none
	}
	switch {
	case v.Kind() == reflect.Struct:
		l.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			l.fault(path, "expected a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			if g, ok := v.Index(i).Addr().Interface().(*FailoverGroup); ok {
				g.Routing = Regional
			}
			l.node(item, v.Index(i), at)
		}
	case n.Kind != yaml.ScalarNode:
		l.fault(path, "expected %s", expected(v))
	case v.Type() == reflect.TypeFor[Secret]() && n.Tag != "!!str":
		l.fault(path, "is no text to YAML; put it in quotes")
	case v.Kind() == reflect.String && n.Tag != "!!str":
		l.fault(path, "%s is no text to YAML; put it in quotes", n.Value)
	case v.Kind() == reflect.Bool && n.Tag != "!!bool":
		l.fault(path, "%q is not %s", n.Value, expected(v))
	default:
		l.scalar(n.Value, v, path)
	}
}

func (l *loader) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		l.fault(path, "expected keys and values: %s", strings.Join(keys(v.Type()), ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		at := join(path, key)
		field := fieldOf(v, key)
		switch {
		case !field.IsValid():
			l.sources[at] = "line " + strconv.Itoa(n.Content[i].Line)
			l.fault(at, "unknown key; expected one of %s", strings.Join(keys(v.Type()), ", "))
		case seen[key]:
			l.sources[at] = "line " + strconv.Itoa(n.Content[i].Line)
			l.fault(at, "set twice")
		default:
			seen[key] = true
			l.node(n.Content[i+1], field, at)
		}
	}
}

// scalar sets v, which is neither struct nor list, from text.
func (l *loader) scalar(text string, v reflect.Value, path string) {
	var err error
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *Secret:
		*p = Secret(text)
	case *bool:
		*p, err = strconv.ParseBool(text)
	case *int:
		*p, err = strconv.Atoi(text)
	case *float64:
		*p, err = strconv.ParseFloat(text, 64)
	case *time.Duration:
		*p, err = time.ParseDuration(text)
	}
	if err != nil {
		l.fault(path, "%q is not %s", text, expected(v))
	}
}

func expected(v reflect.Value) string {
	switch v.Interface().(type) {
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case float64:
		return "a number"
	case time.Duration:
		return "a duration with a unit, such as 500ms, 10s, 5m or 24h"
	}
	return "text"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func keys(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		names = append(names, f.Tag.Get("yaml"))
	}
	return names
}

func fieldOf(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// notKeys are variables that begin with the prefix and belong to something else: where PostgreSQL's binaries are, what `server
// watch` reads, and what Kubernetes adds to every pod beside a Service whose name begins with "changeover".
var notKeys = regexp.MustCompile(`^CHANGEOVER_(PG_BIN|TOKEN|ENDPOINT|(.*_)?(SERVICE_(HOST|PORT(_.*)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?))$`)

// env lays the environment over c. A variable is the key's path in capitals, with an underscore between words and keys.
func (l *loader) env(env []string, c *Config) {
	type target struct {
		path  string
		value reflect.Value
	}
	targets := map[string]target{}
	root := reflect.ValueOf(c).Elem()
	for i := range root.NumField() {
		section := root.Type().Field(i).Tag.Get("yaml")
		if root.Field(i).Kind() != reflect.Struct {
			continue // failoverGroups: in the file only
		}
		eachKey(section, root.Field(i), func(path string, value reflect.Value) { targets[EnvName(path)] = target{path, value} })
	}
	env = slices.Clone(env)
	slices.Sort(env)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, EnvPrefix) || notKeys.MatchString(name) {
			continue
		}
		t, ok := targets[name]
		inFile := false
		if !ok {
			// A secret may be in a file that the variable names. The variable itself comes first in the order.
			t, inFile = targets[strings.TrimSuffix(name, fileSuffix)]
			if inFile = inFile && t.value.Type() == reflect.TypeFor[Secret](); !inFile {
				l.faults = append(l.faults, Fault{Path: name, Message: "no such key in the environment; docs/configuration.md lists them"})
				continue
			}
			if l.sources[t.path] == EnvName(t.path) {
				l.fault(t.path, "%s is set too; set one of the two", name)
				continue
			}
		}
		l.sources[t.path] = name
		// What the file said of it counts no more.
		l.faults = slices.DeleteFunc(l.faults, func(f Fault) bool { return f.Path == t.path || strings.HasPrefix(f.Path, t.path+"[") })
		if list, ok := t.value.Addr().Interface().(*[]string); ok {
			*list = nil
			for item := range strings.SplitSeq(value, ",") {
				if item = strings.TrimSpace(item); item != "" {
					l.sources[fmt.Sprintf("%s[%d]", t.path, len(*list))] = name
					*list = append(*list, item)
				}
			}
			continue
		}
		if inFile {
			var err error
			if value, err = secretFile(value); err != nil {
				l.fault(t.path, "%v", err)
				continue
			}
		}
		l.scalar(value, t.value, t.path)
	}
}

// eachKey calls visit for each key of a section, those of its sections among them.
func eachKey(section string, v reflect.Value, visit func(path string, value reflect.Value)) {
	for i := range v.NumField() {
		path := join(section, v.Type().Field(i).Tag.Get("yaml"))
		if v.Field(i).Kind() == reflect.Struct {
			eachKey(path, v.Field(i), visit)
			continue
		}
		visit(path, v.Field(i))
	}
}

// EnvName is the environment variable that overrides the key at path: database.migrateUrl is CHANGEOVER_DATABASE_MIGRATE_URL.
func EnvName(path string) string {
	var b strings.Builder
	b.WriteString(EnvPrefix)
	for _, r := range path {
		switch {
		case r == '.':
			b.WriteByte('_')
		case r >= 'A' && r <= 'Z':
			b.WriteByte('_')
			b.WriteRune(r)
		default:
			b.WriteString(strings.ToUpper(string(r)))
		}
	}
	return b.String()
}
