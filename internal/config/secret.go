package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"strings"
)

// Secret is a text that must not be seen: what prints, logs or marshals it gets what [Secret.Redacted] returns. Only a
// conversion to string gives it away.
type Secret string

// withheld stands for what is not shown.
const withheld = "xxxxx"

// Redacted is as much of the secret as an operator may see: of a PostgreSQL URL everything but passwords and parameters that
// could hold one; of anything else nothing. What names no secret is whole: nothing, and [Embedded].
func (s Secret) Redacted() string {
	if s == "" || s == Embedded {
		return string(s)
	}
	u, err := url.Parse(string(s))
	if err != nil || u.Opaque != "" || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return withheld
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.User != nil {
		shown.User = url.User(u.User.Username())
		if _, has := u.User.Password(); has {
			shown.User = url.UserPassword(u.User.Username(), withheld)
		}
	}
	query := u.Query()
	for name := range query {
		if !harmless[name] {
			query[name] = []string{withheld}
		}
	}
	shown.RawQuery = query.Encode()
	return shown.String()
}

// harmless are the parameters of a PostgreSQL URL that help an operator and hold no secret.
var harmless = map[string]bool{
	"host": true, "port": true, "user": true, "dbname": true, "sslmode": true, "sslrootcert": true, "target_session_attrs": true,
	"application_name": true, "connect_timeout": true, "pool_max_conns": true, "search_path": true,
}

// Format implements fmt.Formatter for all verbs, also within other values.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.Redacted()) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.Redacted()) }

// MarshalText implements encoding.TextMarshaler, and so JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.Redacted()), nil }

// LogValue implements slog.LogValuer: every key with its value, secrets redacted.
func (c *Config) LogValue() slog.Value { return logValue(reflect.ValueOf(*c)) }

// String is the same as text. Without it fmt would print a *Config within another value, under a verb that does not suit it, as
// it is in memory.
func (c *Config) String() string { return c.LogValue().String() }

func logValue(v reflect.Value) slog.Value {
	switch {
	case v.Kind() == reflect.Struct:
		var attrs []slog.Attr
		for i := range v.NumField() {
			attrs = append(attrs, slog.Attr{Key: v.Type().Field(i).Tag.Get("yaml"), Value: logValue(v.Field(i))})
		}
		return slog.GroupValue(attrs...)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		var attrs []slog.Attr
		for i := range v.Len() {
			attrs = append(attrs, slog.Attr{Key: fmt.Sprint(i), Value: logValue(v.Index(i))})
		}
		return slog.GroupValue(attrs...)
	}
	return slog.AnyValue(v.Interface())
}

// fileSuffix ends the name of a variable that names a file with the secret.
const fileSuffix = "_FILE"

// secretFile reads a secret as Docker and Kubernetes mount it. Line breaks at the end are not part of it. Errors tell nothing of
// what the file holds.
func secretFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileSize))
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	content = bytes.TrimRight(content, "\r\n")
	if len(content) == 0 {
		return "", errors.New("the file is empty")
	}
	if strings.ContainsAny(string(content), "\r\n\x00") {
		return "", errors.New("the file holds more than one line; expected nothing but the value")
	}
	return string(content), nil
}
